"""HAProxy's agent-check as text: one line, by which a server says how it is. Pure.

The configuration manual of HAProxy 2.6, 5.2 (agent-check), and what its parser does where that is silent
(``tcpcheck_agent_expect_reply()`` in src/tcpcheck.c): words separated by spaces, tabs or commas, in any
order and in either case; of two of a kind the last counts; after ``#`` comes a description. What the line
does not say stays as it was, and a percentage that is too large is the largest. Stricter than HAProxy: an
unknown word refuses the line, since nobody knows what else of it is not meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from l4lb.agent.report import Administrative, Operating, Report

LONGEST: Final = 1_024
"""Bytes that a line may have, its end included."""

_PERCENTAGE: Final = re.compile(r"([0-9]+)%")
_MAXCONN: Final = re.compile(r"maxconn:([0-9]{1,10})")
_LARGEST_PERCENTAGE: Final = 25_600  # 256 (SRV_UWGHT_MAX) times a weight of 1
_SHOWN: Final = 40  # characters of a word that is not known

_OPERATING: Final = {one.label: one for one in Operating} | {"failed": Operating.FAIL}
_ADMINISTRATIVE: Final = {one.label: one for one in Administrative}


class BadLine(ValueError):
    """A line that is not of this protocol. The message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says; None is what it does not say."""

    administrative: Administrative | None = None
    operating: Operating | None = None
    percentage: int | None = None  # of the weight in the config; 0 drains
    description: str = ""

    def applied_to(self, before: Report) -> Report:
        """The report after this line: what it does not say stays."""
        administrative, operating = self.administrative, self.operating
        return replace(
            before,
            administrative=before.administrative if administrative is None else administrative,
            operating=before.operating if operating is None else operating,
            weight=before.weight if self.percentage is None else self.percentage / 100,
            # A description belongs to the operating state that it came with.
            note=before.note if operating is None else self.description,
        )


def parse(data: bytes) -> Line:
    """Read the line that an agent sent; what follows its end is not looked at.

    Raises:
        BadLine: it has no end, is too long, is empty or has a word that the manual does not know.
    """
    end = re.search(rb"[\r\n]", data[:LONGEST])
    if end is None:
        short = len(data) < LONGEST
        raise BadLine("the line has no end" if short else f"no end of the line within {LONGEST} bytes")
    try:
        text = data[: end.start()].decode()
    except UnicodeDecodeError:
        raise BadLine("not text") from None
    words, _, description = text.partition("#")
    line = Line(description="".join(each if each.isprintable() else "?" for each in description.strip()))
    for word in re.split(r"[ \t,]+", words):
        if word:
            line = _with(line, word)
    if line == Line(description=line.description):
        raise BadLine("the line says nothing")
    return line


def _with(line: Line, word: str) -> Line:
    """The line with one more word; of a kind, the last one counts."""
    lower = word.lower()
    if (operating := _OPERATING.get(lower)) is not None:
        return replace(line, operating=operating)
    if (administrative := _ADMINISTRATIVE.get(lower)) is not None:
        return replace(line, administrative=administrative)
    if match := _PERCENTAGE.fullmatch(lower):
        return replace(line, percentage=min(int(match[1]), _LARGEST_PERCENTAGE))
    if _MAXCONN.fullmatch(lower):  # how many connections HAProxy may open: l4lb opens none
        return line
    raise BadLine(f"{word[:_SHOWN]!r} is not a word of agent-check")


def write(report: Report) -> bytes:
    """The line for a report, both states and the weight always in it.

    Always, because HAProxy keeps what a line leaves out: a server that an agent has drained stays so,
    also over a restart of the agent, until it says ``ready``.
    """
    words = [report.operating.label, report.administrative.label]
    if report.weight is not None:
        words.append(f"{round(100 * report.weight)}%")
    if report.note and report.operating is not Operating.UP:
        words.append(f"# {report.note}")
    # Of a line that is too long not even the states are read. What is cut may be half a character.
    return " ".join(words).encode()[: LONGEST - 1].decode(errors="ignore").encode() + b"\n"

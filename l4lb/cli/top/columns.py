"""The columns of ``l4lb top``: what is in them, how they sort, which of them fit. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from l4lb.cli.output import duration, printable, quantity, seconds
from l4lb.cli.top.figures import Group, Row
from l4lb.model import Endpoint

_STATES = ("down", "unknown", "drain", "up")
"""Who needs attention comes first."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Without a ``value`` a row shows "-" and comes last, however it is sorted."""

    name: str
    title: str
    value: Callable[[Row], Any]
    shown: Callable[[Any], str]
    width: int  # at least, so that figures that change move nothing
    descending: bool = True  # sorted so, unless reversed; else a text


def _text(value: Any) -> str:
    return printable(str(value))


def _endpoint(row: Row) -> tuple[int, bytes, int]:
    """By number, not by text."""
    endpoint = Endpoint.parse(row.target[1])
    return len(endpoint.ip), endpoint.ip, endpoint.port


def _address(value: tuple[int, bytes, int]) -> str:
    return str(Endpoint(value[1], value[2]))


BACKEND = Column("backend", "BACKEND", _endpoint, _address, 16, descending=False)
STATE = Column(
    "state",
    "STATE",
    lambda row: (_STATES.index(row.state) if row.state in _STATES else -1, row.state),
    lambda value: _text(value[1]),
    7,
    descending=False,
)
NOTE_TITLE = "REASON"
_LEAST_NOTE = 16  # columns of the terminal; less says nothing

COLUMNS = (
    BACKEND,
    STATE,
    Column("weight", "WEIGHT", lambda row: row.weight, str, 6),
    Column("for", "FOR", lambda row: row.since, duration, 5),
    Column("share", "SHARE", lambda row: row.share, lambda share: f"{share:.0%}", 5),
    Column("new", "NEW/S", lambda row: row.connections, quantity, 5),
    Column("requests", "REQ/S", lambda row: row.answers, quantity, 5),
    Column("p50", "P50", lambda row: row.median, seconds, 5),
    Column("p99", "P99", lambda row: row.p99, seconds, 5),
    Column("wait", "WAIT", lambda row: row.waiting, str, 4),
    Column("active", "ACTIVE", lambda row: row.active, str, 6),
    Column("in", "IN", lambda row: row.bits_in, quantity, 4),
    Column("out", "OUT", lambda row: row.bits_out, quantity, 4),
)
NAMED = {column.name: column for column in COLUMNS}

_KEPT = ("new", "p99", "wait", "requests", "share", "active", "out", "in", "p50", "", "weight", "for")
"""After the backend, its state and what is sorted by, from what is left out last to what goes first;
"" are the notes."""


def cell(column: Column, row: Row) -> str:
    """What a row shows in a column; nothing that a service has not."""
    value = column.value(row)
    if value is None:
        return "" if row.weight is None and column.name in ("weight", "for", "share") else "-"
    return column.shown(value)


def ordered(groups: Sequence[Group], sort: str, *, reverse: bool) -> list[Group]:
    """The services as they are, the backends of each sorted by a column, those alike by address."""
    column = NAMED[sort]

    def in_order(rows: Sequence[Row]) -> tuple[Row, ...]:
        by_address = sorted(rows, key=_endpoint)
        known = [row for row in by_address if column.value(row) is not None]
        known.sort(key=column.value, reverse=column.descending != reverse)
        return (*known, *(row for row in by_address if column.value(row) is None))

    return [Group(group.title, group.total, in_order(group.backends)) for group in groups]


@dataclass(frozen=True, slots=True)
class Layout:
    """What fits a terminal: columns and their widths, the spaces between them, the notes' width."""

    columns: tuple[tuple[Column, int], ...]
    gap: int
    note: int  # 0: no room


def layout(groups: Sequence[Group], sort: str, width: int) -> Layout:
    """Columns for a terminal of this width. The more important ones are kept; where nothing else fits,
    the addresses are cut."""
    rows = [row for group in groups for row in (group.total, *group.backends)]
    noted = any(row.note for row in rows)
    first = min(_first_width(groups, width), width)
    kept, left = {BACKEND.name: first}, width - first
    for name in dict.fromkeys((STATE.name, sort, *_KEPT)):
        if name in kept:
            continue
        if name == "":
            left -= (1 + _LEAST_NOTE) * (noted and left > _LEAST_NOTE)
            continue
        column = NAMED[name]
        needed = max(column.width, len(column.title), *(len(cell(column, row)) for row in rows), 0)
        if needed + 1 > left:
            break
        kept[name] = needed
        left -= needed + 1
    return _spread(kept, width, noted=noted)


def _first_width(groups: Sequence[Group], width: int) -> int:
    """Of the backends: as much as they need; the services' titles get two fifths of the terminal."""
    backends = max((2 + len(cell(BACKEND, row)) for group in groups for row in group.backends), default=0)
    titles = max((len(printable(group.title)) for group in groups), default=0)
    needed = max(backends, min(titles, 2 * width // 5), BACKEND.width)
    # The state is seen in any case.
    return max(8, min(needed, width - STATE.width - 1))


def _spread(kept: dict[str, int], width: int, *, noted: bool) -> Layout:
    used = sum(kept.values()) + len(kept) - 1
    gap = 1
    if used + len(kept) - 1 + noted * (2 + _LEAST_NOTE) <= width:
        gap, used = 2, used + len(kept) - 1
    note = width - used - gap
    columns = tuple((column, kept[column.name]) for column in COLUMNS if column.name in kept)
    return Layout(columns, gap, note if noted and note >= _LEAST_NOTE else 0)

"""Where everything stands in a TOML text: to point at errors, and to edit without touching the rest.

``tomllib`` gives values without places, and ``tomlkit`` does not give places either. This walks a
text that ``tomllib`` has already accepted, so what TOML forbids is not looked for. Pure.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

KeyPath = tuple[str | int, ...]
"""Keys and array indices from the top of the document: ``("services", 0, "address")``."""


class Span(NamedTuple):
    """Offsets of a key (or array element, or header), of its value, and of the value's end."""

    start: int
    value: int
    end: int


@dataclass(slots=True)
class Section:
    """A ``[header]`` or ``[[header]]`` and the pairs below it, to the end of the last value."""

    path: KeyPath
    start: int
    header_end: int
    end: int


@dataclass(slots=True)
class Layout:
    """The places in a text. A table that is only implied stands where it is first named."""

    spans: dict[KeyPath, Span] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)


_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
# The closing three quotes may follow up to two that belong to the string.
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")  # a date may have a space inside


def layout(text: str) -> Layout:
    """The places of every table, key and array element of a valid TOML text.

    Raises:
        ValueError: the text is not what ``tomllib`` accepts.
    """
    return _Scan(text).document()


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """A place as people and editors count: both from 1, columns in characters."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class _Scan:
    """One walk over a text; ``at`` is the offset of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found = Layout()
        self.tables_in: dict[KeyPath, int] = {}  # arrays of tables -> how many so far

    def document(self) -> Layout:
        """Walk the whole text."""
        section: Section | None = None
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                section = self.header()
                self.found.sections.append(section)
            else:
                self.pair(section.path if section else ())
                if section:
                    section.end = self.at
            self.skip(_BLANK)
        return self.found

    def header(self) -> Section:
        """``[a.b]`` or ``[[a.b]]``."""
        start = self.at
        brackets = 2 if self.text.startswith("[[", start) else 1
        self.at += brackets
        self.skip(_SPACE)
        keys = self.key()
        self.at += brackets
        path: KeyPath = ()
        here = Span(start, start, self.at)
        for depth, key in enumerate(keys, 1):
            path = (*path, key)
            self.found.spans.setdefault(path, here)
            if brackets == 2 and depth == len(keys):
                self.tables_in[path] = self.tables_in.get(path, 0) + 1
            if path in self.tables_in:
                path = (*path, self.tables_in[path] - 1)
                self.found.spans.setdefault(path, here)
        return Section(path, start, self.at, self.at)

    def pair(self, table: KeyPath) -> None:
        """``key = value`` inside ``table``."""
        start = self.at
        keys = self.key()
        self.at += 1  # the equals sign
        self.skip(_SPACE)
        value = self.at
        self.value((*table, *keys))
        for depth in range(1, len(keys) + 1):
            self.found.spans.setdefault((*table, *keys[:depth]), Span(start, value, self.at))

    def key(self) -> list[str]:
        """The parts of a key, dotted or not. Ends after trailing space."""
        keys = []
        while True:
            if self.text[self.at] in "\"'":
                quoted = self.skip(_STRING)
                keys.append(tomllib.loads(f"key = {quoted}")["key"])
            else:
                keys.append(self.skip(_BARE_KEY))
            self.skip(_SPACE)
            if self.text[self.at] != ".":
                return keys
            self.at += 1
            self.skip(_SPACE)

    def value(self, path: KeyPath) -> None:
        """Any value; notes the places inside arrays and inline tables."""
        opening = self.text[self.at]
        if opening in "\"'":
            self.skip(_STRING)
        elif opening in "[{":
            closing = "]" if opening == "[" else "}"
            self.at += 1
            self.skip(_BLANK)
            index = 0
            while self.text[self.at] != closing:
                if opening == "{":
                    self.pair(path)
                else:
                    start = self.at
                    self.value((*path, index))
                    self.found.spans[(*path, index)] = Span(start, start, self.at)
                    index += 1
                self.skip(_BLANK)
                if self.text[self.at] == ",":
                    self.at += 1
                    self.skip(_BLANK)
            self.at += 1
        else:
            self.skip(_SCALAR)

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Step over what matches here and return it."""
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not TOML at character {self.at}")
        self.at = match.end()
        return match.group()

"""Where in a TOML text each key stands, so that an error can point at it. Pure.

``tomllib`` gives values without places. This walks a text that ``tomllib`` has already accepted and
notes the place of every key and array element; what TOML forbids is therefore not looked for. Run
it only when there is something to report.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final, NamedTuple

KeyPath = tuple[str | int, ...]
"""Keys and array indices from the top of the document: ``("services", 0, "address")``."""


class Position(NamedTuple):
    """A place in a text; both count from 1, columns in characters."""

    line: int
    column: int


class Problem(NamedTuple):
    """Something wrong at a place in the document."""

    path: KeyPath
    message: str


_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
# A closing run of three quotes may be preceded by up to two that belong to the string.
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")


def key_positions(text: str) -> dict[KeyPath, Position]:
    """The place of every table, key and array element of a valid TOML text.

    A table that is only implied (``a`` in ``[a.b]``) stands where it is first named.

    Raises:
        ValueError: the text is not what ``tomllib`` accepts.
    """
    return _Scan(text).document()


class _Scan:
    """One walk over a text; ``at`` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[KeyPath, Position] = {}
        self.tables_in: dict[KeyPath, int] = {}  # arrays of tables -> how many so far
        self.line = 1
        self.line_at = 0  # where ``line`` begins
        self.counted = 0  # newlines before this index are in ``line``

    def document(self) -> dict[KeyPath, Position]:
        """Walk the whole text."""
        table: KeyPath = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self.header(brackets=2)
            elif self.text[self.at] == "[":
                table = self.header(brackets=1)
            else:
                self.pair(table)
            self.skip(_BLANK)
        return self.found

    def header(self, brackets: int) -> KeyPath:
        """``[a.b]`` or ``[[a.b]]``: the path of the table that begins here."""
        self.at += brackets
        start, keys = self.key()
        self.at += brackets
        path: KeyPath = ()
        for depth, key in enumerate(keys, 1):
            path = (*path, key)
            self.found.setdefault(path, start)
            if brackets == 2 and depth == len(keys):
                self.tables_in[path] = self.tables_in.get(path, 0) + 1
            if path in self.tables_in:
                path = (*path, self.tables_in[path] - 1)
                self.found.setdefault(path, start)
        return path

    def pair(self, table: KeyPath) -> None:
        """``key = value`` inside ``table``."""
        start, keys = self.key()
        self.at += 1  # the equals sign
        self.skip(_SPACE)
        path = table
        for key in keys:
            path = (*path, key)
            self.found.setdefault(path, start)
        self.value(path)

    def key(self) -> tuple[Position, list[str]]:
        """A key, dotted or not: where it starts and its parts. Ends after trailing space."""
        self.skip(_SPACE)
        start = self.position()
        keys = []
        while True:
            if self.text[self.at : self.at + 1] in ('"', "'"):
                quoted = self.skip(_STRING)
                keys.append(tomllib.loads(f"key = {quoted}")["key"])
            else:
                keys.append(self.skip(_BARE_KEY))
            self.skip(_SPACE)
            if self.text[self.at : self.at + 1] != ".":
                return start, keys
            self.at += 1
            self.skip(_SPACE)

    def value(self, path: KeyPath) -> None:
        """Any value; notes the places inside arrays and inline tables."""
        opening = self.text[self.at : self.at + 1]
        if opening in ('"', "'"):
            self.skip(_STRING)
        elif opening and opening in "[{":
            closing = "]" if opening == "[" else "}"
            self.at += 1
            self.skip(_BLANK)
            index = 0
            while self.text[self.at] != closing:
                if opening == "{":
                    self.pair(path)
                else:
                    self.found[(*path, index)] = self.position()
                    self.value((*path, index))
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

    def position(self) -> Position:
        """The place of the next character."""
        newlines = self.text.count("\n", self.counted, self.at)
        if newlines:
            self.line += newlines
            self.line_at = self.text.rindex("\n", self.counted, self.at) + 1
        self.counted = self.at
        return Position(self.line, self.at - self.line_at + 1)

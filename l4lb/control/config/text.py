"""Changes to tables inside a TOML text that leave every other character as it was. Pure.

The text is cut and spliced at the places ``config_layout`` finds, so what is not meant cannot
change. Rewriting it through tomlkit's document was tried first: with ``[[a.b]]`` it puts a new
table below the comments of the next one, drops those comments on removal, and does not give back
a text in which ``[[a.b]]`` and ``[a.c]`` alternate. tomlkit only writes single values here.

A comment belongs to the table below it if it stands directly above the header; otherwise to what
it follows without a blank line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import tomlkit

from l4lb.control.config.layout import KeyPath, Section, Span, layout

_COMMENTS_BELOW: Final = re.compile(r"(?:[ \t]*#[^\n]*(?:\n|\Z))+(?=[ \t]*\r?(?:\n|\Z))")
_COMMENTS_ABOVE: Final = re.compile(r"(?:^[ \t]*#[^\n]*\n)+\Z", re.MULTILINE)
_BLANKS_ABOVE: Final = re.compile(r"(?:^[ \t]*\r?\n)+\Z", re.MULTILINE)
_BLANK_LINES: Final = re.compile(r"(?:[ \t]*\r?\n)+")
_COMMA: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*,")


class TomlText:
    """A TOML text, what it says, and where. Each method returns the changed text.

    Raises (from the constructor):
        tomllib.TOMLDecodeError: the text is not TOML.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.data: dict[str, Any] = tomllib.loads(text)
        self.places = layout(text)
        self.newline = "\r\n" if "\r\n" in text else "\n"

    def append(self, array: KeyPath, fields: Mapping[str, object]) -> str:
        """Add a table at the end of an array of tables, written as its neighbours are.

        Raises:
            ValueError: a field has no form in TOML.
        """
        parent = self._sections(array[:-1])
        if neighbours := self._sections(array):
            last = max(int(section.path[len(array)]) for section in neighbours)
            return self._insert_tables(self._sections((*array, last))[-1].end, array, fields)
        if array in self.places.spans:
            return self._append_element(array, fields)
        if parent or len(array) == 1:
            return self._insert_tables(parent[-1].end if parent else len(self.text), array, fields)
        end = max(span.end for path, span in self.places.spans.items() if path[:-1] == array[:-1])
        return self._splice((end, end, f", {_key(array[-1])} = [{_inline(fields)}]"))

    def remove(self, table: KeyPath) -> str:
        """Remove one table of an array of tables with the comments that belong to it."""
        cuts = [self._cut_of(first, last) for first, last in self._runs(table)]
        return self._splice(*cuts) if cuts else self._remove_element(table)

    def set(self, table: KeyPath, key: str, value: object) -> str:
        """Give a key of a table that stands in an array of tables a new value.

        Raises:
            ValueError: the value has no form in TOML.
        """
        span = self.places.spans.get((*table, key))
        if span:
            return self._splice((span.value, span.end, _inline(value)))
        assignment = self._assignment(table, key) + _inline(value)
        if sections := self._sections(table):
            at, start = self._line_end(sections[0].end)
            return self._splice((at, at, start + self._indent(sections[0]) + assignment + self.newline))
        end = max(span.end for path, span in self.places.spans.items() if path[:-1] == table)
        return self._splice((end, end, f", {assignment}"))

    # Tables with headers

    def _sections(self, path: KeyPath) -> list[Section]:
        """All sections at or below a path, in the order of the text; none for the document itself."""
        return [s for s in self.places.sections if path and s.path[: len(path)] == path]

    def _runs(self, path: KeyPath) -> Iterator[tuple[Section, Section]]:
        """First and last of each run of adjacent sections at or below a path."""
        run: list[Section] = []
        for section in self.places.sections:
            if section.path[: len(path)] == path:
                run.append(section)
            elif run:
                yield run[0], run[-1]
                run = []
        if run:
            yield run[0], run[-1]

    def _cut_of(self, first: Section, last: Section) -> tuple[int, int, str]:
        start = self._line_start(first.start)
        comments = _COMMENTS_ABOVE.search(self.text, 0, start)
        if comments and comments.start() > 0:  # at the very top it is about the file
            start = comments.start()
        end = self._close(last.end)
        gap = _BLANK_LINES.match(self.text, end)
        if start == 0 and gap:
            end = gap.end()
        elif (gap or end == len(self.text)) and (blanks := _BLANKS_ABOVE.search(self.text, 0, start)):
            start = blanks.start()
        return start, end, ""

    def _insert_tables(self, after: int, array: KeyPath, fields: Mapping[str, object]) -> str:
        """Put a new table below the section that ends at ``after``."""
        at = self._close(after)
        lines = list(self._table_lines(tuple(k for k in array if isinstance(k, str)), fields, "[[", "]]"))
        if not self.text[:at].strip() or (lines[0] == "" and _BLANKS_ABOVE.search(self.text, 0, at)):
            del lines[0]
        if at < len(self.text) and lines[0] == "" and not _BLANK_LINES.match(self.text, at):
            lines.append("")
        start = self.newline if at and self.text[at - 1] != "\n" else ""
        return self._splice((at, at, start + "".join(line + self.newline for line in lines)))

    def _table_lines(
        self, keys: tuple[str, ...], fields: Mapping[str, object], opening: str, closing: str
    ) -> Iterator[str]:
        """A table with all below it, in the style of the last one of its kind."""
        model = next((s for s in reversed(self.places.sections) if _names(s.path) == keys), None)
        if model is None or self._blank_above(self._line_start(model.start)):
            yield ""
        margin = self._margin(model.start) if model else ""
        header = self.text[model.start : model.header_end] if model else None
        yield margin + (header or f"{opening}{'.'.join(map(_key, keys))}{closing}")
        indent = self._indent(model) if model else ""
        below: list[tuple[str, Mapping[str, object], str, str]] = []
        for key, value in fields.items():
            if isinstance(value, Mapping):
                below.append((key, value, "[", "]"))
            elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
                below += [(key, item, "[[", "]]") for item in value]
            else:
                yield indent + self._assignment(model.path if model else (), key) + _inline(value)
        for key, table, left, right in below:
            yield from self._table_lines((*keys, key), table, left, right)

    def _indent(self, section: Section) -> str:
        """What stands before the keys of a section."""
        keys = [
            span.start
            for path, span in self.places.spans.items()
            if path[:-1] == section.path and section.start < span.start < section.end
        ]
        return self._margin(min(keys, default=section.start))

    def _assignment(self, model: KeyPath, key: str) -> str:
        """``key = `` as the table ``model`` writes it, in a column if it aligns its values."""
        for path, span in self.places.spans.items():
            if path[:-1] == model and span.value > span.start:
                written = self.text[span.start : span.value]
                left, _, right = written.partition("=")
                if path[-1] == key:
                    return written
                if left.rstrip() == path[-1]:
                    gap = left[len(left.rstrip()) :]
                    name = _key(key) + gap if len(gap) < 2 else f"{_key(key)} ".ljust(len(left))
                    return f"{name}={right}"
        return f"{_key(key)} = "

    # Tables inside an array that is written as a value

    def _append_element(self, array: KeyPath, fields: Mapping[str, object]) -> str:
        whole, elements = self.places.spans[array], self._elements(array)
        if not elements:
            return self._splice((whole.value + 1, whole.value + 1, _inline(fields)))
        last = elements[-1]
        new = self._element_like((*array, len(elements) - 1), fields)
        margin = self._margin(last.start)
        if margin.strip():  # several on one line
            return self._splice((last.end, last.end, f", {new}"))
        comma = _COMMA.match(self.text, last.end, whole.end)
        item_end = comma.end() if comma else last.end
        line_end, _ = self._line_end(item_end)
        line = margin + new + ("," if comma else "")
        if line_end >= whole.end:  # the bracket closes on the same line
            return self._splice((item_end, item_end, ("" if comma else ",") + self.newline + line))
        return self._splice(
            (item_end, item_end, "" if comma else ","), (line_end, line_end, line + self.newline)
        )

    def _remove_element(self, table: KeyPath) -> str:
        array, index = table[:-1], int(table[-1])
        whole, elements = self.places.spans[array], self._elements(array)
        gone = elements[index]
        comma = _COMMA.match(self.text, gone.end, whole.end)
        item_end = comma.end() if comma else gone.end
        line_end, _ = self._line_end(item_end)
        rest = self.text[item_end:line_end].strip()
        if not self._margin(gone.start).strip() and (not rest or rest[0] == "#") and line_end < whole.end:
            return self._splice((self._line_start(gone.start), line_end, ""))
        if index + 1 < len(elements):
            following = elements[index + 1].start
            about_it = self.text.find("#", line_end, following)
            return self._splice((gone.start, about_it if about_it >= 0 else following, ""))
        if index and "#" not in self.text[elements[index - 1].end : gone.start]:
            return self._splice((elements[index - 1].end, gone.end, ""))
        return self._splice((gone.start, item_end, ""))

    def _elements(self, array: KeyPath) -> list[Span]:
        return [span for path, span in self.places.spans.items() if path[:-1] == array]

    def _element_like(self, model: KeyPath, fields: Mapping[str, object]) -> str:
        start = self.places.spans[model].start
        padding = " " if self.text[start + 1].isspace() else ""
        pairs = ", ".join(self._assignment(model, key) + _inline(value) for key, value in fields.items())
        return f"{{{padding}{pairs}{padding}}}"

    # Lines

    def _splice(self, *changes: tuple[int, int, str]) -> str:
        text = self.text
        for start, end, new in sorted(changes, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _line_start(self, offset: int) -> int:
        return self.text.rfind("\n", 0, offset) + 1

    def _line_end(self, offset: int) -> tuple[int, str]:
        """Where the next line begins, and the line break to write first if there is none."""
        found = self.text.find("\n", offset)
        return (found + 1, "") if found >= 0 else (len(self.text), self.newline)

    def _margin(self, offset: int) -> str:
        return self.text[self._line_start(offset) : offset]

    def _close(self, offset: int) -> int:
        """The end of the section whose last value ends at ``offset``, its comments included."""
        end, _ = self._line_end(offset)
        comments = _COMMENTS_BELOW.match(self.text, end)
        return comments.end() if comments else end

    def _blank_above(self, line_start: int) -> bool:
        """Whether a blank line, or nothing, stands above this line and its comments."""
        comments = _COMMENTS_ABOVE.search(self.text, 0, line_start)
        above = comments.start() if comments else line_start
        return above == 0 or _BLANKS_ABOVE.search(self.text, 0, above) is not None


def _names(path: KeyPath) -> tuple[str, ...]:
    return tuple(key for key in path if isinstance(key, str))


def _key(key: str | int) -> str:
    return tomlkit.key(str(key)).as_string()


def _inline(value: object) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_inline, value))}]"
    if not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} cannot be written in TOML")
    return tomlkit.item(value).as_string()

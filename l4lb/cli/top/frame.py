"""Draws one screen of ``l4lb top`` with rich. No terminal is touched here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from l4lb.cli.output import STATE_COLOURS, printable
from l4lb.cli.rates import Target
from l4lb.cli.top.columns import BACKEND, NOTE_TITLE, STATE, Layout, cell, layout, ordered
from l4lb.cli.top.figures import Figures, Group, Row
from l4lb.cli.top.view import View, bottom, selection

_SEPARATOR = " | "
_HIGH = 16  # lines of a terminal from which on there is room for more than the most needed
_LINES_OF_WARNING = 6  # of the terminal for each line with one


@dataclass(frozen=True, slots=True)
class Size:
    """Of the terminal."""

    columns: int
    lines: int


def shown(figures: Figures, view: View) -> list[Group]:
    """The services that the view lets through, in its order."""
    groups = [group for group in figures.groups if view.service in (None, group.total.target[0])]
    return ordered(groups, view.sort, reverse=view.reverse)


def order(groups: Sequence[Group]) -> list[Target]:
    """Their backends from top to bottom."""
    return [row.target for group in groups for row in group.backends]


def frame(figures: Figures, view: View, size: Size, trouble: str = "") -> RenderableType:
    """The whole screen, no line wider than it and not more lines. ``trouble``: why the figures are old."""
    groups = shown(figures, view)
    selected = selection(view, order(groups))
    fit = layout(groups, view.sort, size.columns)
    high = size.lines >= _HIGH
    above = [Text(line, style="bold") for line in packed(figures.facts, size.columns, 4 if high else 2)]
    above += _warnings(figures.warnings, size)
    if trouble:
        above.append(Text(printable(trouble), style="bold red"))
    below = [Text(note) for note in _whole_note(groups, selected, fit)]
    words = packed(bottom(view), size.columns, 4 if view.help else 1)
    below += [Text(line, style="reverse") for line in words]
    room = max(1, size.lines - len(above) - len(below) - 1)
    body = _body(groups, selected, fit, view, room)
    body.style = "dim" if trouble else ""
    filling = [Text("" if groups else "No services.")] + [Text("")] * (room - body.row_count - 1)
    del filling[room - body.row_count :]
    for line in (*above, *below):
        line.no_wrap, line.overflow = True, "ellipsis"
    return Stack(*above, body, *filling, *below)


def packed(words: Sequence[str], width: int, most: int) -> list[str]:
    """Words in lines of this width, at most so many; the last ones are left out, a long one is not cut."""
    lines: list[str] = []
    for word in map(printable, words):
        if lines and len(lines[-1]) + len(_SEPARATOR) + len(word) <= width:
            lines[-1] += _SEPARATOR + word
        else:
            lines.append(word)
    return lines[:most]


def _warnings(warnings: Sequence[str], size: Size) -> list[Text]:
    room = max(1, size.lines // _LINES_OF_WARNING)
    lines = [printable(warning) for warning in warnings]
    if len(lines) > room:
        lines[room - 1 :] = [f"(and {len(lines) - room} more) {lines[room - 1]}"]
    return [Text(line, style="yellow") for line in lines]


def _whole_note(groups: Sequence[Group], selected: Target | None, fit: Layout) -> list[str]:
    """What is wrong with the backend selected, if its line has no room for that."""
    notes = [row.note for group in groups for row in group.backends if row.target == selected]
    return [printable(note) for note in notes if len(note) > fit.note]


def _body(groups: Sequence[Group], selected: Target | None, fit: Layout, view: View, room: int) -> Table:
    table = Table(
        box=None, pad_edge=False, padding=(0, fit.gap, 0, 0), header_style="bold", collapse_padding=True
    )
    for column, width in fit.columns:
        title = Text(column.title, style="underline" if column.name == view.sort else "")
        left = column in (BACKEND, STATE)
        table.add_column(title, justify="left" if left else "right", width=width, no_wrap=True)
    if fit.note:
        table.add_column(NOTE_TITLE, width=fit.note, no_wrap=True, overflow="ellipsis")
    lines = [(group, row) for group in groups for row in (group.total, *group.backends)]
    for group, row in _in_sight(lines, selected, room):
        table.add_row(*_cells(group, row, fit, chosen=row.target == selected and row is not group.total))
    return table


def _in_sight(
    lines: Sequence[tuple[Group, Row]], selected: Target | None, room: int
) -> list[tuple[Group, Row]]:
    """As many lines as there is room for, around the one selected, under the title of its service."""
    places = (
        place
        for place, (group, row) in enumerate(lines)
        if row.target == selected and row is not group.total
    )
    first = max(0, min(next(places, 0) - room // 2, len(lines) - room))
    visible = list(lines[first : first + room])
    if room > 2 and visible and visible[0][1] is not visible[0][0].total:
        visible[0] = (visible[0][0], visible[0][0].total)
    return visible


def _cells(group: Group, row: Row, fit: Layout, *, chosen: bool) -> list[Text]:
    is_total = row is group.total
    cells = []
    for column, _ in fit.columns:
        text = cell(column, row)
        if column is BACKEND:
            text = printable(group.title) if is_total else f"{'>' if chosen else ' '} {text}"
        one = Text(text, overflow="ellipsis", style="bold" if is_total else "reverse" if chosen else "")
        if column is STATE:
            one.stylize(STATE_COLOURS.get(row.state, ""))
        cells.append(one)
    if fit.note:
        cells.append(Text(printable(row.note)))
    return cells

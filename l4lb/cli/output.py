"""Writes answers: JSON for programs, tables and short figures for people."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import click

_UNLIMITED = 1000  # columns: more than any table needs

STATE_COLOURS = {"up": "green", "down": "red", "unknown": "yellow", "drain": "cyan"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    align: Literal["left", "right"] = "left"
    states: bool = False  # cells are states of backends, and coloured so


def write_json(answer: object) -> None:
    """An answer of the daemon as it is."""
    click.echo(json.dumps(answer, indent=2))


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """One line for each row, never cut or folded, with colours on a terminal only."""
    for line in _fitting_lines(columns, rows):
        click.echo(line)


def write_annotated_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str, notes: Sequence[str]
) -> None:
    """A table with a note, maybe empty, for each row: in a last column, or below its row if the
    terminal is not wide enough."""
    if not any(notes):
        write_table(columns, rows)
        return
    wide = _lines((*columns, Column(title)), [(*row, note) for row, note in zip(rows, notes, strict=True)])
    if _fit(wide):
        click.echo("\n".join(wide))
        return
    header, *lines = _fitting_lines(columns, rows)
    click.echo(header)
    for line, note in zip(lines, notes, strict=True):
        click.echo(line)
        if note:
            click.echo(f"  {printable(note)}")


def _fit(lines: Sequence[str]) -> bool:
    """Whether no line is wider than the terminal; in a file or a pipe there is no limit."""
    width = _UNLIMITED
    # There is no stdout at all where it was closed before we started.
    if (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ:
        width = shutil.get_terminal_size().columns
    return all(len(click.unstyle(line)) <= width for line in lines)


def _fitting_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = _lines(columns, rows)
    return lines if _fit(lines) else _lines(columns, rows, gap=1)


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """The table, its header first, one line for each row."""
    # Imported here because most commands draw no table, and rich takes as long to import as they run.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.title, justify=column.align, no_wrap=True)
    for row in rows:
        cells = [Text(printable(cell)) for cell in row]
        for cell, column in zip(cells, columns, strict=True):
            if column.states:
                cell.stylize(STATE_COLOURS.get(cell.plain, ""))
        table.add_row(*cells)
    # With a height too, or rich draws for 80 columns where TERM is "dumb".
    console = Console(width=_UNLIMITED, height=len(rows) + 1)
    with console.capture() as drawn:
        console.print(table)
    return [line.rstrip() for line in drawn.get().splitlines()]


def write_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line, the values in a column."""
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        click.echo(f"{name:{width}}  {printable(value)}".rstrip())


def printable(text: str) -> str:
    """Text that may come from a server, without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def duration(seconds: float) -> str:
    """``8s``, ``5m``, ``3h12m``, ``4d7h``: the two largest units, rounded down."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours == 0:
        return f"{minutes}m"
    if days == 0:
        return f"{hours}h{minutes % 60:02}m"
    return f"{days}d{hours % 24}h"


def counted(number: int, noun: str) -> str:
    """``1 service``, ``2 services``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def seconds(value: float | None) -> str:
    """A time measured: ``250us``, ``7.5ms``, ``1.2s``, ``-`` if it never was."""
    if value is None:
        return "-"
    for unit, size in (("us", 1e-6), ("ms", 1e-3)):
        if value < 999.5 * size:
            return quantity(value / size) + unit
    return quantity(value) + "s"


def quantity(value: float) -> str:
    """``0``, ``7.5``, ``120``, ``3.4k``, ``56M``: two or three digits and an SI prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5 or prefix == "T":
            break
        value /= 1000
    text = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return text.removesuffix(".0") + prefix

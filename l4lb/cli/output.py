"""Writes answers: JSON for programs, tables and short figures for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import click

_NOT_A_TERMINAL = 1000  # columns: lines in a file or a pipe are not folded

_COLOURS = {"up": "green", "down": "red", "unknown": "yellow", "drain": "cyan"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    align: Literal["left", "right"] = "left"
    fold: bool = False  # cells take several lines where space is short
    states: bool = False  # cells are states of backends, and coloured so


def write_json(answer: object) -> None:
    """An answer of the daemon as it is."""
    click.echo(json.dumps(answer, indent=2))


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal, coloured only on one."""
    # Imported here because most commands write no table and rich takes as long to import as they run.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _NOT_A_TERMINAL
    console = Console(width=width, highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify=column.align,
            no_wrap=not column.fold,
            overflow="fold",
            min_width=14 if column.fold else None,
        )
    for row in rows:
        cells = zip(row, columns, strict=True)
        table.add_row(
            *(
                Text(printable(cell), style=_COLOURS.get(cell, "") if column.states else "")
                for cell, column in cells
            )
        )
    with console.capture() as drawn:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))


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


def quantity(value: float) -> str:
    """``0``, ``7.5``, ``120``, ``3.4k``, ``56M``: two or three digits and an SI prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5 or prefix == "T":
            break
        value /= 1000
    text = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return text.removesuffix(".0") + prefix

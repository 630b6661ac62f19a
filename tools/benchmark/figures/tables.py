"""How tables of figures look."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmark.figures.statistics import Spread


def number(value: float, digits: int = 0) -> str:
    """A number with a space between thousands, so that no country misreads it."""
    return f"{value:,.{digits}f}".replace(",", " ")


def new_table(title: str, first: str, columns: Sequence[str]) -> Table:
    """A table whose first column names its rows and whose others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def spread_cell(it: Spread | None, digits: int) -> str:
    """A median, and under it how far the rounds reach from it; a dash if there are no rounds."""
    if it is None:
        return "-"
    if len(it.values) == 1:
        return number(it.median, digits)
    return f"{number(it.median, digits)}\n[dim]{number(it.low, digits)} - {number(it.high, digits)}[/dim]"

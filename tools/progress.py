"""How far a tool is that takes its time; for those who run in .venv, where rich is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress(total: float, first: str, *, counted: bool = False) -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error, to be told what goes on and how much was done since it was last told.

    Args:
        total: of what there is to do.
        first: what goes on until it is told.
        counted: the total is a number of turns, which is shown; else how much time is left.
    """
    times = (
        (MofNCompleteColumn(), TimeElapsedColumn())
        if counted
        else (TimeElapsedColumn(), TimeRemainingColumn())
    )
    columns = (BarColumn(), *times, TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(first, total=total)
        yield lambda what, done: bar.update(task, advance=done, description=what)

"""Runs ``l4lb top``: looks at the daemon, draws, heeds keys. The only part that reads a clock."""

from __future__ import annotations

import os
import time

import click

from l4lb.cli.backend import drained, enabled
from l4lb.cli.client import Client, DaemonError
from l4lb.cli.output import Column as PlainColumn
from l4lb.cli.output import duration, printable, write_annotated_table
from l4lb.cli.top import SHORTEST
from l4lb.cli.top.columns import BACKEND, COLUMNS, STATE, cell
from l4lb.cli.top.figures import Figures, Look, figures
from l4lb.cli.top.frame import frame, order, shown
from l4lb.cli.top.terminal import Terminal, is_usable
from l4lb.cli.top.view import Change, Quit, View, pressed

_FIRST_RATES = 1.0  # seconds after the first look, at most
_RETRY = 1.0  # seconds between tries while the daemon is away, at most


def run(client: Client, view: View, *, once: bool) -> None:
    """Until a key or a signal ends it; ``once``, or without a terminal, for one interval.

    Raises:
        DaemonError: the daemon cannot be asked at the beginning.
    """
    first = _look(client)
    if once or not is_usable():
        time.sleep(view.interval)
        _write(figures(_host(), _look(client), first), view)
        return
    with Terminal() as terminal:
        try:
            Session(client, view, first).run(terminal)
        except KeyboardInterrupt:
            return


class Session:
    """One run on a terminal, which begins with a look that has been taken."""

    def __init__(self, client: Client, view: View, first: Look) -> None:
        self._client = client
        self._view = view
        self._last = first
        self._figures = figures(_host(), first)
        self._next = first.at + min(view.interval, _FIRST_RATES)
        self._trouble = ""

    def run(self, terminal: Terminal) -> None:
        """Until a key ends it."""
        while True:
            terminal.draw(frame(self._figures, self._view, terminal.size, self._away()))
            for key in terminal.keys(self._next - time.monotonic()):
                if not self._heed(key):
                    return
            if self._view.paused:
                self._next = time.monotonic() + self._view.interval
            elif time.monotonic() >= self._next:
                self._look()

    def _away(self) -> str:
        if not self._trouble:
            return ""
        return f"for {duration(time.monotonic() - self._last.at)}: {self._trouble}"

    def _look(self) -> None:
        """Once more. Figures stay as they were while the daemon does not answer."""
        try:
            look = _look(self._client)
        except DaemonError as error:
            self._trouble = error.lines[0]
            self._next = time.monotonic() + min(self._view.interval, _RETRY)
        else:
            self._trouble = ""
            self._figures = figures(_host(), look, self._last)
            self._last = look
            self._next = look.at + self._view.interval

    def _heed(self, key: str) -> bool:
        """Do what a key asks for; False: end."""
        before = self._view
        self._view, asked = pressed(before, key, order(shown(self._figures, before)))
        if (before.interval, before.paused) != (self._view.interval, self._view.paused):
            self._next = self._last.at + self._view.interval
        if isinstance(asked, Change):
            self._view = self._view.said(_change(self._client, asked))
            # Soon, but rates of less time than that say nothing.
            self._next = min(self._next, max(time.monotonic(), self._last.at + SHORTEST))
        return not isinstance(asked, Quit)


def _change(client: Client, change: Change) -> str:
    """What came of it."""
    service, address = change.target
    body = {"action": change.action, "runtime": False}
    try:
        answer = client.patch("services", service, "backends", address, body=body)
    except DaemonError as error:
        return error.lines[0]
    return drained(answer) if change.action == "drain" else enabled(answer)


def _look(client: Client) -> Look:
    answer = client.get("overview")
    return Look(time.monotonic(), answer["status"], answer["services"])


def _host() -> str:
    return os.uname().nodename


def _write(figures: Figures, view: View) -> None:
    """One frame for a file: everything, however wide."""
    for line in (*figures.facts, *(f"warning: {warning}" for warning in figures.warnings)):
        click.echo(printable(line))
    groups = shown(figures, view)
    columns = [PlainColumn("SERVICE")]
    columns += [
        PlainColumn(column.title, "left" if column in (BACKEND, STATE) else "right", states=column is STATE)
        for column in COLUMNS
    ]
    rows = [row for group in groups for row in (group.total, *group.backends)]
    cells = [[row.target[0], *(cell(column, row) for column in COLUMNS)] for row in rows]
    write_annotated_table(columns, cells, "REASON", [row.note for row in rows])

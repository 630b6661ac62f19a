"""The loop, with keys instead of a terminal and a daemon that comes and goes."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from l4lb.cli.client import DaemonError
from l4lb.cli.top import live
from l4lb.cli.top.figures import Look
from l4lb.cli.top.frame import Size
from l4lb.cli.top.view import View
from tests.unit.cli.answers import backend
from tests.unit.cli.top.overview import WEB, overview

HUNG_UP = DaemonError("the daemon hung up")


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Terminal:
    """Presses keys: strings; or waits until it is to be drawn again: None."""

    def __init__(self, clock, *script):
        self.clock, self.script = clock, list(script)
        self.frames, self.waits = [], []
        self.size = Size(100, 20)

    def draw(self, frame):
        console = Console(file=StringIO(), width=100, height=20, color_system=None)
        console.print(frame)
        self.frames.append(console.file.getvalue())

    def keys(self, seconds):
        self.waits.append(round(seconds, 3))
        key = self.script.pop(0)
        if key is None:
            self.clock.now += max(0.0, seconds)
            return []
        return [key]


class Daemon:
    """Gives one answer after the other, the last one again and again."""

    def __init__(self, *answers):
        self.answers, self.looks, self.changes = list(answers), 0, []

    def get(self, *path):
        assert path == ("overview",)
        self.looks += 1
        return self._next()

    def patch(self, *path, body):
        self.changes.append((path, body))
        return self._next()

    def _next(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def play(monkeypatch):
    def played(daemon, *script, view=None):
        clock = Clock()
        monkeypatch.setattr(live, "time", clock)
        terminal = Terminal(clock, *script, "q")
        first = overview()
        session = live.Session(
            daemon, view or View(interval=2.0), Look(100.0, first["status"], first["services"])
        )
        session.run(terminal)
        return terminal

    return played


def test_rates_are_there_soon_and_then_once_an_interval(play):
    daemon = Daemon(overview({WEB[0]: {"connections_total": 1050}}))
    terminal = play(daemon, None, None, None)
    assert terminal.waits == [1.0, 2.0, 2.0, 2.0]
    assert daemon.looks == 3
    assert "packets/s" not in terminal.frames[0]
    assert " 100%    50 " in terminal.frames[1]


def test_draining(play):
    daemon = Daemon(backend(WEB[1], established=3), overview({WEB[1]: {"state": "drain"}}))
    terminal = play(daemon, "j", "d", "y", None)
    assert "drain 10.2.0.12:80 of web? y/n" in terminal.frames[2]
    assert daemon.changes == [
        (("services", "web", "backends", WEB[1]), {"action": "drain", "runtime": False})
    ]
    assert "web: draining 10.2.0.12:80, 3 connections left" in terminal.frames[3]
    assert terminal.waits[3] == 0.2  # at once, but for rates of some time
    assert "> 10.2.0.12:80        drain" in terminal.frames[4]


def test_enabling_and_a_daemon_that_refuses(play):
    daemon = Daemon(
        backend(weight=4, restored=True), DaemonError("l4lb.toml:1: cannot be written"), overview()
    )
    terminal = play(daemon, "e", "e")
    assert "web: enabled 10.2.0.11:80, weight 4" in terminal.frames[1]
    assert "l4lb.toml:1: cannot be written" in terminal.frames[2]


def test_while_the_daemon_is_away_figures_stay_and_one_line_says_so(play):
    daemon = Daemon(HUNG_UP, HUNG_UP, overview({WEB[0]: {"connections_total": 1060}}))
    terminal = play(daemon, None, None, None)
    assert "for 1s: the daemon hung up" in terminal.frames[1]
    assert "for 2s: the daemon hung up" in terminal.frames[2]
    assert "> 10.2.0.11:80" in terminal.frames[2]
    assert terminal.waits == [1.0, 1.0, 1.0, 2.0]
    assert "hung up" not in terminal.frames[3]
    assert " 100%    20 " in terminal.frames[3]  # 60 in the three seconds that nobody looked


def test_paused_it_does_not_look_and_then_at_once(play):
    daemon = Daemon(overview())
    terminal = play(daemon, " ", None, None)
    assert "paused" in terminal.frames[1]
    assert daemon.looks == 0
    play(daemon, " ", None, None, " ")
    assert daemon.looks == 1


def test_a_shorter_interval_counts_from_the_last_look(play):
    terminal = play(Daemon(overview()), None, "-", view=View(interval=10.0))
    assert terminal.waits == [1.0, 10.0, 5.0]

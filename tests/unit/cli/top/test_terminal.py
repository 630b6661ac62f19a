"""The terminal is left as it was: on a pseudo-terminal, with a program of a few lines."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
from contextlib import contextmanager

import pytest

LEAVES_THE_SCREEN = b"\x1b[?1049l"
SHOWS_THE_CURSOR = b"\x1b[?25h"

PROGRAM = """
import sys
from rich.text import Text
from l4lb.cli.top.terminal import Terminal
with Terminal() as terminal:
    terminal.draw(Text("drawn"))
    {then}
"""


class Program:
    """One that draws and then does something else, as Python."""

    def __init__(self, then, theirs, ours):
        self.theirs, self.ours = theirs, ours
        self.modes = termios.tcgetattr(theirs)
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(then=then)],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm"},
        )

    def sees(self, text):
        while text not in self.written:
            assert select.select([self.ours], [], [], 10)[0], self.written
            self.written += os.read(self.ours, 1024)

    def end(self):
        errors = self.process.communicate(timeout=10)[1].decode()
        return self.process.returncode, errors


@contextmanager
def running(then):
    """With what was drawn first on the screen."""
    ours, theirs = pty.openpty()
    try:
        program = Program(then, theirs, ours)
        try:
            program.sees(b"drawn")
            yield program
        finally:
            program.process.kill()
            program.process.communicate()
    finally:
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize(
    ("then", "status", "says"),
    [
        ("pass", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("terminal.draw(1 / 0)", 1, "ZeroDivisionError"),
        ("sys.exit(3)", 3, ""),
        ("import os; os.kill(os.getpid(), 15)", 143, ""),
    ],
)
def test_however_it_ends_the_terminal_is_as_it_was(then, status, says):
    with running(then) as program:
        program.sees(LEAVES_THE_SCREEN)
        program.sees(SHOWS_THE_CURSOR)
        ended, errors = program.end()
        assert (ended, says in errors) == (status, True)
        assert termios.tcgetattr(program.theirs) == program.modes


def test_keys_come_one_by_one_and_are_not_echoed():
    with running("""while (keys := terminal.keys(10)) != ["q"]:
        terminal.draw(Text(f"<{keys}>"))""") as program:
        assert termios.tcgetattr(program.theirs) != program.modes
        os.write(program.ours, b"j")
        program.sees(b"<['j']>")
        os.write(program.ours, b"\x1b[A")
        program.sees(b"<['up']>")
        os.write(program.ours, b"\x1b")
        program.sees(b"<['escape']>")
        os.write(program.ours, b"q")
        assert program.end() == (0, "")


def test_another_size_is_noticed_and_drawn_for():
    with running("""keys = terminal.keys(10)
    terminal.draw(Text(f"{keys} {terminal.size}"))""") as program:
        termios.tcsetwinsize(program.theirs, (7, 33))
        program.process.send_signal(signal.SIGWINCH)
        program.sees(b"[] Size(columns=33, lines=7)")
        assert program.end() == (0, "")

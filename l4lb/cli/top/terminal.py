"""The terminal of ``l4lb top``: keys as they are pressed, frames on the alternate screen, and everything
as it was before, however it ends."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

from l4lb.cli.top.frame import Size
from l4lb.cli.top.keys import decode

_REST_OF_A_KEY = 0.05  # seconds, in which the rest of an arrow key comes, or it was Escape
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_NOTED = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


class Terminal:
    """Standard input and output, to be used in a ``with``. SIGTERM and SIGHUP end the program there."""

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # not every terminal has the characters of every name
        self._read = b""
        self._restore = contextlib.ExitStack()
        self._screen = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._noticed, notice = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            undo.callback(os.close, self._noticed)
            undo.callback(os.close, notice)
            undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(notice, warn_on_full_buffer=False))
            for number in (*_ENDING, *_NOTED):
                handler = _end if number in _ENDING else _note
                undo.callback(signal.signal, number, signal.signal(number, handler))
            undo.callback(self._leave)
            self._enter()
            self._restore = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore.close()

    @property
    def size(self) -> Size:
        """As it is now; a serial line does not know."""
        size = os.get_terminal_size(self._out)
        return Size(size.columns or 80, size.lines or 24)

    def draw(self, frame: RenderableType) -> None:
        """Show this and nothing else."""
        size = self.size
        self._console.size = (size.columns, size.lines)
        self._live.update(frame, refresh=True)

    def keys(self, seconds: float) -> list[str]:
        """Wait at most so long for keys; see ``decode``. None are a reason to draw again, too: the time is
        over, or the terminal has another size. "q" if the terminal is gone."""
        ready = select.select([self._in, self._noticed], [], [], max(0.0, seconds))[0]
        if self._noticed in ready:
            self._heed(os.read(self._noticed, 64))
        if self._in not in ready:
            return []
        if not self._take():
            return ["q"]
        keys, self._read = decode(self._read)
        if self._read:
            if select.select([self._in], [], [], _REST_OF_A_KEY)[0]:
                self._take()
                more, self._read = decode(self._read)
                return keys + more
            self._read = b""
            keys.append("escape")
        return keys

    def _take(self) -> bool:
        try:
            data = os.read(self._in, 1024)
        except OSError:
            return False
        self._read += data
        return bool(data)

    def _heed(self, signals: bytes) -> None:
        if signal.SIGTSTP in signals:
            self._leave()
            ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # until SIGCONT, which is noticed as well
            signal.signal(signal.SIGTSTP, ours)
            self._enter()
        elif signal.SIGCONT in signals:
            self._leave()
            self._enter()

    def _enter(self) -> None:
        with contextlib.ExitStack() as undo:
            before = termios.tcgetattr(self._in)
            undo.callback(termios.tcsetattr, self._in, termios.TCSADRAIN, before)
            tty.setcbreak(self._in)
            self._console = Console(markup=False, emoji=False, highlight=False)
            self._live = Live(
                console=self._console,
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            undo.enter_context(self._live)
            self._screen = undo.pop_all()

    def _leave(self) -> None:
        # A terminal that is gone needs nothing.
        with contextlib.suppress(OSError, termios.error):
            self._screen.close()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _note(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor tells."""


def is_usable() -> bool:
    """Whether frames can be drawn and keys be read here."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams) and not (
        Console().is_dumb_terminal
    )

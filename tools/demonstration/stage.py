"""What a person watching sees: headlines, commands and what they print, check marks, bars."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

_BAR: Final = 40  # characters of the longest bar


class StepFailed(Exception):
    """Something was not seen to work. One line for people."""


class Stage:
    """Writes to standard output; in colours, and with signs beyond ASCII, where it can show them."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty()
        self._yes, self._no, self._block = "ok", "FAILED", "#"
        if (sys.stdout.encoding or "").lower() == "utf-8":
            self._yes, self._no, self._block = "✓", "✗", "█"

    def _say(self, text: str = "", style: str = "") -> None:
        if self._colours and style:
            text = f"\033[{style}m{text}\033[0m"
        print(text, flush=True)

    def picture(self, lines: tuple[str, ...]) -> None:
        """The topology."""
        self._say()
        for line in lines:
            self._say(line, "36")

    def headline(self, number: int, text: str) -> None:
        """A step begins."""
        self._say()
        self._say(f"{number:2} {text}", "1")

    def tell(self, text: str) -> None:
        """What is going on, in one line."""
        self._say(f"   {text}")

    def command(self, host: str, text: str) -> None:
        """A command, before it runs."""
        self._say(f"   {host}$ {text}", "33")

    def output(self, text: str) -> None:
        """What a command printed."""
        for line in text.rstrip("\n").splitlines():
            self._say(f"     {line}", "2")

    def check(self, what: str, holds: bool, otherwise: object = "") -> None:
        """Show that something was seen.

        Raises:
            StepFailed: it was not; ``otherwise`` is what was seen instead.
        """
        if holds:
            self._say(f"   {self._yes} {what}", "32")
            return
        self._say(f"   {self._no} {what}", "31")
        raise StepFailed(f"not so: {what}" + (f" (but: {otherwise})" if otherwise != "" else ""))

    def bars(self, counts: Mapping[str, int]) -> None:
        """How many of each."""
        most = max(counts.values(), default=0)
        for name, count in sorted(counts.items()):
            self._say(f"     {name:<6} {count:>4} {self._block * round(_BAR * count / most)}", "36")

    def failure(self, text: str) -> None:
        """The demo did not work."""
        self._say()
        self._say(text, "31")

    def success(self, text: str) -> None:
        """It did."""
        self._say()
        self._say(text, "1;32")

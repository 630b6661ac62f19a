"""What is said on the connection of a check or probe, as bytes. Pure."""

from __future__ import annotations

from typing import Protocol as Interface


class BadAnswer(Exception):
    """The answer is not the one expected. The message is one line that says why."""


class Talk(Interface):
    """A request and what is to come back."""

    @property
    def request(self) -> bytes:
        """What to send first; empty where the other side begins."""
        ...

    @property
    def awaited(self) -> str:
        """What has not come yet, in words for a reason."""
        ...

    @property
    def room(self) -> int:
        """How many more bytes ``receive`` takes."""
        ...

    def receive(self, data: bytes) -> bool:
        """Take up to ``room`` bytes of the answer, none for its end. True once it is all that is wanted.

        Raises:
            BadAnswer: what has come cannot become the answer any more.
        """
        ...

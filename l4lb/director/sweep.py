"""Looks for connections whose backend has gone, some in each tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from l4lb.director.connection import Connection
from l4lb.director.conntrack import ConnectionTable
from l4lb.director.states import REUSABLE
from l4lb.model import State

_LOOKS: Final = 20_000
_RESETS: Final = 300
_FORGOTTEN: Final = 2_000
"""In one tick: some two milliseconds of looking, five of resetting, and five of forgetting what is over."""


class Sweep:
    """Goes through the table in rounds. Connections with traffic do not wait for it: their next packet ends
    them."""

    def __init__(self, table: ConnectionTable, reset: Callable[[Connection], None]) -> None:
        """``reset`` ends one connection, and may remove it from the table."""
        self._table = table
        self._reset = reset
        self._round: Iterator[Connection] = iter(())
        self._again = False

    def again(self) -> None:
        """Go through once more, after the round that may be under way: begun anew each time, a backend that
        goes up and down would keep it from ever getting to the end."""
        self._again = True

    def step(self) -> None:
        """Do what one tick has time for."""
        resets = forgotten = 0
        for _ in range(_LOOKS):
            connection = next(self._round, None)
            if connection is None:
                if not self._again:
                    return
                self._again = False
                self._round = iter(self._table)
                continue
            # A client still waiting for its SYN/ACK will send its SYN again: that one is rescheduled.
            if (
                connection.bucket is not None
                and connection.path.gone
                and connection.state != State.SYN_SENT
            ):
                forgotten += connection.state in REUSABLE
                resets += connection.state not in REUSABLE
                self._reset(connection)
                if resets == _RESETS or forgotten == _FORGOTTEN:
                    return

"""Whose a backend's segment is that belongs to no connection we know.

Clients may connect to a backend's own address, past the VIP. Such a connection shows itself by its
SYN/ACK, which no connection of ours expected. One from before our start does not. It may be taken for
a connection to a VIP that was lost in a crash, until the client denies that: it answers what comes
from the VIP with an RST.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from l4lb.director.connection import UNKNOWN_SHIFTS, Connection
from l4lb.director.parse import Packet
from l4lb.director.states import REUSABLE
from l4lb.model import Endpoint, State

LIMIT: Final = 65_536
"""Tuples remembered."""


class DirectConnections:
    """The reply tuples of direct connections, and those that clients have denied to be a VIP's. Least
    recently used first."""

    __slots__ = ("_tuples",)

    def __init__(self) -> None:
        self._tuples: OrderedDict[bytes, frozenset[Endpoint] | None] = OrderedDict()  # None: direct

    def __len__(self) -> int:
        return len(self._tuples)

    def __contains__(self, reply: bytes) -> bool:
        """True for a direct connection, which is used by asking."""
        if self._tuples.get(reply, frozenset()) is not None:
            return False
        self._tuples.move_to_end(reply)
        return True

    def note(self, reply: bytes) -> None:
        """This is a direct connection."""
        self._remember(reply, None)

    def deny(self, reply: bytes, vip: Endpoint) -> None:
        """This is no connection to ``vip``."""
        self._remember(reply, self.denied(reply) | {vip})

    def denied(self, reply: bytes) -> frozenset[Endpoint]:
        """The VIPs that it is no connection to."""
        return self._tuples.get(reply) or frozenset()

    def _remember(self, reply: bytes, what: frozenset[Endpoint] | None) -> None:
        self._tuples[reply] = what
        self._tuples.move_to_end(reply)
        if len(self._tuples) > LIMIT:
            self._tuples.popitem(last=False)


def is_over(connection: Connection, syn_ack: Packet) -> bool:
    """True if this SYN/ACK of the backend answers a SYN that did not come to the VIP, which would have
    begun a new connection here: the client has gone on, from the same port, to the backend's own address.
    To the backend the two look alike. One that repeats what was acknowledged, or is the first word of the
    backend, has only crossed an RST. Under full NAT the port is the gateway's, which asks nobody else from
    there."""
    if connection.acked_by_backend in (None, syn_ack.acknowledgement):
        return False
    return connection.state in REUSABLE and connection.path.snat is None


def is_denied(connection: Connection) -> bool:
    """True if an RST that the client sends now says that it has no connection to the VIP. All we have
    seen before was the backend's: it was picked up from the middle of a connection that is another
    one, which the RST must not end."""
    picked_up = connection.state is State.ESTABLISHED and connection.shifts == UNKNOWN_SHIFTS
    return picked_up and connection.acked_by_client is None and not connection.syn

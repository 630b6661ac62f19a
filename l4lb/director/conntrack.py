"""The connection table.

Each connection is found by two keys, its original and its reply tuple. Half-open connections are
counted, limited and listed apart from established ones: a flood of forged SYNs can push out other
half-open connections and nothing else. One that is reset before its handshake is over stays among
them: forged SYNs that a backend refuses are a flood like any other. An entry younger than
``HANDSHAKE`` is not pushed out, its handshake may be under way; if only such are left, the newcomer
is refused. Established ones that are over and only remembered (``REUSABLE``) take room until it is needed:
then the one that ended first gives its place to a connection that becomes established, not to a SYN, which
may be forged. An end has its time as well as a beginning, so not within ``HANDSHAKE`` of the last packet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from l4lb.director.connection import Connection
from l4lb.director.measure import in_handshake, release
from l4lb.director.states import HALF_OPEN, REUSABLE, timeouts_by_state
from l4lb.director.wheel import Wheel
from l4lb.model import DropReason, Limits, Protocol, State, Timeouts

_TCP: Final = Protocol.TCP
_CLOSED: Final = State.CLOSED
_UDP_ANSWERED: Final = State.UDP_ANSWERED

HANDSHAKE: Final = 1.0
"""Seconds a half-open connection cannot be pushed out: one initial RTO (RFC 6298 2.1)."""

YOUNG_LOOKS: Final = 8
"""Connections that are over, but not for long, looked at for one packet: behind them there are hardly
others, and nobody who keeps one of them young may keep all from giving way."""


class ConnectionTable:
    """All connections of a datapath. ``tcp`` and ``udp`` map tuple to connection, both directions."""

    def __init__(self, now: float, timeouts: Timeouts, limits: Limits) -> None:
        self.tcp: dict[bytes, Connection] = {}
        self.udp: dict[bytes, Connection] = {}
        self.by_protocol: dict[int, dict[bytes, Connection]] = {
            Protocol.TCP: self.tcp,
            Protocol.UDP: self.udp,
        }
        self.half_open: OrderedDict[Connection, float] = OrderedDict()  # value: when it began, or went on
        self.established = 0
        self.over: OrderedDict[Connection, None] = OrderedDict()  # of the established, by when they ended
        self.evicted = 0
        self._wheel = Wheel(now)
        self.set_policy(timeouts, limits)

    def set_policy(self, timeouts: Timeouts, limits: Limits) -> None:
        """New timeouts and limits. A timeout holds for a connection from its next change of state
        or check on; a table above a lowered limit shrinks as connections end."""
        self.limits = limits
        self.timeouts = timeouts_by_state(timeouts)

    def __len__(self) -> int:
        return len(self.half_open) + self.established

    def __iter__(self) -> Iterator[Connection]:
        """Each connection once, as of now. The two keys of a connection are added together and go
        together, so in a dict's order they are neighbours."""
        for flows in (self.tcp, self.udp):
            yield from list(islice(flows.values(), 0, None, 2))

    def refuses(self, half_open: bool, now: float) -> DropReason | None:
        """Why a new connection cannot be added, None if it can."""
        if self.established >= self.limits.established and not self.over:
            return DropReason.ESTABLISHED_FULL
        if half_open and len(self.half_open) >= self.limits.half_open:
            oldest = next(iter(self.half_open), None)
            if oldest is None or not self.gives_way(oldest, now):
                return DropReason.HALF_OPEN_FULL
        return None

    def gives_way(self, connection: Connection, now: float) -> bool:
        """True if a new connection may take the place of this one: it is over, or was half-open for
        longer than a handshake takes."""
        began = self.half_open.get(connection)
        return connection.state in REUSABLE or (began is not None and now - began >= HANDSHAKE)

    def goes_on(self, connection: Connection, now: float) -> None:
        """Of a half-open one that its client still uses, a stream that nobody answers: those that nobody
        uses are pushed out first. Once in a while is enough."""
        if now - self.half_open[connection] >= HANDSHAKE:
            self.half_open[connection] = now
            self.half_open.move_to_end(connection)

    def _make_room(self, now: float) -> bool:
        """True if there is room for one more established connection, be it that of one that is over."""
        return self.established < self.limits.established or self.give_place(now)

    def give_place(self, now: float) -> bool:
        """Forget the established connection that was over first, but for young ones; False if there are
        no others."""
        for _ in range(YOUNG_LOOKS):
            first = next(iter(self.over), None)
            if first is None:
                return False
            if now - first.seen >= HANDSHAKE:
                self.remove(first)
                return True
            self.over.move_to_end(first)
        return False

    def _push_out(self, connection: Connection) -> None:
        """Forget a connection that gives way."""
        self.evicted += connection.state in HALF_OPEN
        self.remove(connection)

    def add(self, connection: Connection, now: float) -> bool:
        """Add a connection that the table does not refuse, in the place of one that gives way if
        there is no other: the one with its reply tuple, the oldest of the half-open. Its original
        tuple must be free, and differ from the other. False, and nothing changed, if it is to be among
        the established and those that are over are all too young."""
        if connection.state not in HALF_OPEN and not self._make_room(now):
            return False
        flows = self.by_protocol[connection.path.protocol]
        former = flows.get(connection.reply)
        crowded = connection.state in HALF_OPEN and len(self.half_open) >= self.limits.half_open
        if crowded and former not in self.half_open:
            self._push_out(next(iter(self.half_open)))
        if former is not None:
            self._push_out(former)
        flows[connection.original] = connection
        flows[connection.reply] = connection
        path = connection.path
        path.connections_total += 1
        if connection.state in HALF_OPEN:
            self.half_open[connection] = now
            path.half_open += 1
        else:
            self.established += 1
            path.established += 1
            path.confirmed += 1
            if connection.state in REUSABLE:
                self._is_over(connection)
        self._wheel.place(connection, connection.seen + self.timeouts[connection.state])
        return True

    def set_state(self, connection: Connection, state: State) -> bool:
        """Move a connection, which a packet has just been ``seen`` of, to ``state``; False, and nothing
        changed, if it would become established and there is no room."""
        path = connection.path
        if connection not in self.half_open:
            if state in REUSABLE and connection.state not in REUSABLE:
                self._is_over(connection)
                release(connection)
        elif state is _CLOSED:
            path.half_open -= 1
            connection.asked = None
        elif state not in HALF_OPEN:
            if not self._make_room(connection.seen):
                return False
            del self.half_open[connection]
            self.established += 1
            path.half_open -= 1
            path.established += 1
            if path.protocol is _TCP:
                path.confirmed += 1
                connection.asked = None  # of the handshake
        path.confirmed += state is _UDP_ANSWERED
        connection.state = state
        self._wheel.place(connection, connection.seen + self.timeouts[state])
        return True

    def begin_anew(self, connection: Connection) -> None:
        """Of an established one that its ends have begun once more: it counts as a new one."""
        release(connection)
        connection.path.connections_total += 1
        connection.path.confirmed += 1
        self.set_state(connection, State.ESTABLISHED)

    def _is_over(self, connection: Connection) -> None:
        """Of an established one: its backend has a connection less, and it is the last to give way."""
        connection.path.closed += 1
        self.over[connection] = None

    def doubt(self, connection: Connection) -> None:
        """It may be over: unless another packet comes, it is forgotten as soon as one that is.

        So with an RST in the window whose number is not the very one that its receiver waits for. That
        one believes it only if data that has not been acknowledged yet lies between; else it asks back,
        and the answer shows that the connection lives (RFC 5961 3.2). Who cannot see the connection can
        guess a number in the window, the very one hardly."""
        release(connection)
        sooner = self.timeouts[connection.state] - self.timeouts[State.CLOSED]
        connection.seen -= max(0.0, sooner)
        self._wheel.place(connection, self.expires(connection))

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        path = connection.path
        flows = self.by_protocol[path.protocol]
        del flows[connection.original]
        del flows[connection.reply]
        path.unanswered += connection.state in (State.SYN_SENT, State.UDP_NEW)
        if not in_handshake(connection):
            release(connection)
        if self.half_open.pop(connection, None) is not None:
            path.half_open -= connection.state in HALF_OPEN
        else:
            self.established -= 1
            path.established -= 1
            if connection in self.over:
                del self.over[connection]
                path.closed -= 1
        self._wheel.remove(connection)

    def expires(self, connection: Connection) -> float:
        """When the connection will be forgotten if no packet comes."""
        return connection.seen + self.timeouts[connection.state]

    def expire(self, now: float, limit: int = 1_000) -> int:
        """Forget connections that have been idle too long; how many. At most ``limit`` are looked
        at, so that a packet never waits for a million of them."""
        removed = 0
        for connection in self._wheel.due(now, limit):
            deadline = self.expires(connection)
            if deadline > now:
                self._wheel.place(connection, deadline)
            else:
                self.remove(connection)
                removed += 1
        return removed

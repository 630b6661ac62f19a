"""Steps that many cases begin with."""

from __future__ import annotations

from typing import Any

from l4lb.model import Protocol, State
from tests.conformance.case import Remembered, Row, Send, Step, forward
from tests.conformance.packets import TTL, Frame, gso, rst, tcp, udp
from tests.conformance.plans import name_of
from tests.conformance.world import Host, Net

CLIENT_SEQ = 1_000_000
BACKEND_SEQ = 9_000_000
"""Initial sequence numbers. The next ones are one more."""

CLIENT_NEXT = CLIENT_SEQ + 1
BACKEND_NEXT = BACKEND_SEQ + 1
HOP = TTL - 1
"""TTL of a forwarded packet."""


def syn(
    net: Net,
    backend: Host,
    client: Host | None = None,
    *,
    vip: Host | None = None,
    source: Host | None = None,
) -> Send:
    """The client's SYN goes to this backend. ``source`` is what the backend sees."""
    client = client or net.client
    return forward(
        tcp(client, vip or net.vip, "S", seq=CLIENT_SEQ),
        tcp(source or client, backend, "S", seq=CLIENT_SEQ, ttl=HOP),
    )


def syn_ack(
    net: Net,
    backend: Host,
    client: Host | None = None,
    *,
    vip: Host | None = None,
    source: Host | None = None,
) -> Send:
    """The backend's answer goes to the client."""
    client = client or net.client
    numbers: dict[str, Any] = {"seq": BACKEND_SEQ, "ack": CLIENT_NEXT}
    return forward(
        tcp(backend, source or client, "SA", **numbers),
        tcp(vip or net.vip, client, "SA", **numbers, ttl=HOP),
    )


def from_client(
    net: Net,
    backend: Host,
    flags: str = "A",
    client: Host | None = None,
    *,
    vip: Host | None = None,
    source: Host | None = None,
    seq: int = CLIENT_NEXT,
    ack: int = BACKEND_NEXT,
    data: bytes = b"",
) -> Send:
    """A segment of the client goes to the backend."""
    client = client or net.client
    numbers: dict[str, Any] = {"seq": seq, "ack": ack}
    return forward(
        tcp(client, vip or net.vip, flags, **numbers, data=data),
        tcp(source or client, backend, flags, **numbers, data=data, ttl=HOP),
    )


def from_backend(
    net: Net,
    backend: Host,
    flags: str = "A",
    client: Host | None = None,
    *,
    vip: Host | None = None,
    source: Host | None = None,
    seq: int = BACKEND_NEXT,
    ack: int = CLIENT_NEXT,
    data: bytes = b"",
) -> Send:
    """A segment of the backend goes to the client."""
    client = client or net.client
    numbers: dict[str, Any] = {"seq": seq, "ack": ack}
    return forward(
        tcp(backend, source or client, flags, **numbers, data=data),
        tcp(vip or net.vip, client, flags, **numbers, data=data, ttl=HOP),
    )


def handshake(
    net: Net,
    backend: Host,
    client: Host | None = None,
    *,
    vip: Host | None = None,
    source: Host | None = None,
) -> list[Step]:
    """A client connects to a backend."""
    return [
        syn(net, backend, client, vip=vip, source=source),
        syn_ack(net, backend, client, vip=vip, source=source),
        from_client(net, backend, "A", client, vip=vip, source=source),
    ]


def closing(
    net: Net, backend: Host, client: Host | None = None, *, source: Host | None = None
) -> list[Step]:
    """The client closes and the backend at once after it: FIN, FIN, ACK."""
    return [
        from_client(net, backend, "FA", client, source=source),
        from_backend(net, backend, "FA", client, source=source, ack=CLIENT_NEXT + 1),
        from_client(net, backend, "A", client, source=source, seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 1),
    ]


def asked(net: Net, backend: Host, client: Host | None = None, *, source: Host | None = None) -> Send:
    """A datagram of the client goes to the backend."""
    client = client or net.client
    return forward(udp(client, net.vip, b"question"), udp(source or client, backend, b"question", ttl=HOP))


def answered(net: Net, backend: Host, client: Host | None = None, *, source: Host | None = None) -> Send:
    """A datagram of the backend goes to the client."""
    client = client or net.client
    return forward(udp(backend, source or client, b"answer"), udp(net.vip, client, b"answer", ttl=HOP))


def remembered(
    net: Net,
    client: Host | None = None,
    *,
    protocol: Protocol = Protocol.TCP,
    vip: Host | None = None,
    connection: Host | None = None,
    last: Host | None = None,
    left: float | None = None,
) -> Remembered:
    """Where the client's next packet goes, whoever's turn it is: with ``connection``, or else ``last``."""
    name = name_of(protocol, vip or net.vip)
    return Remembered(name, client or net.client, connection, last, left)


def row(net: Net, backend: Host, state: State, client: Host | None = None) -> Row:
    """The connection of the client with this backend."""
    return Row(client or net.client, backend, state)


def to_client(net: Net, client: Host | None = None, seq: int = BACKEND_NEXT) -> Frame:
    """The RST that ends a client's connection from the middle."""
    return rst(net.vip, client or net.client, seq=seq)


def to_backend(net: Net, backend: Host, client: Host | None = None, seq: int = CLIENT_NEXT) -> Frame:
    """The RST that ends it for the backend."""
    return rst(client or net.client, backend, seq=seq)


def payload(net: Net, length: int, transport: int = 20) -> bytes:
    """As much as makes a packet of ``length`` bytes."""
    return bytes(index % 251 for index in range(length - net.header - transport))


def bulk(net: Net, source: Host, destination: Host, size: int, *, ttl: int = TTL, **fields: Any) -> Frame:
    """A GSO frame: 20 kB of a client's connection, in segments of ``size`` bytes."""
    numbers: dict[str, Any] = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": bytes(20_001)}
    return gso(tcp(source, destination, "PA", **numbers, ttl=ttl, **fields), size)

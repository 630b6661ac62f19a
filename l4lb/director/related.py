"""ICMP errors that belong to a connection, and what they have to become."""

from __future__ import annotations

from typing import NamedTuple

from l4lb.director.connection import Connection, Ends
from l4lb.director.conntrack import ConnectionTable
from l4lb.director.parse import Packet
from l4lb.model import Endpoint
from l4lb.wire import ipv6


class Related(NamedTuple):
    """An error about a connection: which way it goes and its new addresses."""

    connection: Connection
    from_client: bool  # it comes from the client's side and goes to the backend
    outer: tuple[bytes, bytes]  # new source and destination address of the error itself
    quoted: tuple[Endpoint, Endpoint]  # new source and destination of the packet it quotes


def related(table: ConnectionTable, packet: Packet) -> Related | None:
    """Find the connection that an ICMP error is about, None if there is none.

    The quoted packet is one that we sent; what would answer it has a tuple in the table. An error
    that does not go to the sender of the packet it quotes is not honest and matches nothing.

    The error's own source is hidden behind the VIP on its way to the client, as the kernel's NAT
    does (nf_nat_icmp_reply_translation): routers of the backends' network are not the client's
    concern. Towards the backend it stays as it is, or becomes the SNAT address, the only one that a
    backend without a route to the clients can answer, or the VIP where it is link-local, and means
    nothing on the backend's link.
    """
    quoted = packet.quoted
    if quoted is None or quoted.sport < 0 or quoted.source != packet.destination:
        return None
    flows = table.by_protocol.get(quoted.protocol)
    connection = flows.get(quoted.reverse_key) if flows is not None else None
    if connection is None:
        return None
    ends = Ends(connection.original, connection.reply)
    if quoted.reverse_key == connection.original:
        source = packet.source if ends.source.ip == ends.client.ip else ends.source.ip
        if packet.version == 6 and ipv6.is_link_local(source):
            source = ends.vip.ip
        return Related(connection, True, (source, ends.backend.ip), (ends.backend, ends.source))
    return Related(connection, False, (ends.vip.ip, ends.client.ip), (ends.client, ends.vip))

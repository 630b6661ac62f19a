"""The packets of a SYN probe: the SYN, built with scapy, and what answers it. Pure.

scapy takes half a millisecond to build a packet and a quarter of a second to be imported. So it builds one
SYN for each backend, on first use, and the two fields in which probes differ are stamped into a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from l4lb import classic_bpf as bpf
from l4lb.model import Endpoint
from l4lb.wire import checksum, tcp

_HEAD: Final = Struct("!HHI")  # source port, destination port, sequence number
_CHECKSUM: Final = Struct("!H")
_SYN_SIZE: Final = 24  # bytes: the TCP header with the MSS option


class Segment(NamedTuple):
    """A TCP segment that came in."""

    source: Endpoint
    port: int  # of ours
    sequence: int
    acknowledgement: int
    flags: int


def syn(source: bytes, target: Endpoint, port: int, sequence: int) -> bytes:
    """The IP packet that begins a handshake.

    Args:
        source: our address, packed.
        target: the backend.
        port: ours.
        sequence: the initial sequence number, 0 to 2**32 - 1.
    """
    packet = bytearray(_template(source, target))
    at = len(packet) - _SYN_SIZE
    (blank,) = _CHECKSUM.unpack_from(packet, at + tcp.CHECKSUM)
    head = _HEAD.pack(port, target.port, sequence)
    change = checksum.delta(packet[at : at + _HEAD.size], head)
    packet[at : at + _HEAD.size] = head
    _CHECKSUM.pack_into(packet, at + tcp.CHECKSUM, checksum.update(blank, change))
    return bytes(packet)


@lru_cache(maxsize=16_384)
def _template(source: bytes, target: Endpoint) -> bytes:
    from l4lb.health.probes.syn_template import syn_template

    return syn_template(source, target)


def sent_sequence(frame: bytes) -> int | None:
    """The sequence number of the SYN of ours that ends ``frame``; None if it is too short to end so."""
    at = len(frame) - _SYN_SIZE
    return None if at < 0 else int(_HEAD.unpack_from(frame, at)[2])


def segment(data: bytes, source: bytes) -> Segment | None:
    """What a raw TCP socket read: an IPv4 packet, or the TCP part of an IPv6 packet. None if cut short.

    The kernel has checked the IP header but not TCP's checksum. A damaged segment is told by its
    acknowledgement number like a forged one.

    Args:
        data: what was read.
        source: the sender's address, packed; its length says which version it is.
    """
    at = 4 * (data[0] & 15) if len(source) == 4 and data else 0
    if len(data) < at + tcp.MINIMUM:
        return None
    from_port, to_port, sequence, acknowledgement, offset_and_flags, _, _ = tcp.HEADER.unpack_from(data, at)
    return Segment(Endpoint(source, from_port), to_port, sequence, acknowledgement, offset_and_flags & 0x3F)


def port_filter(version: int, ports: Iterable[int]) -> bytes:
    """A classic BPF program for a raw TCP socket: only segments to these ports wake us up.

    It sees what the socket reads: see ``segment``.
    """
    program, accept = bpf.Assembler(), bpf.Label()
    program.emit(*((bpf.LOAD_X_HEADER_LENGTH, 0) if version == 4 else (bpf.LOAD_X_IMMEDIATE, 0)))
    program.emit(bpf.LOAD_HALF_INDIRECT, 2)
    for port in ports:
        program.branch(bpf.IF_EQUAL, port, then=accept)
    program.emit(bpf.RETURN, 0)
    program.place(accept)
    program.emit(bpf.RETURN, 0xFFFF)
    return bpf.pack(program.assemble())

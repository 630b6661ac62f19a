"""The hashes that table slots are picked by, the same in every datapath.

MurmurHash3_x86_32 (Austin Appleby, public domain; SMHasher ``src/MurmurHash3.cpp``) over whole
32-bit words: five lines of C without a byte loop, so that eBPF computes it inline. Words are read
little-endian from the bytes as they stand in the packet, which on a little-endian host is a plain
32-bit load without byte swap.

The seed is fixed: two gateways, or one before and after a restart, must send the same packet to
the same backend. A client can therefore choose ports that meet in one slot; it gains one backend's
attention, which any client of a consistent hash can have.

A datapath takes slot ``hash % len(slots)``.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from l4lb.model import Endpoint

SEED: Final = 0x6C346C62
"""Of ``source_hash`` and ``flow_hash``: "l4lb" in ASCII."""

_words = Struct("<I").iter_unpack


def murmur3(data: bytes, seed: int) -> int:
    """MurmurHash3_x86_32 of whole words, 0 to 2**32 - 1.

    Raises:
        struct.error: the length is not a multiple of 4.
    """
    # Masks stand only where bits above 32 would come back down: before a shift to the right.
    result = seed
    for (word,) in _words(data):
        word = word * 0xCC9E2D51 & 0xFFFFFFFF
        result ^= (word << 15 | word >> 17) * 0x1B873593 & 0xFFFFFFFF
        result = (result << 13 | result >> 19) * 5 + 0xE6546B64 & 0xFFFFFFFF
    result ^= len(data)
    result = (result ^ result >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    result = (result ^ result >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return result ^ result >> 16


def source_hash(client_ip: bytes) -> int:
    """Hash for ``Key.SOURCE``: the client's packed address, 4 or 16 bytes."""
    return murmur3(client_ip, SEED)


def flow_hash(tuple_bytes: bytes) -> int:
    """Hash for ``Key.FLOW``: source and destination address, source and destination port of the
    original direction as they stand in the packet (network byte order), 12 or 36 bytes.

    The protocol is left out: a table belongs to one service, and a service has one protocol.
    """
    return murmur3(tuple_bytes, SEED)


def endpoint_bytes(endpoint: Endpoint) -> bytes:
    """A backend's identity for hashing, whole words: address, then the port in four bytes."""
    return endpoint.ip + endpoint.port.to_bytes(4, "big")

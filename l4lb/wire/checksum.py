"""The Internet checksum: whole sums, and repairs after a change (RFC 1071, RFC 1624).

Two kinds of checksum field travel through a gateway. A *full* one is what the RFCs describe: the
complement of the sum over pseudo-header, header and payload. A *partial* one (Linux's
``CHECKSUM_PARTIAL``) holds the plain folded sum of the pseudo-header only; the sender's hardware,
or the receiver's kernel, adds the rest. Addresses are in the pseudo-header and ports are not, so a
partial field follows address changes by adding and does not see port changes at all.

All sums are of 16-bit words in network byte order. Data of odd length counts as padded with zero.
"""

from __future__ import annotations


def fold(total: int) -> int:
    """Add the carries of a non-negative sum back in: 0 to 0xffff, 0 only for 0."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """Folded one's-complement sum of ``data``.

    2**16 is 1 modulo 0xffff, so the sum of the words is the whole read as one number, modulo
    0xffff: one division in C instead of a loop in Python.
    """
    number = int.from_bytes(data, "big")
    if len(data) % 2:
        number <<= 8
    return number % 0xFFFF or (0xFFFF if number else 0)


def checksum(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """The full checksum of ``data``, ``initial`` being a sum to start from (a pseudo-header's)."""
    return fold(ones_sum(data) + initial) ^ 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """Folded sum of the pseudo-header (RFC 9293 3.1 for IPv4, RFC 8200 8.1 for IPv6).

    ``length`` is the length of the transport header and payload in bytes.
    """
    return fold(ones_sum(source + destination) + protocol + (length >> 16) + (length & 0xFFFF))


def delta(old: bytes | bytearray, new: bytes | bytearray) -> int:
    """What replacing ``old`` by ``new`` (same length, at an even offset) adds to a sum."""
    return fold((ones_sum(old) ^ 0xFFFF) + ones_sum(new))


def update(field: int, change: int) -> int:
    """A full checksum field after a ``delta`` (RFC 1624 equation 3, which alone never turns a
    good checksum into the other representation of zero)."""
    return fold((field ^ 0xFFFF) + change) ^ 0xFFFF


def update_partial(field: int, change: int) -> int:
    """A partial checksum field after a ``delta`` of the pseudo-header."""
    return fold(field + change)

"""The agent protocol: one UDP packet each way. Bytes in, bytes out; no I/O, no clock.

Both packets have 72 bytes, so an agent never sends more than it was sent. Network byte order:

    offset  size  question           answer
    0       4     "L4AG"             "L4AG"
    4       1     version, 1         version, 1
    5       1     kind, 1            kind, 2
    6       2     zero               zero
    8       16    nonce              the question's nonce
    24      1     zero (padding)     which figures there are: bit 0 is cpu
    25      1     ..                 administrative state
    26      1     ..                 operating state
    27      1     ..                 zero
    28      20    ..                 cpu, memory, load, queue, application: binary32, zero if absent
    48      4     ..                 seconds that the agent runs
    52      4     ..                 sequence
    56      16    MAC                MAC

The MAC is HMAC-SHA256 over all before it, cut to 16 bytes (RFC 2104, 5).

What this withstands. The gateway draws a fresh nonce for each question and takes one answer to it, so an
answer can be neither forged without the key, nor replayed, nor kept back for later than the question's
timeout. A question can be replayed: the agent remembers the nonces of late (``answerer.py``) and is
silent on those; what is older than its memory it answers, which gives away figures that whoever recorded
the question has seen in its answer, and sends no more bytes than it received. A time in the question would
close that, at the price that a wrong clock on either side silences an agent: not worth it. Figures are
not secret: they are authenticated, not encrypted.
"""

from __future__ import annotations

import hmac
import math
import struct
from enum import Enum
from typing import Final

from l4lb.agent.report import LARGEST, Administrative, Figures, Operating, Report

SIZE: Final = 72
"""Bytes of a question, and of an answer."""

NONCE_SIZE: Final = 16
VERSION: Final = 1
MAGIC: Final = b"L4AG"

_MAC_SIZE: Final = 16
_QUESTION: Final = 1
_ANSWER: Final = 2
_HEAD: Final = struct.Struct(f"!4sBBH{NONCE_SIZE}s")
_BODY: Final = struct.Struct("!BBBB5fII")
_PADDING: Final = bytes(_BODY.size)
_MAC_AT: Final = SIZE - _MAC_SIZE
_WRAP: Final = 1 << 32


class Refusal(str, Enum):
    """Why a packet was not taken; the names are those shown and counted."""

    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    FOREIGN = "foreign"  # not of this protocol
    WRONG_VERSION = "wrong_version"
    WRONG_KIND = "wrong_kind"  # an answer where a question is expected, or the reverse
    UNAUTHENTICATED = "unauthenticated"
    MALFORMED = "malformed"  # authentic, but not laid out as above
    REPLAYED = "replayed"
    LATE = "late"  # the answer to a question whose time is over
    UNASKED = "unasked"  # the answer to a question that nobody remembers
    BAD_FIGURE = "bad_figure"  # authentic, but no such figure can be


class BadPacket(ValueError):
    """A packet is refused. ``refusal`` is the reason; the message says more."""

    def __init__(self, refusal: Refusal, message: str = "") -> None:
        self.refusal = refusal
        super().__init__(message or refusal.value.replace("_", " "))


def question(nonce: bytes, key: bytes) -> bytes:
    """Ask for a report.

    Args:
        nonce: 16 random bytes that were never used before.
        key: what both sides know.
    """
    return _sealed(_head(_QUESTION, nonce) + _PADDING, key)


def read_question(data: bytes, keys: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """The nonce of a question, and the key that it was asked with.

    Raises:
        BadPacket: it is not a question by somebody who knows one of the keys.
    """
    nonce = _read_head(data, _QUESTION)
    key = _authentic(data, keys)
    if data[_HEAD.size : _MAC_AT] != _PADDING:
        raise BadPacket(Refusal.MALFORMED, "the padding is not zero")
    return nonce, key


def answer(nonce: bytes, report: Report, key: bytes) -> bytes:
    """Answer the question with this nonce. Figures are clamped to what can be sent."""
    present, values = 0, []
    for bit, (name, largest) in enumerate(LARGEST.items()):
        value = getattr(report.figures, name)
        if value is not None and math.isfinite(value):
            present |= 1 << bit
            values.append(min(max(value, 0.0), largest))
        else:
            values.append(0.0)
    body = _BODY.pack(
        present,
        report.administrative,
        report.operating,
        0,
        *values,
        min(report.uptime, _WRAP - 1),
        report.sequence % _WRAP,
    )
    return _sealed(_head(_ANSWER, nonce) + body, key)


def read_nonce(data: bytes) -> bytes:
    """Which question an answer belongs to. Nothing of it is to be believed yet.

    Raises:
        BadPacket: it is not an answer.
    """
    return _read_head(data, _ANSWER)


def read_answer(data: bytes, key: bytes) -> Report:
    """What the agent says.

    Raises:
        BadPacket: it is not an answer by somebody who knows the key, or a figure in it cannot be.
    """
    _read_head(data, _ANSWER)
    _authentic(data, (key,))
    present, administrative, operating, reserved, *values, uptime, sequence = _BODY.unpack_from(
        data, _HEAD.size
    )
    if reserved or present >> len(LARGEST):
        raise BadPacket(Refusal.MALFORMED, "reserved bits are set")
    try:
        states = Administrative(administrative), Operating(operating)
    except ValueError as error:
        raise BadPacket(Refusal.MALFORMED, f"no such state: {error}") from None
    figures = {
        name: checked(name, value)
        for bit, (name, value) in enumerate(zip(LARGEST, values, strict=True))
        if present >> bit & 1
    }
    return Report(Figures(**figures), *states, uptime=uptime, sequence=sequence)


def checked(name: str, value: float) -> float:
    """A figure that can be.

    Raises:
        BadPacket: it is NaN, negative, infinite or larger than it can be.
    """
    if math.isnan(value):
        wrong = "not a number"
    elif math.isinf(value):
        wrong = "infinite"
    elif value < 0:
        wrong = f"negative: {value:g}"
    elif value > LARGEST[name]:
        wrong = f"{value:g}, above {LARGEST[name]:g}"
    else:
        return value
    raise BadPacket(Refusal.BAD_FIGURE, f"{name} is {wrong}")


def _head(kind: int, nonce: bytes) -> bytes:
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
    return _HEAD.pack(MAGIC, VERSION, kind, 0, nonce)


def _read_head(data: bytes, expected: int) -> bytes:
    """The nonce, once everything about the packet is right that needs no key."""
    # Another version may have another size, so that is looked at first.
    if not data.startswith(MAGIC[: len(data)]):
        raise BadPacket(Refusal.FOREIGN)
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise BadPacket(Refusal.WRONG_VERSION, f"version {data[len(MAGIC)]}, not {VERSION}")
    if len(data) < SIZE:
        raise BadPacket(Refusal.TRUNCATED, f"{len(data)} bytes, not {SIZE}")
    if len(data) > SIZE:
        raise BadPacket(Refusal.OVERSIZED, f"more than {SIZE} bytes")
    _, _, kind, reserved, nonce = _HEAD.unpack_from(data)
    if kind != expected:
        raise BadPacket(Refusal.WRONG_KIND, f"kind {kind}, not {expected}")
    if reserved:
        raise BadPacket(Refusal.MALFORMED, "reserved bits are set")
    return bytes(nonce)


def _authentic(data: bytes, keys: tuple[bytes, ...]) -> bytes:
    for key in keys:
        if hmac.compare_digest(_mac(data[:_MAC_AT], key), data[_MAC_AT:]):
            return key
    raise BadPacket(Refusal.UNAUTHENTICATED)


def _sealed(packet: bytes, key: bytes) -> bytes:
    return packet + _mac(packet, key)


def _mac(packet: bytes, key: bytes) -> bytes:
    return hmac.digest(key, packet, "sha256")[:_MAC_SIZE]

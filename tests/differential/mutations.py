"""Damage done to a frame on its way: at a length, at a header, anywhere."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tests.differential.frames import IP

_HEADERS: Final = 80  # bytes in which a change matters


def damage(random: Random, frame: bytes) -> bytes:
    """The frame with one thing wrong, or several."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        frame = random.choice(_KINDS)(random, frame)
    return frame


def _flip(random: Random, frame: bytes) -> bytes:
    return _at(random, frame, lambda byte: byte ^ 1 << random.randrange(8))


def _set(random: Random, frame: bytes) -> bytes:
    return _at(random, frame, lambda _: random.choice((0, 1, 0x7F, 0x80, 0xFF)))


def _at(random: Random, frame: bytes, change: Callable[[int], int]) -> bytes:
    """One byte behind the Ethernet header changed."""
    end = min(len(frame), IP + _HEADERS)
    if end <= IP:
        return frame
    at = random.randrange(IP, end)
    return frame[:at] + bytes([change(frame[at])]) + frame[at + 1 :]


def _cut(random: Random, frame: bytes) -> bytes:
    """The frame ends early, behind the IP header: no test run takes less."""
    least = IP + (40 if frame[IP - 2 : IP] == b"\x86\xdd" else 20)
    return frame[: random.randrange(least, len(frame))] if len(frame) > least else frame


def _pad(random: Random, frame: bytes) -> bytes:
    """It has a trailer."""
    return frame + bytes([random.randrange(256)]) * random.choice((1, 6, 18, 46))


def _length(random: Random, frame: bytes) -> bytes:
    """The IP header says another length, and the frame agrees or not."""
    at = IP + (2 if frame[IP] >> 4 == 4 else 4)
    if len(frame) < at + 2:
        return frame
    length = int.from_bytes(frame[at : at + 2], "big") + random.choice((-21, -12, -8, -1, 1, 40))
    return frame[:at] + (length & 0xFFFF).to_bytes(2, "big") + frame[at + 2 :]


def _ttl(random: Random, frame: bytes) -> bytes:
    at = IP + (8 if frame[IP] >> 4 == 4 else 7)
    return frame[:at] + bytes([random.choice((0, 1, 2))]) + frame[at + 1 :] if len(frame) > at else frame


def _may_be_cut(random: Random, frame: bytes) -> bytes:
    """Without IPv4's Don't Fragment."""
    if frame[IP] >> 4 != 4 or len(frame) < IP + 20:
        return frame
    return frame[: IP + 6] + bytes([frame[IP + 6] & 0xBF]) + frame[IP + 7 :]


def _link_local(random: Random, frame: bytes) -> bytes:
    """An IPv6 address of it is link-local, or nearly."""
    at = IP + random.choice((8, 8, 24))
    if frame[IP] >> 4 != 6 or len(frame) < IP + 40:
        return frame
    return frame[:at] + bytes([0xFE, random.choice((0x7F, 0x80, 0xBF, 0xC0))]) + frame[at + 2 :]


_KINDS: Final = (_flip, _flip, _flip, _set, _cut, _pad, _length, _ttl, _may_be_cut, _link_local)

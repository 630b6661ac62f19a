"""Keys, and packets that an attacker or a lying agent would send."""

from __future__ import annotations

import hmac

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
NONCE = bytes(range(100, 116))


def changed(data: bytes, at: int, value: int) -> bytes:
    """The packet with another byte."""
    return data[:at] + bytes([value]) + data[at + 1 :]


def resealed(data: bytes, key: bytes = KEY) -> bytes:
    """The packet with the MAC of somebody who knows the key. By itself, not by protocol.py."""
    return data[:56] + hmac.new(key, data[:56], "sha256").digest()[:16]

"""UDP (RFC 768): named offsets."""

from __future__ import annotations

from struct import Struct
from typing import Final

PROTOCOL: Final = 17
HEADER: Final = Struct("!HHHH")
"""ports, length, checksum."""

SIZE: Final = 8
CHECKSUM: Final = 6
"""A checksum of 0 means none (IPv4 only, RFC 8200 8.1); a computed 0 is sent as 0xffff."""

"""The agent protocol as a scapy layer: to look at packets, and to make wrong ones.

Its fields are those of ``protocol.py``, written a second time, so that each checks the other. Only those
who dissect import this: scapy takes longer to import than an agent takes to answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any

from scapy.fields import (
    ByteEnumField,
    ByteField,
    ConditionalField,
    Field,
    FlagsField,
    IEEEFloatField,
    IntField,
    ShortField,
    StrFixedLenField,
    XStrFixedLenField,
)
from scapy.layers.inet import UDP
from scapy.packet import Packet, bind_layers

_QUESTION, _ANSWER = 1, 2
_FIGURES = ("cpu", "memory", "load", "queue", "application")


def _body() -> Iterator[ConditionalField]:
    """What questions have between nonce and MAC, and what answers have there."""
    padding = XStrFixedLenField("padding", bytes(32), 32)
    yield ConditionalField(padding, lambda packet: packet.kind != _ANSWER)
    fields: list[Field[Any, Any]] = [
        FlagsField("present", 0, 8, list(_FIGURES)),
        ByteEnumField("administrative", 0, {0: "ready", 1: "drain", 2: "maint"}),
        ByteEnumField("operating", 0, {0: "up", 1: "down", 2: "fail", 3: "stopped"}),
        ByteField("reserved2", 0),
        *(IEEEFloatField(figure, 0) for figure in _FIGURES),
        IntField("uptime", 0),
        IntField("sequence", 0),
    ]
    for field in fields:
        yield ConditionalField(field, lambda packet: packet.kind == _ANSWER)


class AgentPacket(Packet):
    """A question or an answer. Its MAC is as it was set: ``sealed`` makes it right."""

    name = "l4lb agent"
    fields_desc = [  # noqa: RUF012 - scapy reads it so
        StrFixedLenField("magic", b"L4AG", 4),
        ByteField("version", 1),
        ByteEnumField("kind", _QUESTION, {_QUESTION: "question", _ANSWER: "answer"}),
        ShortField("reserved", 0),
        XStrFixedLenField("nonce", bytes(16), 16),
        *_body(),
        XStrFixedLenField("mac", bytes(16), 16),
    ]

    def sealed(self, key: bytes) -> AgentPacket:
        """The same packet with the MAC that this key gives it."""
        packet: AgentPacket = self.copy()
        packet.mac = hmac.new(key, bytes(self)[:-16], "sha256").digest()[:16]
        return packet

    def extract_padding(self, s: bytes) -> tuple[bytes, Any]:
        """Called by scapy: nothing follows a packet."""
        return b"", s


def bind(port: int) -> None:
    """Let scapy dissect UDP packets from and to this port so."""
    bind_layers(UDP, AgentPacket, dport=port)
    bind_layers(UDP, AgentPacket, sport=port)

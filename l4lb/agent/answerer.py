"""The agent's side of the protocol: which packets get an answer. Pure: bytes in, bytes or None out."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import Final

from l4lb.agent.protocol import BadPacket, Refusal, answer, read_question
from l4lb.agent.report import Report

_REMEMBERED: Final = 8_192
"""Nonces: with the default interval of 2 s, ten gateways' questions of 27 minutes, in about 1 MB."""


class Answerer:
    """Answers authentic questions, each once; is silent on everything else and counts why."""

    def __init__(self, keys: tuple[bytes, ...], *, remembered: int = _REMEMBERED) -> None:
        """Answer questions asked with one of the keys, with that key.

        Args:
            keys: one, or two while they are being changed.
            remembered: how many nonces of the past are known again.
        """
        self.keys = keys
        self._seen: set[bytes] = set()
        self._order: deque[bytes] = deque()
        self._remembered = remembered
        self.answered = 0
        self.refused: Counter[Refusal] = Counter()

    def answer(self, data: bytes, report: Report) -> bytes | None:
        """The answer to a packet, of the same size; None if there is none."""
        try:
            nonce, key = read_question(data, self.keys)
            self._remember(nonce)
        except BadPacket as bad:
            self.refused[bad.refusal] += 1
            return None
        self.answered += 1
        return answer(nonce, replace(report, sequence=self.answered - 1), key)

    def _remember(self, nonce: bytes) -> None:
        if nonce in self._seen:
            raise BadPacket(Refusal.REPLAYED)
        if len(self._order) == self._remembered:
            self._seen.remove(self._order.popleft())
        self._seen.add(nonce)
        self._order.append(nonce)

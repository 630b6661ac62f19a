"""The HTTP check as bytes: the request to send, and whether the answer's head is good. Pure.

h11 does the framing rather than aiohttp: it does no I/O, so every limit is here, the socket stays with
the caller, and nothing after the head of the answer is read.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Final

import h11

from l4lb.health.talk import BadAnswer
from l4lb.model import Endpoint, HealthCheck

HEAD_LIMIT: Final = 16_384
"""Bytes a backend may send until the end of its headers."""

_PREFIX: Final = b"HTTP/"
_SHOWN_BYTES: Final = 40  # of an answer that is not HTTP, in the reason
_SHOWN_CHARACTERS: Final = 100  # of h11's words, which quote the answer


class HttpGet:
    """One GET and the head of its answer: a ``Talk``. Interim responses (1xx) are passed over, redirects
    are not followed: a redirect is an answer with its status like any other."""

    def __init__(self, target: Endpoint, check: HealthCheck) -> None:
        """Write the request.

        Args:
            target: the address and port asked; the Host header if ``check.host`` is None.
            check: path, host and the statuses that are good.

        Raises:
            ValueError: path or host have characters that HTTP does not allow.
        """
        self._expected = check.status
        self._head = bytearray()
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        # RFC 9110 7.2: a port that is the scheme's own is left out.
        host = str(target).removesuffix(":80") if check.host is None else check.host
        headers = [("Host", host), ("User-Agent", _user_agent()), ("Connection", "close")]
        try:
            request = h11.Request(method="GET", target=check.path, headers=headers)
        except h11.LocalProtocolError as error:
            raise ValueError(f"the HTTP request cannot be written: {error}") from None
        except UnicodeEncodeError:
            raise ValueError("the HTTP request cannot be written: path or host is not ASCII") from None
        self.request: Final = b"".join(
            self._parser.send(event) or b"" for event in (request, h11.EndOfMessage())
        )

    @property
    def awaited(self) -> str:
        """See ``Talk``."""
        return "the end of the headers" if b"\n" in self._head else "the status line"

    @property
    def room(self) -> int:
        """See ``Talk``."""
        return HEAD_LIMIT - len(self._head)

    def receive(self, data: bytes) -> bool:
        """Take up to ``room`` bytes of the answer, none for its end. True once the status is good.

        Raises:
            BadAnswer: another status, not HTTP, too long or cut short.
        """
        if not data:
            raise BadAnswer(f"closed before {self.awaited}")
        self._head += data
        # h11 reads whole heads only. Whatever else listens there is told apart by its first bytes,
        # not after the timeout.
        if not self._head.startswith(_PREFIX[: len(self._head)]):
            raise BadAnswer(f"not an HTTP answer: {_shown(self._head)}")
        self._parser.receive_data(data)
        try:
            event = self._parser.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            raise BadAnswer(f"broken HTTP answer: {str(error)[:_SHOWN_CHARACTERS]}") from None
        if isinstance(event, h11.Response):
            self._judge(event.status_code)
            return True
        # All bytes count, not only those of one head: interim responses without end are a flood too.
        if not self.room:
            raise BadAnswer(f"no end of the headers within {HEAD_LIMIT} bytes")
        return False

    def _judge(self, status: int) -> None:
        if not any(low <= status <= high for low, high in self._expected):
            wanted = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in self._expected)
            raise BadAnswer(f"HTTP {status}, expected {wanted}")


@cache
def _user_agent() -> str:
    return f"l4lb/{version('l4lb')}"


def _shown(answer: bytearray) -> str:
    """The beginning of the first line, safe to print whatever the backend sent."""
    line = bytes(answer[:_SHOWN_BYTES]).split(b"\n", 1)[0]
    return repr(line.rstrip(b"\r"))[1:]

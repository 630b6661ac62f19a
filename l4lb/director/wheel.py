"""Expiry without scanning: a timing wheel whose entries are looked at only when they may be due.

An established packet costs the wheel nothing: it moves ``seen`` on and leaves the connection in its
bucket. When the bucket comes up, a connection that was used meanwhile is put into the bucket of its
new deadline. So a connection is touched about once per timeout, however busy it is (the idea of
Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", with lazy re-insertion).
"""

from __future__ import annotations

from collections.abc import Iterator

from l4lb.director.connection import Connection


class Wheel:
    """Buckets one second wide. A connection is in one bucket, or in none."""

    __slots__ = ("_buckets", "_next")

    def __init__(self, now: float) -> None:
        self._buckets: dict[int, set[Connection]] = {}
        self._next = int(now)  # the first second not handed out yet

    def place(self, connection: Connection, deadline: float) -> None:
        """Put a connection where it will come up at ``deadline`` or up to a second later."""
        if connection.bucket is not None:
            connection.bucket.discard(connection)
        second = max(int(deadline) + 1, self._next)
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = set()
        bucket.add(connection)
        connection.bucket = bucket

    def remove(self, connection: Connection) -> None:
        """Take a connection out."""
        if connection.bucket is not None:
            connection.bucket.discard(connection)
            connection.bucket = None

    def due(self, now: float, limit: int) -> Iterator[Connection]:
        """Take out up to ``limit`` connections whose second has come. The caller removes them or
        places them again; the rest comes with the next call."""
        while limit > 0 and self._next <= now:
            bucket = self._buckets.get(self._next)
            while bucket and limit > 0:
                connection = bucket.pop()
                connection.bucket = None
                limit -= 1
                yield connection
            if bucket:
                return
            self._buckets.pop(self._next, None)
            self._next += 1

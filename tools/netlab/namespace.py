"""Be in a network namespace; for those who run in .venv, where pyroute2 is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from netlab.command import NAMESPACES


@contextmanager
def entered(name: str) -> Iterator[None]:
    """With this thread in a network namespace: sockets made there stay there."""
    from pyroute2 import netns

    with open("/proc/thread-self/ns/net") as home:
        netns.setns(str(NAMESPACES / name), flags=0)  # one that is not there is not made
        try:
            yield
        finally:
            netns.setns(home.fileno())

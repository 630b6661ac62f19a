"""Announcements, and how many sockets they take."""

import asyncio
from types import SimpleNamespace
from typing import ClassVar

import pytest

from l4lb.netlink import announcer
from l4lb.netlink.state import Link

LAN, WAN, TUNNEL = (
    Link(2, "lan", b"\2\0\0\0\0\2", 1500, True),
    Link(3, "wan", b"\2\0\0\0\0\3", 1500, True),
    Link(4, "tun", b"", 1500, True),
)


class Socket:
    """A packet socket that writes down what it sends."""

    made: ClassVar[list["Socket"]]

    def __init__(self, *kind):
        self.sent = []
        self.closed = False
        self.made.append(self)

    def setblocking(self, blocking):
        assert not blocking

    def sendto(self, frame, address):
        if address[0] == "wan" and not self.sent:
            raise OSError(100, "Network is down")
        self.sent.append(address)

    def close(self):
        self.closed = True


@pytest.fixture
def sockets(monkeypatch):
    Socket.made = []
    monkeypatch.setattr(announcer, "socket", SimpleNamespace(socket=Socket, AF_PACKET=17, SOCK_RAW=3))
    monkeypatch.setattr(announcer, "INTERVAL", 0.0)
    return Socket.made


def test_a_thousand_addresses_are_announced_through_one_socket_also_after_an_error(sockets):
    async def scenario():
        announces = announcer.Announcer()
        announces.start(WAN, bytes(4))
        announces.start(TUNNEL, bytes(4))
        for number in range(1_000):
            announces.start(LAN, bytes([10, 1, *divmod(number, 256)]))
        announces.start(WAN, bytes([10, 3, 0, 0]))
        await asyncio.wait(list(announces._rounds.values()))
        await announces.close()

    asyncio.run(scenario())
    (one,) = sockets
    assert one.sent.count(("lan", 0)) == 2 * announcer.ROUNDS * 1_000
    assert ("wan", 0) in one.sent
    assert one.closed

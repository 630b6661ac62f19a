"""Addresses are changed through one socket."""

import asyncio
import errno
from typing import ClassVar

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from l4lb.netlink.addresses import Addresses


class Kernel:
    """A socket to a kernel that has one of the addresses already."""

    made: ClassVar[list["Kernel"]] = []

    def __init__(self, ext_ack):
        self.changes = []
        self.open = False
        self.endpoints = 0
        self.made.append(self)

    async def __aenter__(self):
        await asyncio.sleep(0)
        self.open = True
        return self

    async def __aexit__(self, *error):
        self.open = False

    async def setup_endpoint(self):
        await asyncio.sleep(0)
        self.endpoints += 1

    async def addr(self, command, **options):
        assert self.open
        assert self.endpoints == 1
        self.changes.append((command, options["address"], options["prefixlen"]))
        if options["address"] == "10.1.0.2":
            raise NetlinkError(errno.EEXIST, "File exists")


@pytest.fixture(autouse=True)
def nothing_made():
    Kernel.made.clear()


def test_several_at_a_time_have_one_socket(monkeypatch):
    monkeypatch.setattr("pyroute2.AsyncIPRoute", Kernel)

    async def scenario():
        async with Addresses() as addresses:
            await asyncio.gather(*(addresses.add(2, f"10.1.0.{number}") for number in (1, 3, 4)))

    asyncio.run(scenario())
    (kernel,) = Kernel.made
    assert len(kernel.changes) == 3


def test_one_socket_for_a_pass_and_none_without_a_change(monkeypatch):
    monkeypatch.setattr("pyroute2.AsyncIPRoute", Kernel)

    async def scenario():
        addresses = Addresses()
        async with addresses:
            pass
        assert not Kernel.made
        for _ in range(2):
            async with addresses:
                assert await addresses.add(2, "10.1.0.1") is None
                assert (await addresses.add(2, "10.1.0.2"))[0] == errno.EEXIST
                assert await addresses.delete(2, "2001:db8::1") is None

    asyncio.run(scenario())
    assert len(Kernel.made) == 2
    for kernel in Kernel.made:
        assert kernel.changes == [
            ("add", "10.1.0.1", 32),
            ("add", "10.1.0.2", 32),
            ("del", "2001:db8::1", 128),
        ]
        assert not kernel.open

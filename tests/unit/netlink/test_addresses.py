"""Addresses are changed through one socket."""

import asyncio
import errno
from typing import ClassVar

from pyroute2.netlink.exceptions import NetlinkError

from l4lb.netlink.addresses import Addresses


class Kernel:
    """A socket to a kernel that has one of the addresses already."""

    made: ClassVar[list["Kernel"]] = []

    def __init__(self, ext_ack):
        self.changes = []
        self.open = False
        self.made.append(self)

    async def __aenter__(self):
        self.open = True
        return self

    async def __aexit__(self, *error):
        self.open = False

    async def addr(self, command, **options):
        assert self.open
        self.changes.append((command, options["address"], options["prefixlen"]))
        if options["address"] == "10.1.0.2":
            raise NetlinkError(errno.EEXIST, "File exists")


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

"""Neighbours of a real kernel: resolved, moved, silent, set by hand."""

import asyncio
import contextlib
import json
import subprocess
import time

import pytest

from l4lb.netlink.state import Neighbour
from netlab.command import inside as command_in
from tests.lab.gateway import DEADLINE, GATEWAY, PEER, ip, packed, run, sysctl, two_namespaces

pytestmark = pytest.mark.lab


@pytest.fixture
def lab():
    with two_namespaces():
        yield


class Neighbours:
    """Collects what a watch tells about neighbours."""

    def __init__(self, watch):
        self.watch = watch
        self.queue = asyncio.Queue()
        watch.subscribe(lambda change: [self.queue.put_nowait(one) for one in change.neighbours])

    async def outcome(self, index, address):
        """Ask for a neighbour, and give back the MAC that is told next."""
        while not self.queue.empty():
            self.queue.get_nowait()
        await self.watch.resolve(index, address)
        while True:
            told = await asyncio.wait_for(self.queue.get(), DEADLINE)
            if (told.index, told.ip) == (index, address):
                return told.mac

    async def becomes(self, index, address, mac):
        """Ask again and again until a neighbour is told to be at a MAC."""
        deadline = time.monotonic() + DEADLINE
        told = None
        while told != mac:
            assert time.monotonic() < deadline, f"told {told}"
            with contextlib.suppress(TimeoutError):  # confirmed where it was: nothing to tell
                told = await asyncio.wait_for(self.outcome(index, address), 0.5)


@pytest.fixture
def quick_neighbours(lab):
    """Timers of the kernel's neighbour table turned down from seconds."""
    for family in ("ipv4", "ipv6"):
        sysctl(
            GATEWAY,
            **{
                f"{family}__neigh__lan0__retrans_time_ms": 20,
                f"{family}__neigh__lan0__base_reachable_time_ms": 50,
                f"{family}__neigh__lan0__delay_first_probe_time": 0,
            },
        )


@pytest.mark.parametrize("host", ["10.70.0.2", "2001:db8:70::2"])
def test_a_neighbour_is_resolved_and_followed_when_it_moves(quick_neighbours, host):
    async def scenario(watch):
        neighbours = Neighbours(watch)
        index = watch.state.link("lan0").index
        for last in (1, 2):
            ip(PEER, f"link set peer0 address 02:00:00:00:00:0{last}")
            mac = bytes([2, 0, 0, 0, 0, last])
            await neighbours.becomes(index, packed(host), mac)
            assert Neighbour(index, packed(host), mac) in watch.state.neighbours

    run(scenario)


@pytest.mark.parametrize("host", ["10.70.0.99", "2001:db8:70::99"])
def test_a_neighbour_that_does_not_answer_is_told_each_time(quick_neighbours, host):
    async def scenario(watch):
        neighbours = Neighbours(watch)
        index = watch.state.link("lan0").index
        assert await neighbours.outcome(index, packed(host)) is None
        assert await neighbours.outcome(index, packed(host)) is None
        assert all(n.ip != packed(host) for n in watch.state.neighbours)
        assert await neighbours.outcome(4711, packed(host)) is None, "no such link"

    run(scenario)


def test_a_neighbour_set_by_hand_stays_permanent(quick_neighbours):
    ip(GATEWAY, "neigh add 10.70.0.50 lladdr 02:00:00:00:00:50 dev lan0")

    async def scenario(watch):
        await watch.resolve(watch.state.link("lan0").index, packed("10.70.0.50"))
        (entry,) = json.loads(
            subprocess.check_output(command_in(GATEWAY, "ip", "-j", "neigh", "show", "10.70.0.50"))
        )
        assert entry["state"] == ["PERMANENT"]

    run(scenario)

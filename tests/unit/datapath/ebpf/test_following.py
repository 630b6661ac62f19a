"""Following the kernel's configuration while it refuses: on maps and netlink that a test has at hand."""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from types import SimpleNamespace

import pytest

from l4lb.backoff import Backoff
from l4lb.datapath.base import DatapathError
from l4lb.datapath.ebpf.following import Following
from l4lb.netlink.state import Change, Link, Neighbour, Route
from tests.unit.datapath.watch import Watch

WITHIN = 5.0
ETH0, ETH1 = (Link(index, f"eth{index}", bytes([2, 0, 0, 0, 0, index]), 1500, True) for index in (0, 1))
ROUTE = Route(bytes([10, 9, 0, 0]), 16, 1)


class Kernel:
    """Takes what it is told, unless it refuses: so many times, from now on."""

    def __init__(self):
        self.refusals = 0.0
        self.error = OSError(errno.ENOBUFS, "No buffer space available")
        self.programs, self.interfaces, self.routes = {}, {}, ()
        self.generation = 0
        self.tries = 0
        self.refuses_programs = False
        self.attached = frozenset()

    def take(self):
        self.tries += 1
        if self.refusals:
            self.refusals -= 1
            raise self.error

    # programs.hooks, tables and MTUs

    def pin_again(self):
        return False

    def put_on(self, interfaces):
        if self.refuses_programs:
            raise self.error
        self.programs = dict(interfaces)
        return []

    def set_interfaces(self, interfaces):
        self.take()
        changed, self.interfaces = interfaces != self.interfaces, interfaces
        return changed

    def update(self, routes):
        self.take()
        self.routes = tuple(routes)

    def routes_changed(self):
        self.take()
        self.generation += 1


def follow(scenario, monkeypatch):
    """Run a scenario of (kernel, watch, settled) while what changes is followed; ``settled`` waits until
    nothing is left to be followed."""
    monkeypatch.setattr("l4lb.datapath.tasks.Backoff", partial(Backoff, first=0.001, longest=0.002))
    monkeypatch.setattr("l4lb.datapath.ebpf.following.xdp_features", lambda indices: kernel.take() or {})

    async def work(function, *arguments):
        """As the datapath's own."""
        await asyncio.sleep(0)
        try:
            return function(*arguments)
        except OSError as error:
            raise DatapathError(f"the xdp datapath cannot ask the kernel: {error.strerror}") from None

    async def settled():
        async with asyncio.timeout(WITHIN):
            while following._changed.is_set() or following._retry or kernel.refusals:
                await asyncio.sleep(0.001)
            for _ in range(20):  # the last turn
                await asyncio.sleep(0)

    async def run():
        nonlocal following
        watch = Watch(links=(ETH0,))
        programs = SimpleNamespace(hooks=kernel, pin_again=kernel.pin_again, directory="pins")
        following = Following(watch, "xdp", programs, kernel, kernel, work)
        watch.following = following
        following.interfaces = ("eth0", "eth1")
        following.subscribe()
        await following.all()
        task = asyncio.create_task(following.forever())
        try:
            await scenario(kernel, watch, settled)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait((task,))

    kernel, following = Kernel(), None
    asyncio.run(run())


ERRORS = [
    OSError(errno.ENOBUFS, "No buffer space available"),
    OSError(errno.EBUSY, "Device or resource busy"),
    TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error.errno])
@pytest.mark.parametrize("refusals", [1, 2, 3, 30])
def test_a_kernel_that_refuses_for_some_time_is_followed_to_the_last_state(
    monkeypatch, caplog, error, refusals
):
    async def scenario(kernel, watch, settled):
        kernel.error, kernel.refusals = error, refusals
        watch.change(Change(links=True, routes=True), links=(ETH0, ETH1), routes=(ROUTE,))
        await settled()
        assert kernel.programs == {0: "eth0", 1: "eth1"}
        assert set(kernel.interfaces) == {0, 1}
        assert kernel.routes == (ROUTE,)

    follow(scenario, monkeypatch)
    first, *more = caplog.messages
    assert first == f"the xdp datapath cannot ask the kernel: {error.strerror}: it is tried again"
    assert len(more) == {1: 0, 2: 1, 3: 3, 30: 9}[refusals], "of links and of routes"


def test_after_a_failure_everything_is_followed_not_only_what_failed(monkeypatch):
    """The change of routes has been taken from the list, and what a look has left undone is on none."""

    async def scenario(kernel, watch, settled):
        kernel.refusals = 1
        neighbour = Neighbour(0, bytes([10, 9, 0, 1]), bytes(6))
        watch.change(Change(neighbours=(neighbour,)), links=(ETH0, ETH1), routes=(ROUTE,))
        await settled()
        assert set(kernel.interfaces) == {0, 1}
        assert kernel.routes == (ROUTE,)

    follow(scenario, monkeypatch)


def test_an_interface_that_takes_no_program_keeps_no_route_from_being_followed(monkeypatch):
    async def scenario(kernel, watch, settled):
        kernel.refuses_programs = True
        watch.change(Change(links=True), links=(ETH0, ETH1))
        for number in range(1, 30):
            generation = kernel.generation
            routes = (Route(bytes([10, 9, number, 0]), 24, 1),)
            watch.change(Change(routes=True), links=(ETH0, ETH1), routes=routes)
            async with asyncio.timeout(WITHIN):
                while kernel.routes != routes or kernel.generation == generation:
                    await asyncio.sleep(0.001)
        following = watch.following
        assert following.trouble.startswith(
            "interfaces: the xdp datapath cannot ask the kernel: No buffer space"
        )
        kernel.refuses_programs = False
        async with asyncio.timeout(WITHIN):
            while kernel.programs != {0: "eth0", 1: "eth1"} or following.trouble:
                await asyncio.sleep(0.001)

    follow(scenario, monkeypatch)


def test_a_kernel_that_refuses_for_ever_is_asked_for_ever_and_the_log_stays_short(monkeypatch, caplog):
    async def scenario(kernel, watch, settled):
        kernel.refusals = float("inf")
        watch.change(Change(links=True), links=(ETH0, ETH1))
        before = kernel.tries
        async with asyncio.timeout(WITHIN):
            while kernel.tries < before + 100:
                await asyncio.sleep(0.001)

    follow(scenario, monkeypatch)
    assert 12 <= len(caplog.messages) <= 14

"""The datapath as a whole: where it cannot begin, and how it follows the kernel's configuration."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from dataclasses import replace
from functools import partial

import pytest

from l4lb.backoff import Backoff
from l4lb.datapath.base import DatapathError
from l4lb.datapath.ebpf.datapath import EbpfDatapath
from l4lb.datapath.ebpf.numbers import OutOfNumbers
from l4lb.datapath.libbpf import LibbpfError
from l4lb.model import Limits
from l4lb.netlink.state import Change, Link, Neighbour, Route
from tests.unit.datapath.ebpf.kernel import file_system
from tests.unit.datapath.watch import Watch

SMALL = Limits(half_open=1024, established=1024, affinity=1024, fragments=1024)
ETH1, ETH2 = (Link(index, f"eth{index}", bytes(6), 1500, True) for index in (901, 902))
WITHIN = 5.0
CROWDED = "no place for 10.1.0.100:80 in the table of VIPs and backends: it is too crowded there"


def test_tables_that_cannot_be_taken_over_are_a_reason_to_fall_back(bpf_possible, monkeypatch):
    """And not the end of the daemon."""

    def crowded(maps):
        raise OutOfNumbers(CROWDED)

    async def load(directory):
        EbpfDatapath(None, "tc", SMALL, file_system=directory).load()

    monkeypatch.setattr("l4lb.datapath.ebpf.datapath.Tables", crowded)
    with file_system() as directory, pytest.raises(DatapathError, match=CROWDED):
        asyncio.run(load(directory))


def test_tables_that_are_taken_over_keep_the_limits_they_were_made_for(bpf_possible):
    async def made_for(size):
        limits = Limits(half_open=size, established=size, affinity=size, fragments=size)
        datapath = EbpfDatapath(None, "tc", limits, file_system=directory)
        datapath.load()
        known = datapath.capabilities.made_for
        await datapath.close(hold=True)
        return known

    with file_system() as directory:
        assert asyncio.run(made_for(1024)) == asyncio.run(made_for(2048)) == Limits(1024, 1024, 1024, 1024)


@contextlib.asynccontextmanager
async def attached(watch, **settings):
    """A datapath that runs, without interfaces; what it had to do is done."""
    with file_system() as directory:
        datapath = EbpfDatapath(watch, "tc", SMALL, file_system=directory, **settings)
        try:
            await datapath.attach([])
            yield datapath
        finally:
            await datapath.close(hold=False)


async def followed(datapath):
    """Once the changes that were told are followed: each takes fewer turns of the worker than this."""
    for _ in range(8):
        await datapath.details()


def generation(datapath):
    """What the programs compare their hops with."""
    return datapath._tables._settings.generation


def test_the_snapshot_of_the_kernel_is_taken_where_it_changes(bpf_possible):
    """In the worker's thread it could be half of the one and half of the next, and would stay."""

    async def follow():
        watch, routes = Watch(links=(ETH1,)), (Route(bytes(4), 0, 901, mtu=1400),)
        async with attached(watch) as datapath:
            watch.change(Change(links=True, routes=True), links=(ETH1, ETH2), routes=routes)
            await followed(datapath)
            return datapath._tables.interfaces.keys(), datapath._following._mtus._present

    assert asyncio.run(follow()) == ({901, 902}, {(bytes(4), 0): 1400})


MANY = tuple(Link(1000 + index, f"none{index}", bytes(6), 1500, True) for index in range(1100))


def test_a_host_of_containers_has_more_than_a_thousand_interfaces(bpf_possible, caplog):
    async def known():
        async with attached(Watch(links=MANY)) as datapath:
            return len(datapath._tables.interfaces)

    assert asyncio.run(known()) == len(MANY)
    assert "more interfaces" not in caplog.text


def test_interfaces_without_room_in_a_map_that_is_taken_over_are_named_once(
    bpf_possible, monkeypatch, caplog
):
    async def known():
        watch = Watch(links=MANY)
        async with attached(watch) as datapath:
            watch.change(Change(links=True), links=(ETH1, *MANY))
            await followed(datapath)
            return len(datapath._tables.interfaces)

    monkeypatch.setattr("l4lb.datapath.ebpf.programs._INTERFACES", 1024)
    assert asyncio.run(known()) == 1024
    (line,) = [record.getMessage() for record in caplog.records if "more interfaces" in record.getMessage()]
    left = "none1024, none1025, none1026, none1027, none1028 and 71 more"
    assert (
        line
        == f"more interfaces than the programs have room for (1024): frames go the longer way by {left}"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/sys/fs/bpf/l4lb"), "cannot use the pins"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot ask the kernel"),
    ],
)
def test_what_cannot_be_done_is_named(bpf_possible, monkeypatch, error, told):
    def fail(interfaces):
        raise error

    async def attach():
        async with attached(Watch()) as datapath:
            monkeypatch.setattr(datapath._loaded.hooks, "put_on", fail)
            with pytest.raises(DatapathError) as raised:
                await datapath.attach([])
            return str(raised.value)

    assert asyncio.run(attach()) == f"the tc datapath {told}: {error}"


def test_what_changes_while_it_begins_is_not_missed(bpf_possible):
    async def begin():
        async def change():
            routes = (Route(bytes(4), 0, 901, mtu=1400),)
            watch.change(Change(links=True, routes=True), links=(ETH1, ETH2), routes=routes)

        watch = Watch(links=(ETH1,))
        async with attached(watch, remove_others=change) as datapath:
            await followed(datapath)
            return datapath._tables.interfaces.keys(), datapath._following._mtus._present

    assert asyncio.run(begin()) == ({901, 902}, {(bytes(4), 0): 1400})


def test_one_that_could_not_begin_follows_nothing(bpf_possible):
    async def begin():
        async def fail():
            raise DatapathError("the shield cannot be removed")

        watch = Watch()
        with file_system() as directory:
            datapath = EbpfDatapath(watch, "tc", SMALL, file_system=directory, remove_others=fail)
            with pytest.raises(DatapathError, match="shield"):
                await datapath.attach([])
            assert not watch.subscribers
            await datapath.close(hold=False)

    asyncio.run(begin())


def test_a_hundred_changes_while_the_worker_is_busy_are_followed_together(bpf_possible, monkeypatch):
    busy, go_on, runs = threading.Event(), threading.Event(), []

    async def follow():
        watch = Watch()
        async with attached(watch) as datapath:
            follow = datapath._tables.routes_changed

            def slowly():
                runs.append(None)
                busy.set()
                go_on.wait(WITHIN)
                follow()

            monkeypatch.setattr(datapath._tables, "routes_changed", slowly)
            watch.change(Change(addresses=True))
            await asyncio.to_thread(busy.wait, WITHIN)
            for _ in range(100):
                watch.change(Change(addresses=True))
            go_on.set()
            await followed(datapath)

    asyncio.run(follow())
    assert len(runs) == 2


HOST = bytes((10, 2, 0, 11))
SILENT, FOUND = (Change(neighbours=(Neighbour(901, HOST, mac),)) for mac in (None, bytes(6)))


@pytest.mark.parametrize(
    ("changes", "generations"),
    [((SILENT,), 0), ((SILENT, FOUND), 1), ((FOUND, SILENT), 2), ((FOUND, SILENT, SILENT), 2)],
)
def test_hops_are_void_when_a_neighbour_comes_or_goes(bpf_possible, monkeypatch, changes, generations):
    """But not when one that never answered does not answer again. Routes are left alone."""

    async def follow():
        watch = Watch()
        async with attached(watch) as datapath:
            monkeypatch.setattr(datapath._following, "_mtus", None)
            before = generation(datapath)
            for change in changes:
                watch.change(change)
                await followed(datapath)
            return generation(datapath) - before

    assert asyncio.run(follow()) == generations


def test_of_neighbours_known_from_the_beginning_it_is_news_that_they_are_silent(bpf_possible):
    async def follow():
        watch = Watch(neighbours=(Neighbour(901, HOST, bytes(6)),))
        async with attached(watch) as datapath:
            before = generation(datapath)
            watch.change(SILENT)
            await followed(datapath)
            return generation(datapath) - before

    assert asyncio.run(follow()) == 1


def test_an_interface_with_another_name_keeps_its_programs_until_the_second_look(bpf_possible, monkeypatch):
    """The first one may come before those who want it have heard of its name."""
    put = []

    def put_on(self, interfaces):
        put.append(dict(interfaces))
        return []

    async def looks():
        watch = Watch(links=(ETH1,))
        async with attached(watch) as datapath:
            await datapath.attach(["eth901"])
            watch.change(Change(links=True), links=(replace(ETH1, name="lan9"),))
            await followed(datapath)
            for look in (True, False, True):
                await datapath._work(datapath._following._put_programs, watch.state.links, look)
            return put[-4:]

    monkeypatch.setattr("l4lb.datapath.ebpf.hooks.Hooks.put_on", put_on)
    assert asyncio.run(looks()) == [{901: "lan9"}, {901: "lan9"}, {901: "lan9"}, {}]


class Descriptors:
    """They run out so many times."""

    def __init__(self, failures):
        self.failures, self.tries = failures, 0
        self.enough = threading.Event()

    def take(self):
        """In the worker's thread."""
        self.tries += 1
        if self.tries > self.failures:
            self.enough.set()
        else:
            raise LibbpfError("create a map: Too many open files", errno.EMFILE)


@pytest.fixture
def impatient(monkeypatch):
    """Pauses are short."""
    monkeypatch.setattr("l4lb.datapath.tasks.Backoff", partial(Backoff, first=0.001, longest=0.002))
    monkeypatch.setattr("l4lb.datapath.ebpf.datapath._SWEEP", 0.01)
    monkeypatch.setattr("l4lb.datapath.ebpf.following._LOOK", 0.01)


@pytest.mark.parametrize("turn", ["sweep", "look", "follow", "reset"])
@pytest.mark.parametrize("failures", [1, 20])
def test_descriptors_that_run_out_are_not_the_end(bpf_possible, monkeypatch, impatient, turn, failures):
    def steps(paths):
        descriptors.take()
        yield

    def put_on(interfaces):
        descriptors.take()
        return []

    def ask(query):
        asked.append(query)
        descriptors.take()
        yield from ()

    async def run():
        watch = Watch()
        async with attached(watch) as datapath:
            if turn == "sweep":
                monkeypatch.setattr(datapath._sweep, "steps", steps)
            elif turn == "reset":
                monkeypatch.setattr(datapath._connections, "ask", ask)
                datapath._tables.to_reset = {7}
                datapath._reset_soon()
            else:
                monkeypatch.setattr(datapath._loaded.hooks, "put_on", put_on)
            if turn == "follow":
                monkeypatch.setattr("l4lb.datapath.ebpf.following._LOOK", 3_600)
                watch.change(Change(links=True), links=(ETH1,))
            failed = asyncio.ensure_future(datapath.wait_failed())
            assert await asyncio.to_thread(descriptors.enough.wait, WITHIN)
            assert not failed.done()
            failed.cancel()

    asked, descriptors = [], Descriptors(failures)
    asyncio.run(run())
    assert {query.paths for query in asked} == ({frozenset({7})} if turn == "reset" else set())


@pytest.mark.parametrize("turn", ["sweep", "look", "follow", "reset"])
def test_a_bug_is(bpf_possible, monkeypatch, impatient, turn):
    """What the datapath remembers of the maps may be wrong: the next one reads it from them."""

    def odd(*_):
        raise KeyError("odd")

    async def run():
        watch = Watch()
        async with attached(watch) as datapath:
            if turn == "sweep":
                monkeypatch.setattr(datapath._tables, "retired", odd)
            elif turn == "look":
                monkeypatch.setattr(datapath._loaded.hooks, "put_on", odd)
            elif turn == "follow":
                monkeypatch.setattr(datapath._following._mtus, "update", odd)
                watch.change(Change(routes=True))
            else:
                monkeypatch.setattr(datapath._connections, "ask", odd)
                datapath._tables.to_reset = {7}
                datapath._reset_soon()
            async with asyncio.timeout(WITHIN):
                return await datapath.wait_failed()

    assert asyncio.run(run()) == "'odd'"

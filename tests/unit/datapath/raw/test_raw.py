"""What the packet process is told, and when: never of an interface without its shield."""

import asyncio

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.raw.datapath import RawDatapath
from l4lb.model import Plan
from l4lb.netlink.state import Change, Link, Route
from tests.unit.datapath.watch import Watch

ETH0, ETH1, ETH3 = (Link(index + 1, f"eth{index}", bytes(6), 1500, True) for index in (0, 1, 3))
AGAIN = Link(7, "eth1", bytes(6), 1500, True)
LINKS, NEW_LINKS = Change(links=True), (ETH0, AGAIN)
ROUTES, NEW_ROUTES = Change(routes=True), (Route(bytes(4), 0, 1),)
WITHIN = 5.0


class Process:
    """A packet process that writes down which links it is told of, and what of the kernel it knows."""

    pid = 1
    open = True

    def __init__(self, resolve):
        self.told = asyncio.Queue()
        self.links = set()
        self.routes = {}
        self.answers = asyncio.Event()
        self.answers.set()
        self.ended = asyncio.get_running_loop().create_future()

    async def start(self):
        pass

    async def wait(self):
        return await self.ended

    async def end(self):
        pass

    async def request(self, name, *arguments, timeout=0.0):
        if name == "kernel":
            (news,) = arguments
            if news.links is not None:
                self.links = {link.index for link in news.links}
            self.routes |= news.routes
            self.told.put_nowait(self.links)
            await self.answers.wait()
        return (0, 0) if name == "plan" else None

    def tell(self, name, *arguments):
        assert name == "neighbours"


class Shield:
    """A shield that fails as often as it is told to."""

    def __init__(self):
        self.failures = 0
        self.applied = []

    async def apply(self, claim, interfaces):
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise DatapathError("no memory")
        self.applied.append(interfaces)
        return interfaces

    async def loaded(self):
        return True

    async def remove(self):
        return True


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a test with a datapath that takes packets of eth0 and eth1: test(datapath, watch)."""
    monkeypatch.setattr("l4lb.datapath.raw.datapath.PacketProcess", Process)
    monkeypatch.setattr("l4lb.datapath.raw.datapath.Shield", Shield)

    async def with_datapath(test):
        watch = Watch(links=(ETH0, ETH1))
        datapath = RawDatapath(watch, tmp_path / "l4lb", 0.0)
        await datapath.attach(["eth0", "eth1"])
        await datapath.apply(Plan())
        assert await datapath._process.told.get() == {1, 2}
        try:
            async with asyncio.timeout(WITHIN):
                await test(datapath, watch)
        finally:
            await datapath.close(hold=False)

    return lambda test: asyncio.run(with_datapath(test))


def test_an_interface_that_has_come_back_is_told_of_when_it_is_shielded(run):
    async def test(datapath, watch):
        watch.change(LINKS, links=NEW_LINKS)
        assert datapath._process.told.empty()
        assert await datapath._process.told.get() == {1, 7}

    run(test)


def test_without_a_shield_it_is_not_told_of_and_soon_tried_again(run, monkeypatch):
    monkeypatch.setattr("l4lb.datapath.raw.datapath._LOOK", 0.01)

    async def test(datapath, watch):
        datapath._shield.failures = 1
        watch.change(LINKS, links=NEW_LINKS)
        assert await datapath._process.told.get() == {1}
        assert await datapath._process.told.get() == {1, 7}
        assert datapath._shield.applied[-1] == ("eth0", "eth1")

    run(test)


def test_nor_is_it_when_routes_change_meanwhile(run):
    async def test(datapath, watch):
        datapath._shield.failures = 1
        watch.change(LINKS, links=NEW_LINKS)
        assert await datapath._process.told.get() == {1}
        watch.change(ROUTES, links=NEW_LINKS, routes=NEW_ROUTES)
        assert await datapath._process.told.get() == {1}

    run(test)


def route_changes(datapath, watch, links):
    """From now on a route changes whenever the shield is being loaded."""
    apply = datapath._shield.apply

    async def meanwhile(claim, interfaces):
        watch.change(ROUTES, links=links, routes=NEW_ROUTES)
        return await apply(claim, interfaces)

    datapath._shield.apply = meanwhile


async def last_told(datapath):
    told = await datapath._process.told.get()
    while not datapath._process.told.empty():
        told = await datapath._process.told.get()
    return told


def test_a_route_that_changes_while_another_plan_is_shielded_takes_no_interface_away(run):
    async def test(datapath, watch):
        datapath._shielded = frozenset()  # as before the first plan
        datapath._claim = None
        route_changes(datapath, watch, (ETH0, ETH1, ETH3))
        await datapath.apply(Plan())
        assert await last_told(datapath) == {1, 2, 4}

    run(test)


def test_nor_while_another_interface_is(run):
    async def test(datapath, watch):
        watch.change(LINKS, links=(ETH0, ETH1, ETH3))
        await datapath._process.told.get()
        route_changes(datapath, watch, (ETH0, ETH1, ETH3))
        await datapath.attach(["eth0", "eth1", "eth3"])
        assert await last_told(datapath) == {1, 2, 4}

    run(test)


def test_nor_while_one_is_that_is_refused_at_first(run):
    async def test(datapath, watch):
        watch.change(LINKS, links=(ETH0, ETH1, ETH3))
        await datapath._process.told.get()
        route_changes(datapath, watch, (ETH0, ETH1, ETH3))
        datapath._shield.failures = 1
        with pytest.raises(DatapathError, match="no memory"):
            await datapath.attach(["eth0", "eth1", "eth3"])
        await datapath.attach(["eth0", "eth1", "eth3"])
        assert await last_told(datapath) == {1, 2, 4}

    run(test)


def test_what_cannot_be_shielded_is_said_once_and_nothing_is_told_again(run, monkeypatch, caplog):
    monkeypatch.setattr("l4lb.datapath.raw.datapath._LOOK", 0.01)

    async def test(datapath, watch):
        datapath._shield.failures = 1_000
        watch.change(LINKS, links=NEW_LINKS)
        assert await datapath._process.told.get() == {1}
        await asyncio.sleep(0.2)
        assert datapath._shield.failures < 995
        assert datapath._process.told.empty()

    run(test)
    assert [record.message for record in caplog.records].count("no memory") <= 2  # by the change, by a look


def test_an_interface_that_could_not_be_attached_is_still_a_way_out(run):
    async def test(datapath, watch):
        watch.change(LINKS, links=(ETH0, ETH1, ETH3))
        await datapath._process.told.get()
        datapath._shield.failures = 1
        with pytest.raises(DatapathError, match="no memory"):
            await datapath.attach(["eth0", "eth1", "eth3"])
        watch.change(ROUTES, links=(ETH0, ETH1, ETH3), routes=NEW_ROUTES)
        assert await datapath._process.told.get() == {1, 2, 4}

    run(test)


def test_many_changes_of_routes_are_few_messages_and_the_last_state_arrives(run):
    def route(number):
        return Route(bytes([10, *divmod(number, 256), 0]), 24, 1)

    async def test(datapath, watch):
        process = datapath._process
        process.answers.clear()
        for number in range(1_000):
            watch.change(ROUTES, links=(ETH0, ETH1), routes=(route(number), route(number + 1)))
            await asyncio.sleep(0)
        await process.told.get()
        assert process.told.empty()
        process.answers.set()
        await process.told.get()
        await asyncio.sleep(0)
        assert process.told.empty()
        there = {prefix for prefix, routes in process.routes.items() if routes}
        assert there == {(bytes([10, 3, 231, 0]), 24), (bytes([10, 3, 232, 0]), 24)}

    run(test)


def test_a_packet_process_that_ends_is_the_datapaths_end(run):
    async def test(datapath, watch):
        datapath._process.ended.set_result(-9)
        assert await datapath.wait_failed() == "the packet process ended with status -9"

    run(test)


def test_so_is_a_bug_in_what_looks_after_it(run, monkeypatch, caplog):
    monkeypatch.setattr("l4lb.datapath.raw.datapath._LOOK", 0.01)

    async def test(datapath, watch):
        async def loaded():
            raise RuntimeError("odd")

        datapath._shield.loaded = loaded
        assert await datapath.wait_failed() == "odd"

    run(test)
    assert [(each.message, each.exc_info is not None) for each in caplog.records] == [
        ("a bug in the datapath", True)
    ]


@pytest.mark.parametrize("failures", [0, 1])
def test_others_go_when_all_is_ready_for_the_plan_and_not_before(monkeypatch, tmp_path, failures):
    """Where the shield cannot be loaded, they go on."""

    class Told(Process):
        async def request(self, name, *arguments, timeout=0.0):
            events.append(name)
            return await super().request(name, *arguments)

    async def remove_others():
        events.append("others go")

    async def test():
        datapath = RawDatapath(Watch(links=(ETH0,)), tmp_path / "l4lb", 0.0, remove_others=remove_others)
        datapath._shield.failures = failures
        await datapath.attach(["eth0"])
        if failures:
            with pytest.raises(DatapathError, match="no memory"):
                await datapath.apply(Plan())
        else:
            await datapath.apply(Plan())
            await datapath.apply(Plan())
        await datapath.close(hold=False)

    events = []
    monkeypatch.setattr("l4lb.datapath.raw.datapath.PacketProcess", Told)
    monkeypatch.setattr("l4lb.datapath.raw.datapath.Shield", Shield)
    asyncio.run(test())
    taken = [] if failures else ["others go", "plan", "plan"]
    assert events == ["kernel", "attach", *taken, "stop"]

"""A datapath that dies is started again with what was last wanted of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from l4lb.backoff import Backoff
from l4lb.control.supervisor import DatapathSupervisor
from l4lb.datapath.base import DatapathError
from l4lb.model import Plan
from tests.unit.control.fake_datapath import DEADLINE, FakeDatapath

ONE, TWO = Plan(snat_ports=(1, 1)), Plan(snat_ports=(2, 2))


class Factory:
    """Makes the datapaths given, in order."""

    def __init__(self, *datapaths: FakeDatapath) -> None:
        self._left = list(datapaths)
        self.made = asyncio.Queue()

    def __call__(self) -> FakeDatapath:
        datapath = self._left.pop(0)
        self.made.put_nowait(datapath)
        return datapath


def supervisor(*datapaths):
    return DatapathSupervisor(Factory(*datapaths), Backoff(first=0.0, longest=0.0))


def test_a_datapath_is_told_only_what_is_new():
    async def scenario():
        datapath = FakeDatapath()
        keeper = supervisor(datapath)
        await keeper.start(["eth0"], ONE)
        await keeper.update(["eth0"], ONE)
        await keeper.update(["eth0"], TWO)
        await keeper.update(["eth0", "eth1"], TWO)
        await keeper.close(hold=True)
        assert datapath.plans == [ONE, TWO]
        assert datapath.attached == [("eth0",), ("eth0", "eth1")]
        assert datapath.held is True

    asyncio.run(scenario())


@pytest.mark.parametrize("took_over", [False, True])
def test_a_first_datapath_that_cannot_run_is_closed_and_the_reason_told(took_over):
    async def scenario():
        datapath = FakeDatapath()
        datapath.took_over = took_over
        datapath.refusal = "no packet sockets here"
        with pytest.raises(DatapathError, match="no packet sockets here"):
            await supervisor(datapath).start(["eth0"], ONE)
        assert datapath.held is took_over

    asyncio.run(scenario())


@pytest.mark.parametrize("took_over", [False, True])
def test_a_start_that_is_cancelled_leaves_nothing_but_what_was_there(took_over):
    async def scenario():
        class Slow(FakeDatapath):
            async def apply(self, plan):
                started.set()
                await asyncio.Event().wait()

        started = asyncio.Event()
        datapath = Slow()
        datapath.took_over = took_over
        start = asyncio.create_task(supervisor(datapath).start(["eth0"], ONE))
        await asyncio.wait_for(started.wait(), DEADLINE)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert datapath.held is took_over

    asyncio.run(scenario())


async def after_a_refusal(interfaces, plan):
    """A datapath on eth0 with plan ONE that once refused to be changed to these, and its supervisor."""
    datapath = FakeDatapath()
    keeper = supervisor(datapath)
    await keeper.start(["eth0"], ONE)
    datapath.refusal = "not now"
    with pytest.raises(DatapathError, match="not now"):
        await keeper.update(interfaces, plan)
    datapath.refusal = None
    return datapath, keeper


def test_a_refused_plan_is_tried_again_with_the_next_update():
    async def scenario():
        datapath, keeper = await after_a_refusal(["eth0"], TWO)
        await keeper.update(["eth0"], TWO)
        await keeper.close(hold=False)
        assert datapath.plans == [ONE, TWO]

    asyncio.run(scenario())


def test_after_a_refusal_what_was_there_before_is_made_true_again():
    """Part of what was refused may have been done."""

    async def scenario():
        datapath, keeper = await after_a_refusal(["eth0", "eth2"], ONE)
        await keeper.update(["eth0"], ONE)
        assert (datapath.attached, datapath.plans) == ([("eth0",)] * 2, [ONE] * 2)
        await keeper.update(["eth0"], ONE)
        assert len(datapath.plans) == 2
        await keeper.close(hold=False)

    asyncio.run(scenario())


def test_a_dead_datapath_that_cannot_be_cleared_away_is_tried_again(caplog):
    async def scenario():
        first, second = FakeDatapath(), FakeDatapath()
        close, failures = first.close, [OSError(12, "Cannot allocate memory")]

        async def fail_once(*, hold):
            if failures:
                raise failures.pop()
            await close(hold=hold)

        first.close = fail_once
        keeper = supervisor(first, second)
        await keeper.start(["eth0"], ONE)
        first.die("killed by signal 9")
        assert await second.plan_where(lambda plan: True) == ONE
        await keeper.close(hold=False)

    asyncio.run(scenario())
    assert "Cannot allocate memory" in caplog.text


def test_a_dead_datapath_is_replaced_with_the_same_plan(caplog):
    async def scenario():
        first, second = FakeDatapath(), FakeDatapath()
        keeper = supervisor(first, second)
        await keeper.start(["eth0"], ONE)
        await keeper.update(["eth0"], TWO)
        first.die("killed by signal 9")
        assert await second.plan_where(lambda plan: True) == TWO
        assert second.attached == [("eth0",)]
        assert first.held is True
        await keeper.close(hold=False)

    asyncio.run(scenario())
    assert "the datapath died: killed by signal 9; restarting it at once" in caplog.text


def test_restarts_go_on_until_one_succeeds_and_the_reason_is_known_meanwhile():
    async def scenario():
        first, second, third = FakeDatapath(), FakeDatapath(), FakeDatapath()
        second.refusal = "still no memory"
        resumed = asyncio.Event()

        class Patient(Backoff):
            def after_run(self, lasted):
                if keeper.failure == "still no memory":
                    failed.set()
                return 0.0

        failed = asyncio.Event()
        keeper = DatapathSupervisor(Factory(first, second, third), Patient())
        await keeper.start(["eth0"], ONE)
        assert keeper.running is first
        blocked = third.attach

        async def attach(interfaces):
            await resumed.wait()
            await blocked(interfaces)

        third.attach = attach
        first.die("killed")
        await asyncio.wait_for(failed.wait(), DEADLINE)
        with pytest.raises(DatapathError, match="still no memory"):
            _ = keeper.running
        # What is wanted while none runs waits for the next one.
        waiting = asyncio.create_task(keeper.update(["eth1"], TWO))
        resumed.set()
        await third.plan_where(lambda plan: plan == TWO)
        await waiting
        assert third.attached[-1] == ("eth1",)
        assert keeper.running is third
        await keeper.close(hold=False)

    asyncio.run(scenario())


def test_a_bug_in_a_restart_is_logged_and_does_not_end_the_restarts(caplog):
    async def scenario():
        first, second = FakeDatapath(), FakeDatapath()
        left = [first, second]

        def make():
            if len(left) == 1 and not broken:
                broken.append(True)
                raise RuntimeError("a bug")
            return left.pop(0)

        broken = []
        keeper = DatapathSupervisor(make, Backoff(first=0.0, longest=0.0))
        await keeper.start(["eth0"], ONE)
        first.die("killed")
        assert await second.plan_where(lambda plan: True) == ONE
        await keeper.close(hold=False)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert "RuntimeError: a bug" in caplog.text


def test_after_an_upgrade_in_place_none_is_started_again(caplog):
    """Also where the upgrade comes while restarts are tried, as one that is under way makes them fail."""

    async def scenario(failures):
        first, *others = [FakeDatapath() for _ in range(3)]
        for each in others:
            each.refusal = "cannot import name 'Backoff'"
        factory = Factory(first, *others)
        keeper = DatapathSupervisor(
            factory,
            Backoff(first=0.0, longest=0.0),
            code_has_changed=lambda: factory.made.qsize() > failures,
        )
        await keeper.start(["eth0"], ONE)
        ended = asyncio.create_task(keeper.outdated())
        await asyncio.sleep(0)
        assert not ended.done()
        first.die("killed by signal 9")
        await asyncio.wait_for(ended, DEADLINE)
        assert factory.made.qsize() == 1 + failures
        with pytest.raises(DatapathError, match="not running"):
            _ = keeper.running
        await keeper.close(hold=True)
        assert keeper.latest.held is True

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario(0))
    assert caplog.messages == ["the datapath died: killed by signal 9"]
    asyncio.run(scenario(1))

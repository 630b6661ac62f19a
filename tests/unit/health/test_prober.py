"""The prober: what is sent when, and how it ends. On a clock that jumps, with senders of the test's."""

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import pytest

from l4lb.health.budget import Budget
from l4lb.health.prober import Prober
from l4lb.health.probes.result import CannotProbe, Outcome, ProbeResult
from l4lb.health.rise_fall import Health, HealthState
from l4lb.model import Backend, Counters, Endpoint, Probes, Service, Verdict

A = Endpoint.parse("10.2.0.11:80")
WEB = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(A),))
ANSWERED = ProbeResult(Outcome.ANSWERED, 0.001, 3)


class FakeSender:
    def __init__(self):
        self.late = self.forged = self.repeated = 0
        self.sent = []
        self.result = ANSWERED
        self.takes = 0.01  # seconds
        self.closed = False

    async def send(self, kind, target, check):
        self.sent.append((asyncio.get_running_loop().time(), target))
        await asyncio.sleep(self.takes)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def close(self):
        self.closed = True


class Bench:
    def __init__(self):
        self.sender = FakeSender()
        self.forwarded = 0
        self.datapath = True
        self.looks = 0
        self.prober = Prober(
            self.counters,
            lambda service, backend: Health(HealthState.UP, -1e6),
            lambda service, backend: False,
            Budget(Probes(), asyncio.get_running_loop().time()),
            clock=asyncio.get_running_loop().time,
            random=Random(1),
            sender=self.sender,
        )

    async def counters(self):
        self.looks += 1
        if not self.datapath:
            return None
        return Counters({}, {Verdict.FORWARD: self.forwarded}, {})


@asynccontextmanager
async def bench(*services):
    bench = Bench()
    bench.prober.update(services or (WEB,), enabled=True)
    bench.prober.start()
    try:
        yield bench
    finally:
        await bench.prober.close()
        assert bench.sender.closed


def test_an_idle_backend_is_probed_at_the_pace_of_its_patience(run):
    async def scenario():
        async with bench() as b:
            await asyncio.sleep(100)
            assert 9 <= len(b.sender.sent) <= 11
            last, now = b.prober.last("web", A), asyncio.get_running_loop().time()
            assert last.result == ANSWERED
            assert 0 <= now - last.at <= 11
            report = b.prober.report()
            assert report.sent == report.answered == len(b.sender.sent)
            assert report.packets == 3 * report.sent

    run(scenario())


def test_many_idle_backends_share_the_floor_evenly_in_time(run):
    backends = tuple(Backend(Endpoint(A.ip, port)) for port in range(1, 101))

    async def scenario():
        async with bench(Service("web", WEB.address, backends=backends)) as b:
            await asyncio.sleep(300)
            times = [when for when, _ in b.sender.sent]
            assert 98 <= len(times) <= 100
            gaps = [later - sooner for sooner, later in pairwise(times)]
            assert max(gaps) < 3.5, "three packets each at one a second, and not in heaps"
            assert len({target for _, target in b.sender.sent}) == len(times)
            assert b.prober.report().withheld > 1_000

    run(scenario())


def test_what_is_forwarded_raises_the_budget(run):
    backends = tuple(Backend(Endpoint(A.ip, port)) for port in range(1, 101))

    async def scenario():
        async with bench(Service("web", WEB.address, backends=backends)) as b:
            for _ in range(100):
                b.forwarded += 20_000
                await asyncio.sleep(1)
            report = b.prober.report()
            assert 0.0009 <= report.packets / report.forwarded_packets <= 0.001

    run(scenario())


@pytest.mark.parametrize(("backends", "looks"), [(1, 60), (100, 60), (200, 30), (1_000, 15), (10_000, 15)])
def test_many_backends_are_looked_at_less_often(run, backends, looks):
    web = Service("web", WEB.address, backends=tuple(Backend(Endpoint(A.ip, n)) for n in range(backends)))

    async def scenario():
        async with bench(web) as b:
            await asyncio.sleep(59.9)
            assert b.looks == pytest.approx(looks, abs=1)

    run(scenario())


def test_without_a_datapath_no_figures_and_no_heaps_afterwards(run):
    async def scenario():
        async with bench() as b:
            b.datapath = False
            await asyncio.sleep(100)
            before = len(b.sender.sent)
            b.datapath = True
            await asyncio.sleep(5)
            assert len(b.sender.sent) - before <= 1

    run(scenario())


def test_a_host_that_cannot_probe_says_so_once_and_goes_on_trying(run, caplog):
    async def scenario():
        async with bench() as b:
            b.sender.result = CannotProbe("run this as root")
            await asyncio.sleep(60)
            assert b.prober.problem == "backends are not probed: run this as root"
            assert [record.getMessage() for record in caplog.records] == [b.prober.problem]
            assert b.prober.report().sent == 0
            assert b.prober.report().unsent > 3
            b.sender.result = ANSWERED
            await asyncio.sleep(15)
            assert b.prober.problem == ""

    run(scenario())


def test_one_backend_without_a_route_is_no_fault_of_the_host(run, caplog):
    async def scenario():
        async with bench() as b:
            b.sender.result = ProbeResult(Outcome.UNSENT, reason="network is unreachable")
            await asyncio.sleep(60)
            assert b.prober.problem == ""
            assert caplog.records == []
            assert b.prober.last("web", A).result.reason == "network is unreachable"

    run(scenario())


def test_a_broken_sender_does_not_end_the_prober(run, caplog):
    async def scenario():
        async with bench() as b:
            b.sender.result = RuntimeError("a bug")
            await asyncio.sleep(60)
            assert len(b.sender.sent) > 3
            assert "a bug" in b.prober.last("web", A).result.reason
        assert "the probe of 10.2.0.11:80 is broken" in caplog.text

    run(scenario())


def test_late_and_forged_answers_are_in_the_report_and_late_ones_are_packets(run):
    async def scenario():
        async with bench() as b:
            await asyncio.sleep(15)
            before = b.prober.report()
            b.sender.late, b.sender.forged = 2, 5
            after = b.prober.report()
            assert (after.late, after.forged, after.packets) == (2, 5, before.packets + 4)

    run(scenario())


def test_packets_that_come_after_their_probes_were_counted_are_paid_for(run):
    """Where the host's firewall drops the RST a backend answers a SYN six times."""

    async def scenario():
        async with bench() as b:
            await asyncio.sleep(15)
            before, packets = len(b.sender.sent), b.prober.report().packets
            b.sender.repeated += 30
            await asyncio.sleep(30)
            assert len(b.sender.sent) - before <= 1
            assert b.prober.report().packets >= packets + 60

    run(scenario())


def test_a_problem_is_none_any_more_where_nobody_is_probed(run):
    async def scenario():
        async with bench() as b:
            b.sender.result = CannotProbe("run this as root")
            await asyncio.sleep(15)
            assert "run this as root" in b.prober.problem
            b.prober.update([WEB], enabled=False)
            assert b.prober.problem == ""

    run(scenario())


def test_close_gives_up_what_is_under_way(run):
    async def scenario():
        async with bench() as b:
            b.sender.takes = 1e6
            await asyncio.sleep(15)
            assert len(b.sender.sent) == 1

    run(scenario())


def test_after_an_update_only_the_new_backends_are_probed(run):
    async def scenario():
        async with bench() as b:
            await asyncio.sleep(15)
            other = Endpoint.parse("10.2.0.12:80")
            b.prober.update([Service("web", WEB.address, backends=(Backend(other),))], enabled=True)
            b.sender.sent.clear()
            await asyncio.sleep(30)
            assert {target for _, target in b.sender.sent} == {other}
            b.prober.update([WEB], enabled=False)
            b.sender.sent.clear()
            await asyncio.sleep(60)
            assert b.sender.sent == []

    run(scenario())

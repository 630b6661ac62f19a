"""Looks at the backends of adaptive services, and costs for the datapath."""

import asyncio

import pytest

from l4lb import turns
from l4lb.control import adaptation
from l4lb.control.adaptation import LOOK, REST, Adaptation
from l4lb.datapath.base import DatapathError
from l4lb.health.probes.result import Outcome, ProbeKind, ProbeResult
from l4lb.health.probing import LastProbe
from l4lb.model import BackendPlan, Costs, Endpoint, Key, Load, Plan, Protocol, ServicePlan, Table
from l4lb.schedulers import adaptive
from l4lb.schedulers.scheduler import Candidate
from tests.unit.control.fake_datapath import FakeDatapath
from tests.unit.test_turns import turns_of_others_during

VIP = Endpoint.parse("10.1.0.100:80")
ONE, TWO = (Endpoint.parse(f"10.2.0.{number}:80") for number in (11, 12))
CANDIDATES = (Candidate(0, ONE, 1), Candidate(1, TWO, 1))


class Bench:
    """An adaptation with a clock of its own, on a datapath that moves no packets."""

    def __init__(self, hot=(), is_hot=None):
        self.now = 100.0
        self.datapath = FakeDatapath()
        self.hot = set(hot)
        self.adaptation = Adaptation(
            lambda: self.datapath,
            is_hot or (lambda service, backend, now: backend in self.hot),
            lambda service, backend: self.probes.get(backend),
            clock=lambda: self.now,
        )
        self.probes = {}

    def probed(self, backend, kind, outcome, seconds=None):
        """A probe of it is over."""
        self.probes[backend] = LastProbe(kind, ProbeResult(outcome, seconds), self.now + 0.05)

    def follow(self, candidates=CANDIDATES, selection=None):
        backends = tuple(BackendPlan(each) for each in (ONE, TWO))
        selection = selection or adaptive.SCHEDULER.compile(CANDIDATES)
        plan = Plan((ServicePlan("web", VIP, Protocol.TCP, selection, backends),))
        return asyncio.run(self.handed_over(plan, {"web": candidates} if candidates is not None else {}))

    async def handed_over(self, plan, candidates):
        async with self.adaptation.following(plan, candidates) as followed:
            return followed

    def look(self, one, two, times=1):
        for _ in range(times):
            self.now += 0.1
            self.datapath.load = {("web", ONE): one, ("web", TWO): two}
            asyncio.run(self.adaptation.look())

    def answering(self, seconds, ratio=1.0, rate=2):
        """Both answer in their time for a while: ``ratio`` is how much longer the second takes."""
        answers = [0, 0.0, 0.0]
        for _ in range(round(seconds / 0.1)):
            answers[0] += rate
            answers[1] += rate * 0.1
            answers[2] += rate * 0.1 * ratio
            self.look(*(Load(0, 2, 1, 0.05, answers[0], answers[side], answers[0]) for side in (1, 2)))


def costs_of(bench):
    return dict(bench.adaptation.with_costs(bench.follow().services[0]).selection.costs)


def test_equals_cost_the_same_in_the_plan_and_later():
    bench = Bench()
    bench.follow()
    bench.answering(10.0)
    one, two = costs_of(bench).values()
    assert one == two


def test_a_slow_one_becomes_dear_and_the_datapath_is_told_once_per_change():
    bench = Bench()
    bench.follow()
    bench.answering(10.0)
    told = len(bench.datapath.costs)
    bench.look(Load(0, 2, 1, 0.05, 999, 99.9, 999), Load(0, 2, 1, 0.05, 999, 99.9, 999))
    bench.answering(5.0, ratio=8.0)
    assert len(bench.datapath.costs) > told
    costs = dict(bench.datapath.costs[-1]["web"].costs)
    assert costs[1] > 2 * costs[0]


def test_a_slow_one_is_shunned_and_probed_more():
    bench = Bench()
    bench.follow()
    bench.answering(10.0)
    assert not bench.adaptation.shuns("web", TWO)
    bench.answering(5.0, ratio=8.0)
    assert bench.adaptation.shuns("web", TWO)
    assert not bench.adaptation.shuns("web", ONE)
    assert not bench.adaptation.shuns("other", TWO)


@pytest.mark.parametrize(("taken", "rest"), [(0.001, LOOK), (0.5, 0.5 * REST)])
def test_looks_that_take_long_are_fewer(taken, rest):
    bench = Bench()
    bench.follow()
    slept = asyncio.Queue()

    async def loads(services):
        bench.now += taken
        return {}

    async def sleep(seconds):
        slept.put_nowait(seconds)
        await asyncio.Event().wait()

    async def scenario():
        task = asyncio.create_task(bench.adaptation.run())
        async with asyncio.timeout(10):
            seconds = await slept.get()
        task.cancel()
        return seconds

    bench.datapath.loads = loads
    bench.adaptation._sleep = sleep
    assert asyncio.run(scenario()) == pytest.approx(rest)


def test_who_is_hot_by_its_agent_is_left_for_last():
    bench = Bench(hot={TWO})
    bench.follow()
    bench.look(Load(), Load())
    assert bench.datapath.costs[-1]["web"].hot == frozenset({1})


def test_a_new_plan_has_the_costs_of_now():
    bench = Bench(hot={ONE})
    bench.follow()
    bench.look(Load(), Load())
    (service,) = bench.follow().services
    assert service.selection.hot == frozenset({0})


def test_a_plan_that_is_not_taken_changes_nothing():
    bench = Bench()
    bench.follow()

    async def refused():
        backends = tuple(BackendPlan(each) for each in (TWO, ONE))
        plan = Plan((ServicePlan("web", VIP, Protocol.TCP, Costs(((0, 1),)), backends),))
        async with bench.adaptation.following(plan, {"web": (Candidate(0, TWO, 1),)}):
            raise DatapathError("no")

    with pytest.raises(DatapathError):
        asyncio.run(refused())
    bench.look(Load(), Load())
    assert dict(bench.datapath.costs[-1]["web"].costs).keys() == {0, 1}


def test_no_costs_are_sent_while_a_plan_is_handed_over():
    bench = Bench()
    bench.follow()

    async def scenario():
        plan = Plan((ServicePlan("web", VIP, Protocol.TCP, Costs(()), ()),))
        async with bench.adaptation.following(plan, {}):
            look = asyncio.create_task(bench.adaptation.look())
            await asyncio.sleep(0)
            assert bench.datapath.costs == []
        await look
        assert bench.datapath.costs == []  # the service is adaptive no more

    asyncio.run(scenario())


def test_a_datapath_that_was_started_again_is_told_anew():
    bench = Bench()
    bench.follow()
    bench.look(Load(), Load())
    bench.look(Load(), Load(), times=200)  # nothing changes any more
    told = len(bench.datapath.costs)
    bench.look(Load(), Load())
    assert len(bench.datapath.costs) == told
    bench.datapath = FakeDatapath()
    bench.look(Load(), Load())
    assert len(bench.datapath.costs) == 1


def test_what_a_backend_did_while_it_was_away_is_not_held_against_it():
    bench = Bench()
    bench.follow()
    bench.answering(5.0)
    bench.follow(candidates=CANDIDATES[:1])
    bench.look(Load(), Load())
    bench.follow()
    bench.look(Load(), Load(unanswered=50, resets=50, confirmed=100))
    assert not bench.adaptation.pool("web").backends[TWO].failing


def test_waiting_that_cannot_be_is_not_believed():
    bench = Bench()
    bench.follow()
    bench.answering(10.0)
    torn = Load(0, 2, 1, 17_000.0, 200, 20.0, 200)
    bench.look(Load(0, 2, 1, 0.05, 200, 20.0, 200), torn)
    backends = bench.adaptation.pool("web").backends
    one, two = (backends[each].price(bench.now) for each in (ONE, TWO))
    assert two < 1.5 * one


def test_other_services_are_left_alone():
    bench = Bench()
    table = Table(Key.TURN, (0, 1))
    plan = bench.follow(candidates=None, selection=table)
    assert plan.services[0].selection is table
    asyncio.run(bench.adaptation.look())
    assert bench.datapath.costs == []
    assert bench.adaptation.pool("web") is None


def test_without_a_candidate_the_plan_stays():
    bench = Bench()
    plan = bench.follow(candidates=(), selection=Costs(()))
    assert plan.services[0].selection == Costs(())
    bench.look(Load(), Load())


def test_a_datapath_that_counts_anew_tells_nothing_of_the_past():
    bench = Bench()
    bench.follow()
    bench.answering(5.0)
    bench.look(Load(), Load(), times=3)
    one, two = costs_of(bench).values()
    assert one == two


def test_looks_go_on_after_a_datapath_that_is_away():
    bench = Bench()
    bench.datapath.refusal = "restarting"
    bench.follow()

    async def scenario():
        looks = 0
        seen = asyncio.Event()

        async def sleep(seconds):
            nonlocal looks
            looks += 1
            if looks == 2:
                bench.datapath.refusal = None
            if looks == 4:
                seen.set()
            await asyncio.sleep(0)

        bench.adaptation._sleep = sleep
        task = asyncio.create_task(bench.adaptation.run())
        async with asyncio.timeout(10):
            await seen.wait()
        task.cancel()

    asyncio.run(scenario())
    bench.datapath.refusal = "gone"
    with pytest.raises(DatapathError):
        asyncio.run(bench.adaptation.look())


@pytest.mark.parametrize(
    ("kind", "outcome", "seconds"),
    [
        (ProbeKind.HTTP, Outcome.ANSWERED, 0.8),
        (ProbeKind.HTTP, Outcome.WRONG, None),
        (ProbeKind.HTTP, Outcome.LOST, None),
        (ProbeKind.SYN, Outcome.LOST, None),
        (ProbeKind.SYN, Outcome.REFUSED, None),
    ],
)
def test_a_bad_probe_makes_one_dear_that_gets_no_requests(kind, outcome, seconds):
    bench = Bench()
    bench.follow()
    bench.answering(10.0)
    still = Load(0, 2, 0, 0.0, 200, 20.0, 200)
    bench.look(still, still, times=100)
    bench.probed(TWO, kind, outcome, seconds)
    bench.look(still, still)
    one, two = costs_of(bench).values()
    assert two > 1.3 * one
    bench.look(still, still, times=100)  # of one probe, once
    one, two = costs_of(bench).values()
    assert two == one


def test_a_good_probe_says_nothing_for_one_that_is_slow_for_clients():
    bench = Bench()
    bench.follow()
    bench.answering(10.0, ratio=10.0)
    without = Bench()
    without.follow()
    without.answering(10.0, ratio=10.0)
    bench.probed(TWO, ProbeKind.HTTP, Outcome.ANSWERED, 0.001)
    still = Load(0, 2, 0, 0.0, 200, 20.0, 200)
    bench.look(still, still)
    without.look(still, still)
    assert costs_of(bench) == costs_of(without)


def test_others_have_turns_while_many_backends_are_looked_at(monkeypatch):
    bench = Bench()
    bench.follow()
    for turn, others in ((60.0, 0), (0.0, 5)):  # seconds
        monkeypatch.setattr(turns, "TURN", turn)
        monkeypatch.setattr(turns, "LONGEST", 0.0)
        monkeypatch.setattr(adaptation, "_MANY", 1 if others else 1000)
        # After each of two and their service, and before estimates and costs.
        assert asyncio.run(turns_of_others_during(bench.adaptation.look())) == others

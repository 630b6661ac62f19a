"""What explain says of how backends are doing."""

import pytest

from l4lb.agent.report import Figures, Report
from l4lb.control.backend_signals import signals
from l4lb.health.agents.reports import AgentState, Sight
from l4lb.model import Endpoint
from l4lb.schedulers import adaptive
from l4lb.schedulers.adaptive import Pool
from l4lb.schedulers.measured import Measured

A, B = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("10.2.0.12:80")
ONE_EACH = Measured(opened=3, answers=3, answer_time=0.3)
KEPT = Measured(opened=0, answers=3, answer_time=0.3)


def looked(seconds, of_a, of_b, pool=None, start=0.0):
    pool = pool or Pool()
    for look in range(1, round(seconds * 10) + 1):
        pool = adaptive.observe(pool, {A: of_a, B: of_b}, start + look / 10)
    return pool


def test_of_a_service_that_is_not_adaptive_and_has_no_agents_nothing_is_known():
    assert signals(None, {}, {}, 0.0) == {}


def test_how_long_answers_take_and_how_slow_that_is():
    said = signals(looked(10, ONE_EACH, ONE_EACH), {}, {}, 10.0)
    assert said[A] == said[B] == {"response": "100ms", "slowness": "x1"}


def test_of_one_that_is_new_until_it_has_all_of_its_share():
    pool = looked(10, ONE_EACH, ONE_EACH)
    pool = looked(2, ONE_EACH, ONE_EACH, Pool({A: pool.backends[A]}, usual=pool.usual), start=10.0)
    said = signals(pool, {}, {}, 12.0)
    assert said[B]["slow start"] == "new, 2 s"
    assert "slow start" not in said[A]
    assert "slow start" not in signals(pool, {}, {}, 13.2)[B]


def test_of_one_that_is_idle_what_was_fades_and_has_an_age():
    slow = looked(10, ONE_EACH, Measured(opened=1, answers=1, answer_time=1.0))
    assert float(signals(slow, {}, {}, 10.0)[B]["slowness"].lstrip("x")) > 5
    idle = looked(60, Measured(), Measured(), slow, start=10.0)
    assert signals(idle, {}, {}, 70.0)[B]["slowness"] == "x1, 60s ago"


def test_where_connections_are_kept_what_lasts_is_said_too():
    pool = looked(20, KEPT, Measured(opened=0, answers=1, answer_time=1.0))
    said = signals(pool, {}, {}, 20.0)
    assert said[A]["lasting"] == "x1"
    assert float(said[B]["lasting"].lstrip("x")) > 3


def test_where_they_are_not_what_each_has_had_of_them():
    shares = {A: 0.96, B: 1.0}
    said = signals(looked(10, ONE_EACH, ONE_EACH), shares, {}, 10.0)
    assert (said[A]["share"], said[B]["share"]) == ("96%", "100%")
    assert "share" not in signals(looked(20, KEPT, KEPT), shares, {}, 20.0)[A]


def test_one_whose_connections_have_failed_lately():
    pool = looked(0.1, ONE_EACH, Measured(failures=5), looked(5, ONE_EACH, ONE_EACH), start=5.0)
    assert signals(pool, {}, {}, 5.1)[B]["fails"] == "yes"
    assert "fails" not in signals(pool, {}, {}, 10.0)[B]


@pytest.mark.parametrize(
    ("sight", "words"),
    [
        (Sight(AgentState.UNASKED), "unasked"),
        (
            Sight(AgentState.HOT, "CPU 95%, limit 90%", Report(Figures(cpu=0.95, memory=0.05)), 0.1),
            "hot, cpu 95%, memory 5%",
        ),
        (Sight(AgentState.OK, report=Report(Figures(memory=0.5)), age=1.6), "ok, memory 50%, 2s ago"),
        (Sight(AgentState.DOWN, "stopped", Report(weight=0.5), 0.1, share=0.5), "down, 50% of its weight"),
    ],
)
def test_what_agents_say(sight, words):
    assert signals(None, {}, {A: sight}, 0.0) == {A: {"agent": words}}

"""Which backend a client would get, and why."""

import pytest

from l4lb.control.explain import Known, away, explain
from l4lb.model import (
    Backend,
    BackendPlan,
    Costs,
    Endpoint,
    Key,
    Load,
    Nat,
    Protocol,
    Service,
    ServicePlan,
    Table,
)
from l4lb.schedulers.hash import flow_hash, source_hash

VIP = Endpoint.parse("10.1.0.100:80")
CLIENT = Endpoint.parse("10.1.0.7:40000")
ONE, TWO, THREE = (Endpoint.parse(f"10.2.0.{number}:80") for number in (11, 12, 13))


def known(selection, loads=None, protocol=Protocol.TCP, affinity_timeout=0.0, **more):
    service = Service("web", VIP, protocol, backends=tuple(Backend(each) for each in (ONE, TWO, THREE)))
    backends = tuple(BackendPlan(each) for each in (ONE, TWO, THREE))
    plan = ServicePlan("web", VIP, protocol, selection, backends, affinity_timeout=affinity_timeout)
    return Known(service, plan, loads or {}, **{"signals": {}, "away": {}, **more})


def told(*arguments, **more):
    return explain(known(*arguments, **more), CLIENT)


def test_turns_decide_and_the_shares_are_shown():
    answer = told(Table(Key.TURN, (0, 1, 0, 2)))
    assert answer["backend"] is None
    assert "take turns" in answer["rule"]
    assert {each["address"]: each["share"] for each in answer["candidates"]} == {
        str(ONE): 0.5,
        str(TWO): 0.25,
        str(THREE): 0.25,
    }


def test_the_only_one():
    assert told(Table(Key.RANDOM, (1, 1)))["backend"] == str(TWO)


@pytest.mark.parametrize("key", [Key.SOURCE, Key.FLOW])
def test_a_hash_gives_the_backend_that_a_datapath_takes(key):
    slots = tuple(range(3)) * 7
    tuple_bytes = CLIENT.ip + VIP.ip + CLIENT.port.to_bytes(2, "big") + VIP.port.to_bytes(2, "big")
    number = source_hash(CLIENT.ip) if key is Key.SOURCE else flow_hash(tuple_bytes)
    answer = told(Table(key, slots))
    assert answer["backend"] == str((ONE, TWO, THREE)[number % 21 % 3])
    assert f"slot {number % 21} of 21" in answer["rule"]


def test_nobody():
    assert "refused" in told(Table(Key.TURN, ()))["rule"]
    assert "refused" in told(Costs(()))["rule"]


def test_the_least_price_in_its_order():
    loads = {ONE: Load(1, 9, 4), TWO: Load(0, 2, 1), THREE: Load(0, 0, 0)}
    answer = told(Costs(((0, 10), (1, 10), (2, 100)), idle=128), loads)
    assert answer["backend"] == str(TWO)
    assert [(each["address"], each["in_flight"], each["idle"]) for each in answer["candidates"]] == [
        (str(TWO), 1, 1),
        (str(ONE), 5, 5),
        (str(THREE), 0, 0),
    ]
    assert answer["candidates"][0]["price"] == 10 * (256 * 2 + 128)
    assert "0.5 for each idle connection" in answer["rule"]


def test_udp_waits_by_its_questions_alone():
    answer = told(
        Costs(((0, 1), (1, 1), (2, 5)), idle=0), {ONE: Load(9, 0, 0), TWO: Load(1, 0, 1)}, Protocol.UDP
    )
    assert answer["backend"] == str(ONE)


def test_equals_take_turns_and_chance_draws():
    assert told(Costs(((0, 1), (1, 1), (2, 2))))["backend"] is None
    assert "2 have the least" in told(Costs(((0, 1), (1, 1), (2, 2))))["rule"]
    drawn = told(Costs(((0, 1), (1, 2), (2, 3)), candidates=2))
    assert drawn["backend"] is None
    assert "of 2 drawn at random from 3" in drawn["rule"]


def test_hot_ones_come_last():
    assert told(Costs(((0, 1), (1, 9), (2, 1)), hot=frozenset({0, 2})))["backend"] == str(TWO)
    all_hot = told(Costs(((0, 1), (1, 9), (2, 2)), hot=frozenset({0, 1, 2})))
    assert all_hot["backend"] == str(ONE)
    assert "all are hot" in all_hot["rule"]


def test_affinity_goes_before():
    assert "300 s" in told(Table(Key.TURN, (0,)), affinity_timeout=300.0)["but"]


def test_another_version_of_ip():
    with pytest.raises(ValueError, match="is IPv6, service 'web' is IPv4"):
        explain(known(Table(Key.TURN, (0,))), Endpoint.parse("[2001:db8::1]:1"))


def test_why_others_are_away():
    service = Service("web", VIP, nat=Nat.FULL, backends=(Backend(ONE, 0), Backend(TWO), Backend(THREE)))
    backends = tuple(BackendPlan(each) for each in (ONE, TWO, THREE))
    plan = ServicePlan("web", VIP, Protocol.TCP, Table(Key.TURN, ()), backends, Nat.FULL)
    assert away(service, plan, {TWO: "down: refused"}) == {
        ONE: "drained: weight 0",
        TWO: "down: refused",
        THREE: "no route to it, so no address of the gateway for full NAT",
    }

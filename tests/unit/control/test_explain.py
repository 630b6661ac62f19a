"""Which backend a client would get, and why."""

import pytest

from l4lb.control.explain import Known, explain
from l4lb.model import (
    Backend,
    BackendPlan,
    Costs,
    Endpoint,
    Key,
    Load,
    Nat,
    Protocol,
    Recalled,
    Service,
    ServicePlan,
    Table,
    WhenAllDown,
)
from l4lb.schedulers.hash import flow_hash, source_hash

REFUSE = WhenAllDown.REFUSE
VIP = Endpoint.parse("10.1.0.100:80")
CLIENT = Endpoint.parse("10.1.0.7:40000")
ONE, TWO, THREE = (Endpoint.parse(f"10.2.0.{number}:80") for number in (11, 12, 13))


def known(selection, loads=None, protocol=Protocol.TCP, affinity_timeout=0.0, when=REFUSE, **more):
    backends = tuple(Backend(each) for each in (ONE, TWO, THREE))
    service = Service("web", VIP, protocol, backends=backends, when_all_down=when)
    backends = tuple(BackendPlan(each) for each in (ONE, TWO, THREE))
    plan = ServicePlan("web", VIP, protocol, selection, backends, affinity_timeout=affinity_timeout)
    return Known(service, plan, loads or {}, **{"signals": {}, "down": {}, "unwilling": {}, **more})


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


def test_affinity_goes_before_and_what_would_be_without_it_is_said():
    recalled = Recalled(last=TWO, left=287.4)
    answer = told(Table(Key.TURN, (0,)), affinity_timeout=300.0, recalled=recalled)
    assert answer["backend"] == str(TWO)
    assert answer["rule"] == "the client's last connection was with it, which counts for 287 s more"
    assert answer["otherwise"] == {
        "backend": str(ONE),
        "rule": "it is the only one that takes new connections",
    }
    assert answer["but"] is None
    assert [each["address"] for each in answer["candidates"]] == [str(ONE)]


def test_a_client_that_is_not_remembered_is_scheduled_and_then_stays():
    answer = told(Table(Key.TURN, (0,)), affinity_timeout=300.0)
    assert (answer["backend"], answer["otherwise"]) == (str(ONE), None)
    assert "is not remembered" in answer["but"]
    assert "300 s" in answer["but"]


def test_a_connection_from_the_very_port_goes_before_all():
    answer = told(Costs(((0, 1), (1, 1))), recalled=Recalled(THREE, TWO, 9.0), affinity_timeout=10.0)
    assert answer["backend"] == str(THREE)
    assert "a connection from this port" in answer["rule"]
    assert answer["otherwise"]["backend"] is None
    assert "take turns" in answer["otherwise"]["rule"]


def test_nobody_new_but_a_connection_goes_on():
    answer = told(Table(Key.TURN, ()), recalled=Recalled(THREE))
    assert answer["backend"] == str(THREE)
    assert "refused" in answer["otherwise"]["rule"]


ALL_DOWN = dict.fromkeys((ONE, TWO, THREE), "down: connection refused")
AGENTS_SAY = dict.fromkeys((ONE, TWO, THREE), "by its agent: down: no database")


@pytest.mark.parametrize("selection", [Table(Key.SOURCE, (0, 1, 2)), Costs(((0, 1), (1, 2), (2, 3)))])
def test_that_all_are_down_and_used_is_said(selection):
    assert told(selection, down=ALL_DOWN, when=WhenAllDown.USE_ALL)["but"] == (
        "all are down, and used as if they were up (when_all_down)"
    )
    some = {ONE: "timeout", TWO: "timeout"}
    assert told(selection, down=some, when=WhenAllDown.USE_ALL)["but"] is None
    both = told(selection, affinity_timeout=60.0, down=ALL_DOWN, when=WhenAllDown.USE_ALL)["but"]
    assert "60 s" in both
    assert "all are down" in both


def test_that_nobody_is_chosen_needs_no_but():
    assert told(Table(Key.TURN, ()), down=ALL_DOWN, when=WhenAllDown.USE_ALL)["but"] is None


def test_that_some_go_on_against_their_agents_is_said():
    assert (
        "whose agents say that they are down" in told(Table(Key.TURN, (0, 2)), unwilling=AGENTS_SAY)["but"]
    )
    assert told(Table(Key.TURN, (0, 2)), unwilling={ONE: "by its agent: down"})["but"] is None


def test_where_not_all_can_be_compared_nothing_is_certain():
    costs = Costs(((0, 1), (1, 2), (2, 3)))
    assert told(costs, most_compared=3)["backend"] == str(ONE)
    answer = told(costs, most_compared=2)
    assert answer["backend"] is None
    assert answer["rule"].startswith("of 2 in a row among 3, from one drawn at random on, the least price")
    drawn = told(Costs(costs.costs, candidates=2), most_compared=2)
    assert "of 2 drawn at random from 3" in drawn["rule"]


def test_another_version_of_ip():
    with pytest.raises(ValueError, match="is IPv6, service 'web' is IPv4"):
        explain(known(Table(Key.TURN, (0,))), Endpoint.parse("[2001:db8::1]:1"))


def test_why_others_are_away():
    four = Endpoint.parse("10.2.0.14:80")
    every = (ONE, TWO, THREE, four)
    service = Service("web", VIP, nat=Nat.FULL, backends=(Backend(ONE, 0), *map(Backend, every[1:])))
    backends = tuple(map(BackendPlan, every))
    plan = ServicePlan("web", VIP, Protocol.TCP, Table(Key.TURN, ()), backends, Nat.FULL)
    unwilling = {TWO: "by its agent: maint", four: "by its agent: maint"}
    answer = explain(Known(service, plan, {}, {}, {TWO: "down: refused"}, unwilling), CLIENT)
    assert answer["away"] == {
        str(ONE): "drained: weight 0",
        str(TWO): "down: refused",
        str(THREE): "no route to it, so no address of the gateway for full NAT",
        str(four): "by its agent: maint",
    }

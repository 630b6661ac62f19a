"""Dumps and events applied to the copy; what it tells, and when it asks for another dump."""

from ipaddress import ip_address
from socket import AF_INET6

import pytest

from l4lb.netlink.messages import NLM_F_REPLACE, Nud
from l4lb.netlink.mirror import Mirror, Part
from l4lb.netlink.state import Change, Neighbour
from tests.unit.netlink import kernel
from tests.unit.netlink.kernel import address, link, message, neighbour, route, rule

MAC = "02:00:00:00:00:07"
MAC_BYTES = bytes.fromhex("020000000007")
HOST = ip_address("10.0.0.7").packed


def gateways(mirror, prefix):
    packed = ip_address(prefix).packed
    return [str(ip_address(r.gateway)) for r in mirror.state.routes if r.prefix == packed]


def via(gateway, prefix="10.9.0.0/16", **rest):
    return route(prefix, attrs=[("RTA_GATEWAY", gateway)], **rest)


@pytest.fixture
def mirror():
    """Two links, their addresses and routes, one neighbour; the change of the dumps is taken."""
    made = Mirror()
    made.replace(Part.LINKS, [link(2, name="eth0"), link(3, name="eth1")])
    made.replace(Part.ADDRESSES, [address(2, "10.0.0.1", 24), address(3, "10.1.0.1", 24)])
    made.replace(Part.ROUTES, [route("10.0.0.0/24"), route("10.1.0.0/24", oif=3), via("10.0.0.9")])
    made.replace(Part.NEIGHBOURS, [neighbour(2, "10.0.0.7", MAC)])
    made.replace(Part.RULES, kernel.default_rules())
    made.take_change()
    return made


def test_a_dump_that_says_the_same_changes_nothing(mirror):
    before = mirror.state
    mirror.replace(Part.LINKS, [link(2, name="eth0"), link(3, name="eth1")])
    mirror.replace(Part.ROUTES, [route("10.0.0.0/24"), route("10.1.0.0/24", oif=3), via("10.0.0.9")])
    mirror.replace(Part.NEIGHBOURS, [neighbour(2, "10.0.0.7", MAC, state=Nud.STALE)])
    assert mirror.take_change() is None
    assert mirror.state.routes == before.routes


def test_a_dump_replaces_what_was_there(mirror):
    mirror.replace(Part.ADDRESSES, [address(2, "10.0.0.1", 24)])
    mirror.replace(Part.NEIGHBOURS, [])
    assert mirror.take_change() == Change(addresses=True, neighbours=(Neighbour(2, HOST, None),))
    assert [a.index for a in mirror.state.addresses] == [2]
    assert mirror.state.neighbours == ()


def test_changes_between_two_askings_are_told_together(mirror):
    mirror.apply(address(2, "10.0.0.2", 24))
    mirror.apply(link(2, name="wan"))
    mirror.apply(neighbour(2, "10.0.0.8", MAC))
    mirror.apply(neighbour(2, "10.0.0.8", "02:00:00:00:00:08"))
    told = Neighbour(2, ip_address("10.0.0.8").packed, bytes.fromhex("020000000008"))
    assert mirror.take_change() == Change(links=True, addresses=True, neighbours=(told,))
    assert mirror.take_change() is None
    assert mirror.state.link("wan").index == 2


# --- links and addresses


@pytest.mark.parametrize("flags", [0, kernel.UP])
def test_routes_and_addresses_are_asked_for_again_when_a_link_goes_down_or_up(mirror, flags):
    mirror.apply(link(2, flags=flags))
    assert not mirror.state.link("eth0").up
    assert mirror.stale == {Part.ROUTES, Part.ADDRESSES}
    mirror.stale.clear()
    mirror.apply(link(2))
    assert mirror.stale == {Part.ROUTES, Part.ADDRESSES}


def test_another_mtu_leaves_the_routes_alone(mirror):
    mirror.apply(link(2, mtu=1400))
    assert mirror.take_change() == Change(links=True)
    assert not mirror.stale


def test_a_link_that_disappears_takes_everything_with_it(mirror):
    mirror.apply(link(2, kind="DELLINK"))
    assert mirror.take_change() == Change(
        links=True, addresses=True, routes=True, neighbours=(Neighbour(2, HOST, None),)
    )
    state = mirror.state
    assert [one.index for one in (*state.links, *state.addresses, *state.routes)] == [3, 3, 3]
    assert Part.ROUTES in mirror.stale, "routes of other links may have gone too"


def test_a_bridge_port_that_leaves_is_no_link_that_disappears(mirror):
    mirror.apply(link(2, kind="DELLINK", family=7))
    assert mirror.take_change() is None
    assert mirror.state.link("eth0") is not None


def test_routes_are_asked_for_again_when_an_address_goes(mirror):
    mirror.apply(address(2, "10.0.0.1", 24, kind="DELADDR"))
    assert mirror.take_change() == Change(addresses=True)
    assert mirror.stale == {Part.ROUTES}


def test_an_address_with_two_peers_is_there_until_both_are_gone(mirror):
    for peer in ("10.5.0.2", "10.5.0.3"):
        mirror.apply(address(3, peer, 32, local="10.5.0.1"))
    mirror.apply(address(3, "10.5.0.2", 32, local="10.5.0.1", kind="DELADDR"))
    assert ip_address("10.5.0.1").packed in {a.ip for a in mirror.state.addresses}
    mirror.apply(address(3, "10.5.0.3", 32, local="10.5.0.1", kind="DELADDR"))
    assert ip_address("10.5.0.1").packed not in {a.ip for a in mirror.state.addresses}


def test_a_tentative_address_is_not_there_yet_and_leaves_when_it_becomes_so(mirror):
    mirror.apply(address(2, "2001:db8::1", 64, flags=0x40))
    assert mirror.take_change() is None
    mirror.apply(address(2, "2001:db8::1", 64))
    assert mirror.take_change() == Change(addresses=True)
    mirror.apply(address(2, "2001:db8::1", 64, flags=0x48))
    assert mirror.take_change() == Change(addresses=True)
    assert len(mirror.state.addresses) == 2


# --- routes


def test_a_route_comes_is_replaced_and_goes(mirror):
    mirror.apply(via("10.0.0.3", "10.8.0.0/16"))
    assert gateways(mirror, "10.8.0.0") == ["10.0.0.3"]
    mirror.apply(via("10.0.0.4", "10.8.0.0/16", nlm=NLM_F_REPLACE))
    assert gateways(mirror, "10.8.0.0") == ["10.0.0.4"]
    mirror.apply(via("10.0.0.4", "10.8.0.0/16", kind="DELROUTE"))
    assert gateways(mirror, "10.8.0.0") == []
    assert mirror.take_change() == Change(routes=True)
    assert not mirror.stale


def test_an_event_that_the_dump_had_already_changes_nothing(mirror):
    mirror.apply(via("10.0.0.9"))
    mirror.apply(via("10.0.0.9", "10.7.0.0/16", kind="DELROUTE"))
    assert mirror.take_change() is None
    assert not mirror.stale


@pytest.mark.parametrize(
    "event",
    [
        via("10.0.0.4"),  # appended or prepended? it does not say
        via("10.0.0.4", kind="DELROUTE"),  # one of several
    ],
)
def test_an_ambiguous_route_event_asks_for_a_dump(mirror, event):
    mirror.apply(event)
    assert mirror.stale == {Part.ROUTES}
    assert mirror.take_change() is None


def test_replacing_one_of_several_asks_for_a_dump(mirror):
    mirror.replace(Part.ROUTES, [via("10.0.0.3"), via("10.0.0.4")])
    mirror.apply(via("10.0.0.5", nlm=NLM_F_REPLACE))
    assert mirror.stale == {Part.ROUTES}
    mirror.replace(Part.ROUTES, [via("10.0.0.5"), via("10.0.0.4")])
    assert not mirror.stale
    assert gateways(mirror, "10.9.0.0") == ["10.0.0.5", "10.0.0.4"]


def test_routes_of_other_tables_are_nothing_to_us(mirror):
    mirror.apply(via("10.0.0.4", table=100))
    mirror.apply(via("10.0.0.9", table=100, kind="DELROUTE"))
    assert mirror.take_change() is None
    assert not mirror.stale


@pytest.mark.parametrize("number", [104, 105])
def test_a_nexthop_object_may_stand_behind_any_route(mirror, number):
    event = message("NEWLINK")
    event["header"]["type"] = number
    mirror.apply(event)
    assert mirror.stale == {Part.ROUTES}


# --- neighbours


def test_a_neighbour_is_told_when_its_mac_is_new_not_when_it_is_confirmed(mirror):
    for state in (Nud.STALE, Nud.DELAY, Nud.PROBE, Nud.REACHABLE):
        mirror.apply(neighbour(2, "10.0.0.7", MAC, state=state))
    assert mirror.take_change() is None
    mirror.apply(neighbour(2, "10.0.0.7", "02:00:00:00:00:99"))
    (told,) = mirror.take_change().neighbours
    assert told == Neighbour(2, HOST, bytes.fromhex("020000000099"))
    assert mirror.state.neighbours == (told,)


def test_each_failure_is_told(mirror):
    for _ in range(2):
        mirror.apply(neighbour(2, "10.0.0.7", state=Nud.INCOMPLETE))
        assert mirror.take_change() is None, "the kernel is still asking"
        mirror.apply(neighbour(2, "10.0.0.7", state=Nud.FAILED))
        assert mirror.take_change() == Change(neighbours=(Neighbour(2, HOST, None),))
    assert mirror.state.neighbours == ()
    mirror.apply(neighbour(2, "10.0.0.7", kind="DELNEIGH", state=Nud.FAILED))
    assert mirror.take_change() is None, "that a failed entry is cleaned up is no news"


def test_a_forgotten_neighbour_is_told(mirror):
    mirror.apply(neighbour(2, "10.0.0.7", MAC, kind="DELNEIGH"))
    assert mirror.take_change() == Change(neighbours=(Neighbour(2, HOST, None),))


def test_a_neighbour_that_comes_back_after_a_failure_is_told(mirror):
    mirror.apply(neighbour(2, "10.0.0.7", state=Nud.FAILED))
    mirror.take_change()
    mirror.apply(neighbour(2, "10.0.0.7", MAC))
    assert mirror.take_change() == Change(neighbours=(Neighbour(2, HOST, MAC_BYTES),))


def test_a_question_that_cannot_be_asked_is_a_failure(mirror):
    mirror.unanswered(9, HOST)
    assert mirror.take_change() == Change(neighbours=(Neighbour(9, HOST, None),))


def test_a_neighbour_that_could_not_be_asked_for_is_told_when_it_is_as_before(mirror):
    mirror.apply(neighbour(2, "10.0.0.7", MAC))
    mirror.unanswered(2, HOST)
    mirror.take_change()
    mirror.apply(neighbour(2, "10.0.0.7", MAC))
    assert mirror.take_change() == Change(neighbours=(Neighbour(2, HOST, MAC_BYTES),))


@pytest.mark.parametrize(
    ("state", "static"),
    [(Nud.PERMANENT, True), (Nud.NOARP, True), (Nud.REACHABLE, False), (Nud.FAILED, False)],
)
def test_static_neighbours(mirror, state, static):
    mirror.apply(neighbour(2, "10.0.0.7", MAC, state=state))
    assert mirror.is_static(2, HOST) is static
    assert not mirror.is_static(2, b"\n\0\0\x63")


# --- rules


def test_the_default_rules_are_not_foreign_and_ipv6_may_have_none(mirror):
    assert not mirror.foreign_rules
    mirror.replace(Part.RULES, [one for one in kernel.default_rules() if one["family"] != AF_INET6])
    assert not mirror.foreign_rules


@pytest.mark.parametrize(
    "rules",
    [
        [*kernel.default_rules(), rule(1000, 0, attrs=[("FRA_L3MDEV", 1)])],  # a VRF
        [*kernel.default_rules(), rule(32765, 100, family=AF_INET6)],
        kernel.default_rules()[1:],  # without the table local
    ],
)
def test_other_rules_are_foreign(mirror, rules):
    mirror.replace(Part.RULES, rules)
    assert mirror.foreign_rules
    assert mirror.take_change() == Change(rules=True)


def test_a_rule_event_asks_for_a_dump(mirror):
    mirror.apply(rule(1000, 100))
    assert mirror.stale == {Part.RULES}
    assert not mirror.foreign_rules

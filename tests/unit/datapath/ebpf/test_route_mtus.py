from ipaddress import ip_network

import pytest

import build_bpf
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.ebpf.route_mtus import RouteMtus, route_mtus
from l4lb.datapath.libbpf import Object
from l4lb.netlink.state import Route
from tests.unit.datapath.ebpf.kernel import SIZES


def route(text, mtu=0, metric=0):
    network = ip_network(text)
    return Route(network.network_address.packed, network.prefixlen, 2, mtu=mtu, metric=metric)


def prefix(text):
    network = ip_network(text)
    return network.network_address.packed, network.prefixlen


def test_nothing_where_no_route_has_an_mtu():
    assert route_mtus([route("0.0.0.0/0"), route("10.0.0.0/8"), route("2001:db8::/32")]) == {}


def test_a_route_within_one_that_has_an_mtu_has_none_of_its_own():
    routes = [route("0.0.0.0/0"), route("10.0.0.0/8", 1400), route("10.2.0.0/16"), route("192.0.2.0/24")]
    assert route_mtus(routes) == {prefix("10.0.0.0/8"): 1400, prefix("10.2.0.0/16"): 0}


def test_a_default_route_with_an_mtu_has_all_of_its_version_within():
    routes = [route("::/0", 1280), route("2001:db8::/32"), route("10.0.0.0/8")]
    assert route_mtus(routes) == {prefix("::/0"): 1280, prefix("2001:db8::/32"): 0}


def test_of_equal_prefixes_the_lowest_metric_counts():
    assert route_mtus([route("10.0.0.0/8", 1400, metric=20), route("10.0.0.0/8", 1300, metric=10)]) == {
        prefix("10.0.0.0/8"): 1300
    }
    assert route_mtus([route("10.0.0.0/8", 1400, metric=20), route("10.0.0.0/8", metric=10)]) == {}


ROOM = 10


@pytest.fixture
def full(bpf_possible):
    """Maps with room for few routes."""
    sizes = {**SIZES, "route_mtus4": ROOM, "route_mtus6": ROOM}
    opened = Object.open(build_bpf.FOLDER / "sweep.bpf.o", rodata={"own_clock": 1}, max_entries=sizes)
    try:
        opened.load()
        yield opened.maps
    finally:
        opened.close()


def within(count):
    return [route(f"10.{number}.0.0/16") for number in range(count)]


class TestMoreRoutesThanThereIsRoomFor:
    DEFAULT = route("0.0.0.0/0", 1400)
    LATE = route("192.0.2.0/24", 1300)

    def test_those_with_an_mtu_are_there_and_the_log_says_so_once(self, full, caplog):
        mtus = RouteMtus(full)
        for default in (self.DEFAULT, route("0.0.0.0/0", 1380)):
            mtus.update([default, *within(100), self.LATE, route("2001:db8::/32", 1280)])
            found = list(full["route_mtus4"].items())
            assert len(found) == ROOM
            assert [value for _, value in found].count(word(0)) == ROOM - 2
            assert full["route_mtus4"].lookup(word(0) + bytes(4)) == word(default.mtu)
            assert full["route_mtus4"].lookup(word(24) + self.LATE.prefix) == word(1300)
            assert len(list(full["route_mtus6"].keys())) == 1
        (line,) = caplog.messages
        assert line == "no room for the MTUs of all routes: 92 have that of the route around them"

    def test_all_are_there_when_they_have_room_again(self, full, caplog):
        mtus = RouteMtus(full)
        mtus.update([self.DEFAULT, *within(100)])
        mtus.update([self.DEFAULT, *within(ROOM - 1)])
        assert len(list(full["route_mtus4"].keys())) == ROOM
        mtus.update([self.DEFAULT, *within(ROOM)])
        assert len(caplog.messages) == 2
        mtus.update([])
        assert not list(full["route_mtus4"].keys())

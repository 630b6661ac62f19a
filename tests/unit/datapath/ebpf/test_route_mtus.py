from ipaddress import ip_network

from l4lb.datapath.ebpf.route_mtus import route_mtus
from l4lb.netlink.state import Route


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

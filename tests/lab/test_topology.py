"""The topology file, which needs no lab to be read."""

import json
from collections import Counter

import pytest

from netlab import LabError, role, topology

LAB = topology.load()


def cards():
    return [(host, card) for host in LAB.hosts.values() for card in host.interfaces]


def test_each_address_is_written_once_and_is_in_its_network():
    written = list(LAB.vips)
    for _, card in cards():
        written += [*card.addresses, *card.more_addresses]
        for address in (*card.addresses, *card.more_addresses):
            assert any(address in network for network in LAB.networks[card.network]), address
    for vip in LAB.vips:
        assert any(vip in network for network in LAB.networks[LAB.vip_network])
    assert [address for address, times in Counter(written).items() if times > 1] == []


def test_every_card_has_one_address_of_each_ip_version():
    for host, card in cards():
        assert [address.version for address in card.addresses] == [4, 6], host.name


def test_there_is_one_gateway_and_it_is_in_every_network():
    assert [host.name for host in LAB.hosts.values() if host.role == "gateway"] == [LAB.gateway.name]
    assert {card.network for card in LAB.gateway.interfaces} == set(LAB.networks)


def test_every_role_is_known():
    assert {host.role for host in LAB.hosts.values()} == {"client", "gateway", "backend"}


@pytest.mark.parametrize("name", [*LAB.hosts, *LAB.networks])
def test_the_drawing_names_every_host_and_network(name):
    assert name in "\n".join(LAB.drawing)


def test_the_drawing_stands_first_in_the_file():
    assert next(iter(json.loads(topology.FILE.read_text()))) == "drawing"


def test_no_two_cards_have_one_ethernet_address():
    macs = [card.mac for _, card in cards()]
    assert len(set(macs)) == len(macs)
    assert LAB.hosts["web3"].interfaces[0].mac == "02:00:0a:02:00:0d"
    assert {int(mac[:2], 16) & 3 for mac in macs} == {2}  # locally administered, not a group's


def web2_at(*addresses):
    return entry(list(addresses), "hosts", "web2", "interfaces", "eth0", "addresses")


def without(key):
    return lambda data: data.pop(key)


def entry(value, *keys):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (web2_at("10.2.0.11", "2001:db8:2::12"), "web2 eth0: 10.2.0.11 is already web1 eth0's"),
        (web2_at("10.2.0.300"), "'10.2.0.300' does not appear to be an IPv4 or IPv6 address"),
        (
            web2_at("10.1.0.200", "2001:db8:2::12"),
            "web2 eth0: 10.1.0.200 is not in the network 'backends', 10.2.0.0/24 or 2001:db8:2::/64",
        ),
        (
            web2_at("10.2.0.255", "2001:db8:2::12"),
            "web2 eth0: 10.2.0.255 cannot be a host's: it is the first or last of 10.2.0.0/24",
        ),
        (web2_at("10.2.0.12"), "web2 eth0: needs an IPv4 and an IPv6 address"),
        (
            entry(["10.1.0.1", "2001:db8:1::100"], "vips", "addresses"),
            "the VIPs: 10.1.0.1 is already gateway eth0's",
        ),
        (
            entry("nowhere", "hosts", "web1", "interfaces", "eth0", "network"),
            "web1 eth0: there is no network 'nowhere'",
        ),
        (entry("backend", "hosts", "gateway", "role"), "there has to be one gateway, not 0"),
        (entry("router", "hosts", "web1", "role"), "web1: there is no role 'router'"),
        (entry({}, "hosts", "web1", "interfaces"), "web1: has no interface"),
        (without("vips"), "there is no 'vips' where one is needed"),
        (entry([], "hosts"), "it is not laid out as the one that l4lb comes with"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, change, complaint):
    data = json.loads(topology.FILE.read_text())
    change(data)
    file = tmp_path / "lab.json"
    file.write_text(json.dumps(data))
    with pytest.raises(LabError) as caught:
        topology.load(file)
    assert str(caught.value) == f"{file}: {complaint}"


def test_a_file_that_is_no_json_or_not_there_is_refused_in_one_line(tmp_path):
    file = tmp_path / "lab.json"
    with pytest.raises(LabError, match=r"lab.json: No such file or directory$"):
        topology.load(file)
    file.write_text('{"networks": }')
    with pytest.raises(LabError, match=r"lab.json: Expecting value: line 1 column 14 \(char 13\)$"):
        topology.load(file)


def test_a_machine_with_a_default_route_of_its_own_gets_routes_to_the_labs_networks_only():
    host, cards = LAB.hosts["web1"], {"eth0": "ens6"}
    lines = role.commands(host, LAB, cards, default=False)
    assert "address replace 10.2.0.11/24 dev ens6" in lines
    assert [line for line in lines if line.startswith("route")] == [
        "route replace 10.1.0.0/24 via 10.2.0.1",
        "route replace 2001:db8:1::/64 via 2001:db8:2::1",
    ]
    assert "route replace default via 10.2.0.1" in role.commands(host, LAB, cards, default=True)


def test_only_the_gateway_forwards():
    forward = "net.ipv4.ip_forward=1"
    assert [name for name, host in LAB.hosts.items() if forward in role.settings(host)] == ["gateway"]

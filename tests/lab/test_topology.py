"""The topology file, which needs no lab to be read."""

import json
from collections import Counter

import pytest

from netlab import topology

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

import dataclasses
import itertools
import random
import re
from ipaddress import ip_address

import pytest

from l4lb import classic_bpf
from l4lb.datapath.raw.claim import Claim
from l4lb.model import BackendPlan, Endpoint, Key, Nat, Plan, Protocol, ServicePlan, Table
from tests.unit import bpf_machine


def service(address, *backends, protocol=Protocol.TCP, nat=Nat.DESTINATION):
    return ServicePlan(
        name=address,
        address=Endpoint.parse(address),
        protocol=protocol,
        selection=Table(Key.TURN, ()),
        backends=tuple(BackendPlan(Endpoint.parse(backend)) for backend in backends),
        nat=nat,
    )


def claim_of(*services):
    return Claim.of(Plan(services))


def tcp(source, destination, flags=0x10):
    source, destination = Endpoint.parse(source), Endpoint.parse(destination)
    segment = source.port.to_bytes(2, "big") + destination.port.to_bytes(2, "big") + bytes(8)
    segment += bytes([0x50, flags]) + bytes(6)
    if source.version == 4:
        header = b"\x45\0" + (20 + len(segment)).to_bytes(2, "big") + bytes(4) + b"\x40\6\0\0"
        return bytes(12) + b"\x08\0" + header + source.ip + destination.ip + segment
    header = b"\x60\0\0\0" + len(segment).to_bytes(2, "big") + b"\6\x40"
    return bytes(12) + b"\x86\xdd" + header + source.ip + destination.ip + segment


def elements(ruleset, name):
    assert f"flush set netdev l4lb {name}\n" in ruleset
    found = re.findall(rf"add element netdev l4lb {name} {{ (.*) }}", ruleset)
    return found[0].split(", ") if found else []


WEB = service("10.1.0.100:80", "10.2.0.11:8080", "10.2.0.12:8080")
DNS = service("10.1.0.100:53", "10.2.0.11:53", protocol=Protocol.UDP, nat=Nat.FULL)
WEB6 = service("[fd01::100]:80", "[fd02::11]:8080")


def test_a_claim_knows_both_kinds_of_nat_apart():
    claim = claim_of(WEB, DNS)
    assert {(ip_address(ip).exploded, protocol, port) for ip, protocol, port in claim.full_backends} == {
        ("10.2.0.11", 17, 53)
    }
    assert len(claim.backends) == 2
    assert len(claim.vips) == 1


def test_source_ports_of_before_stay_claimed():
    """Connections have them until they end."""
    first = Claim.of(Plan((DNS,), snat_ports=(20_000, 21_000)))
    changed = Plan((DNS,), snat_ports=(40_000, 41_000))
    then = Claim.of(changed, first)
    assert then.snat_ports == (20_000, 41_000)
    assert Claim.of(changed, then) == then
    assert Claim.of(changed, claim_of(WEB)).snat_ports == (40_000, 41_000)  # nobody had any


def test_equal_needs_make_equal_claims():
    """A datapath reloads the shield only when the claim changes: states and costs are not in it."""
    down = dataclasses.replace(
        WEB, backends=tuple(dataclasses.replace(backend, alive=False) for backend in WEB.backends)
    )
    assert claim_of(WEB) == claim_of(down)
    assert claim_of(WEB) != claim_of(DNS)


def test_the_ruleset_has_one_chain_per_interface_and_numbers_instead_of_names():
    ruleset = claim_of(WEB, DNS, WEB6).nft_ruleset(["eth0", "eth1.7", "eth0"])
    assert re.findall(r'device "(\S+)"', ruleset) == ["eth0", "eth1.7"]
    assert elements(ruleset, "services4") == ["10.1.0.100 . 6 . 80", "10.1.0.100 . 17 . 53"]
    assert elements(ruleset, "backends6") == ["fd02::11 . 6 . 8080"]
    assert elements(ruleset, "full_backends4") == ["10.2.0.11 . 17 . 53"]
    assert elements(ruleset, "full_servers6") == []
    assert elements(ruleset, "quoted_servers4") == ["0x0a02000b", "0x0a02000c"]


def test_the_ruleset_of_equal_claims_is_the_same_text():
    services = [service(f"10.1.0.{n}:80", *(f"10.2.{n}.{m}:80" for m in range(1, 9))) for n in range(1, 9)]
    texts = {claim_of(*order).nft_ruleset(["eth0"]) for order in (services, services[::-1])}
    assert len(texts) == 1


def test_only_an_expiring_ruleset_has_a_timeout():
    claim = claim_of(WEB)
    assert elements(claim.nft_ruleset(["eth0"]), "live") == ["ip", "ip6"]
    assert elements(claim.nft_ruleset(["eth0"], expires_in=2.5), "live") == [
        "ip timeout 2500ms",
        "ip6 timeout 2500ms",
    ]


@pytest.mark.parametrize("name", ['eth0"', "eth*", "", "a b", "interface-too-long"])
def test_an_interface_that_nft_cannot_name_is_refused(name):
    with pytest.raises(ValueError, match="cannot name the interface"):
        claim_of(WEB).nft_ruleset([name])


def test_the_chain_of_an_interface_that_is_gone_is_deleted():
    ruleset = claim_of(WEB).nft_ruleset(["eth0"], gone=["eth1"])
    assert "delete chain netdev l4lb ingress-eth1\n" in ruleset
    assert "delete chain netdev l4lb ingress-eth0\n" not in ruleset


def test_an_established_packet_takes_few_instructions():
    program = bpf_machine.load(claim_of(WEB, DNS, WEB6).packet_filter())
    for frame in (
        tcp("192.0.2.7:33333", "10.1.0.100:80"),
        tcp("10.2.0.12:8080", "192.0.2.7:33333"),
        tcp("[2001:db8::7]:33333", "[fd01::100]:80"),
        tcp("[fd02::11]:8080", "[2001:db8::7]:33333"),
    ):
        accepted, steps = bpf_machine.run(program, frame)
        assert accepted
        assert steps <= 40


def test_a_claim_of_nothing_accepts_nothing():
    program = claim_of().packet_filter()
    assert bpf_machine.run(bpf_machine.load(program), tcp("192.0.2.7:3", "10.1.0.100:80"))[0] == 0


def scattered(count):
    draw = random.Random(count)
    hosts = draw.sample(range(0x0B00_0000, 0x0BFF_FFFF), count)
    return [f"{ip_address(host)}:80" for host in hosts]


@pytest.mark.parametrize("version", [4, 6])
def test_thousands_of_neighbouring_backends_are_matched_exactly(version):
    if version == 4:
        inside = [f"10.2.{high}.{low}:80" for high in range(8) for low in range(256)]
        outside, vip = ["10.1.255.255:80", "10.2.8.0:80", "10.2.4.4:81"], "10.1.0.100:80"
    else:
        inside = [f"[fd02::{host:x}]:80" for host in range(1, 2001)]
        outside, vip = ["[fd02::]:80", "[fd02::1:5]:80", "[fd02::5]:81"], "[fd01::100]:80"
    client = "192.0.2.7:33333" if version == 4 else "[2001:db8::7]:33333"
    program = bpf_machine.load(claim_of(service(vip, *inside)).packet_filter())
    for backend in itertools.islice(inside, 0, None, 97):
        assert bpf_machine.run(program, tcp(backend, client))[0]
    for other in outside:
        assert not bpf_machine.run(program, tcp(other, client))[0]


@pytest.mark.parametrize(
    ("count", "room"), [(150, 10_000), (400, 10_000), (1500, 65_000), (5000, 65_000), (20_000, 10_000)]
)
def test_the_filter_keeps_to_its_room_and_gets_coarser_instead_of_wrong(count, room):
    backends = scattered(count)
    packed = claim_of(service("10.1.0.100:80", *backends)).packet_filter(option_memory=room)
    program = bpf_machine.load(packed)
    assert classic_bpf.kernel_bytes(program) <= room
    for backend in backends[:100]:
        assert bpf_machine.run(program, tcp(backend, "192.0.2.7:33333"))[0]
    unrelated = tcp("172.16.0.1:80", "192.0.2.7:33333")
    assert not bpf_machine.run(program, unrelated)[0]


def test_scattered_backends_are_matched_exactly_while_they_fit():
    backends = scattered(1500)
    program = bpf_machine.load(claim_of(service("10.1.0.100:80", *backends)).packet_filter(65_000))
    for backend in backends[:100]:
        address, _, _ = backend.partition(":")
        assert bpf_machine.run(program, tcp(backend, "192.0.2.7:33333"))[0]
        assert not bpf_machine.run(program, tcp(f"{address}:81", "192.0.2.7:33333"))[0]


def test_many_ports_on_scattered_addresses_still_find_room():
    draw = random.Random(0)
    services = [
        service(
            f"10.1.{n // 250}.{n % 250}:{draw.randrange(1, 65536)}",
            *(
                f"10.{draw.randrange(256)}.{draw.randrange(256)}.9:{draw.randrange(1, 65536)}"
                for _ in range(5)
            ),
        )
        for n in range(500)
    ]
    program = bpf_machine.load(claim_of(*services).packet_filter(65_000))
    for each in services[::50]:
        assert bpf_machine.run(program, tcp("192.0.2.7:33333", str(each.address)))[0]
        assert bpf_machine.run(program, tcp(str(each.backends[0].address), "192.0.2.7:33333"))[0]

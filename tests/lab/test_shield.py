"""The shield and the hand-back on real traffic: what the host's stack sees of it, and what not.

Where a test shows that something does not happen, a packet sent behind it shows that it is over.
"""

import asyncio
import errno
import hashlib
import itertools
import json
import os
import socket
import subprocess
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import assume, given, settings

from l4lb.datapath.base import DatapathError
from l4lb.datapath.raw.claim import HAND_BACK_MARK, Claim
from l4lb.datapath.raw.shield import Shield
from l4lb.director.parse import parse
from l4lb.model import BackendPlan, Endpoint, Key, Nat, Plan, Protocol, ServicePlan, Table
from l4lb.wire import ipv4, udp
from l4lb.wire.frame import PLAIN
from tests.lab.clients import wait_for
from tests.lab.shield_net import UDP_SEGMENT, HandBack, Net, attach_filter, outcome
from tests.property.claim_samples import LOCAL, OTHER_MAC, Sample, frame, packed, samples
from tests.unit import bpf_machine

pytestmark = pytest.mark.lab

VIP, VIP6 = "10.9.0.100", "fd09::100"
SERVER, SERVER6, FULL_SERVER = "10.9.2.10", "fd09:2::10", "10.9.2.11"
OWN = LOCAL | {packed("192.0.2.1"), packed("2001:db8::1")}


def service(address, *backends, protocol=Protocol.TCP, nat=Nat.DESTINATION):
    return ServicePlan(
        name=f"{address}/{protocol.label}",
        address=Endpoint.parse(address),
        protocol=protocol,
        selection=Table(Key.TURN, ()),
        backends=tuple(BackendPlan(Endpoint.parse(backend)) for backend in backends),
        nat=nat,
    )


CLAIM = Claim.of(
    Plan(
        (
            service(f"{VIP}:80", f"{SERVER}:80"),
            service(f"{VIP}:53", f"{SERVER}:53", protocol=Protocol.UDP),
            service("10.9.0.101:443", f"{FULL_SERVER}:443", nat=Nat.FULL),
            service("10.9.0.101:53", f"{FULL_SERVER}:53", protocol=Protocol.UDP, nat=Nat.FULL),
            service(f"[{VIP6}]:80", f"[{SERVER6}]:80"),
            service(f"[{VIP6}]:53", f"[{SERVER6}]:53", protocol=Protocol.UDP),
            service("[fd09::101]:443", f"[{SERVER6}]:443", nat=Nat.FULL),
        )
    )
)
TO_SERVICE = Sample(packed("192.0.2.7"), packed(VIP), 6, 40_000, 80)
HEALTH_CHECK_REPLY = Sample(packed(SERVER), packed("10.9.2.1"), 6, 80, 40_000)


@pytest.fixture(scope="module")
def net(lab_possible):
    with Net() as net:
        for there in ("192.0.2.1", "2001:db8::1"):  # so that no later packet waits, and is sent again
            net.client.run("ping", "-c", "1", "-W", "5", there)
        yield net


@pytest.fixture
def on_gateway(net):
    """Run what a method of a shield returns on the gateway; leaves nothing there."""

    def run(coroutine):
        with net.gateway.entered():
            return asyncio.run(coroutine)

    yield run
    run(Shield().remove())


@pytest.fixture
def shielded(on_gateway):
    on_gateway(Shield().apply(CLAIM, ["g0", "g1"]))


def dropped(net):
    """Packets that the shield has dropped since its table was made."""
    listed = json.loads(net.gateway.run("nft", "-j", "list", "counter", "netdev", "l4lb", "dropped"))
    return listed["nftables"][1]["counter"]["packets"]


def traces(net):
    tc = [net.gateway.run("tc", "qdisc", "show")]
    tc += [net.gateway.run("tc", "filter", "show", "dev", link, "egress") for link in ("g0", "g1")]
    return net.gateway.run("nft", "list", "ruleset"), *tc


def clsact_interfaces(net):
    qdiscs = json.loads(net.gateway.run("tc", "-json", "qdisc", "show"))
    return sorted(qdisc["dev"] for qdisc in qdiscs if qdisc["kind"] == "clsact")


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_the_host_refuses_other_ports_of_the_vip_and_is_silent_on_the_services(net, shielded, vip):
    with net.client.connect((vip, 80)) as served, net.client.connect((vip, 81)) as other:
        assert outcome(other) == errno.ECONNREFUSED
        assert outcome(served, 0) is None
    assert dropped(net) >= 1  # a second one is the first one, sent again


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_the_vip_answers_ping(net, shielded, vip):
    net.client.run("ping", "-c", "1", "-W", "5", vip)
    assert dropped(net) == 0


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_a_health_check_reaches_its_backend(net, shielded, server):
    with net.server.listen((server, 80)), net.gateway.connect((server, 80)) as check:
        assert outcome(check) == 0
    assert dropped(net) == 0


def test_a_health_check_of_a_full_nat_backend_uses_other_ports_than_snat(net, shielded):
    with net.server.listen((FULL_SERVER, 443)), net.gateway.connect((FULL_SERVER, 443)) as check:
        assert outcome(check) == 0
    assert dropped(net) == 0


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_a_direct_connection_waits_for_the_hand_back(net, shielded, server):
    with net.server.listen((server, 80)), net.client.connect((server, 80)) as direct:
        wait_for("the shield to drop the SYN-ACK", lambda: dropped(net) >= 1)
        assert outcome(direct, 0) is None
        with HandBack(net.gateway, CLAIM, OWN):
            assert outcome(direct) == 0  # by the SYN-ACK's retransmission


def test_64_kilobyte_frames_are_handed_back_intact(net, shielded):
    sent = os.urandom(16 << 20)
    received = hashlib.sha256()
    with (
        HandBack(net.gateway, CLAIM, OWN) as hand_back,
        net.server.listen((SERVER, 80)) as listener,
        net.client.connect((SERVER, 80)) as client,
    ):
        assert outcome(client) == 0
        client.settimeout(20)
        connection, _ = listener.accept()
        with connection:
            sender = threading.Thread(target=lambda: (connection.sendall(sent), connection.close()))
            sender.start()
            while data := client.recv(1 << 20):
                received.update(data)
            sender.join()
    assert received.digest() == hashlib.sha256(sent).digest()
    assert max(hand_back.frames) > 60_000


@pytest.mark.parametrize(("server", "client"), [(SERVER, "192.0.2.7"), (SERVER6, "2001:db8::7")])
def test_fragments_of_a_direct_connection_are_handed_back(net, shielded, server, client):
    with (
        net.server.udp((server, 53)) as sender,
        net.client.udp((client, 5000)) as receiver,
        HandBack(net.gateway, CLAIM, OWN) as hand_back,
    ):
        sender.sendto(b"x" * 4000, (client, 5000))
        assert receiver.recv(5000) == b"x" * 4000
    assert len(hand_back.frames) == 3


@pytest.mark.parametrize(("vip", "client"), [(VIP, "192.0.2.7"), (VIP6, "2001:db8::7")])
def test_fragments_to_the_vip_that_are_the_hosts_are_handed_back(net, shielded, vip, client):
    with (
        net.gateway.udp((vip, 5000)) as receiver,
        net.client.udp((client, 0)) as sender,
        HandBack(net.gateway, CLAIM, OWN) as hand_back,
    ):
        sender.sendto(b"x" * 4000, (vip, 5000))
        assert receiver.recv(5000) == b"x" * 4000
    assert len(hand_back.frames) == dropped(net) == 3


@pytest.mark.parametrize(("server", "client"), [(SERVER, "192.0.2.7"), (SERVER6, "2001:db8::7")])
def test_an_icmp_error_to_a_client_about_its_direct_packet_is_handed_back(net, shielded, server, client):
    with net.client.udp((client, 0)) as sender, HandBack(net.gateway, CLAIM, OWN) as hand_back:
        sender.connect((server, 9))
        sender.send(b"nobody listens")
        with pytest.raises(ConnectionRefusedError):
            sender.recv(100)
    assert len(hand_back.frames) == dropped(net) == 1


@pytest.mark.parametrize(("vip", "client"), [(VIP, "192.0.2.7"), (VIP6, "2001:db8::7")])
def test_an_icmp_error_to_the_vip_about_the_hosts_packet_is_handed_back(net, shielded, vip, client):
    with net.gateway.udp((vip, 5000)) as sender, HandBack(net.gateway, CLAIM, OWN) as hand_back:
        sender.connect((client, 9))
        sender.send(b"nobody listens")
        with pytest.raises(ConnectionRefusedError):
            sender.recv(100)
    assert len(hand_back.frames) == dropped(net) == 1


def test_what_is_handed_back_has_no_mark_left(net, shielded):
    count = "add table ip t; add chain ip t c { type filter hook prerouting priority -300; }; "
    count += f"add rule ip t c meta mark {HAND_BACK_MARK} counter drop"
    net.gateway.run("nft", count)
    try:
        with (
            net.server.listen((SERVER, 80)),
            HandBack(net.gateway, CLAIM, OWN) as hand_back,
            net.client.connect((SERVER, 80)) as direct,
        ):
            assert outcome(direct) == 0
        assert hand_back.frames
    finally:
        net.gateway.run("nft", "delete", "table", "ip", "t")


@pytest.mark.parametrize(
    "ignored",
    [
        frame(TO_SERVICE, tag=b"\x81\x00\x00\x07"),
        frame(TO_SERVICE, tag=b"\x81\x00\x00\x00\x81\x00\x00\x08"),
        frame(TO_SERVICE, tag=b"\x88\xa8\x00\x07"),
        frame(TO_SERVICE, tag=b"\x88\xa8\x00\x07\x81\x00\x00\x08"),
        frame(TO_SERVICE, destination_mac=OTHER_MAC),
        frame(TO_SERVICE, destination_mac=b"\xff" * 6),
        frame(Sample(packed("2001:db8::7"), packed(VIP6), 6, 40_000, 80, extensions=(51,))),
    ],
    ids=["vlan", "behind-a-priority", "provider", "stacked", "other-mac", "broadcast", "authentication"],
)
def test_what_has_a_tag_or_is_for_others_or_cannot_be_translated_is_not_claimed(net, shielded, ignored):
    with (
        net.gateway.packet_socket("g0", program=CLAIM.packet_filter()) as watch,
        net.client.packet_socket("c0") as wire,
    ):
        wire.send(PLAIN + ignored)
        wire.send(PLAIN + frame(TO_SERVICE))
        assert watch.recv(2000)[len(PLAIN) :] == frame(TO_SERVICE)
        wait_for("the claimed frame to be dropped", lambda: dropped(net))
    assert dropped(net) == 1


@pytest.mark.parametrize("tag", [b"\x81\x00\xa0\x00", b"\x88\xa8\x00\x00"], ids=["802.1Q", "802.1ad"])
def test_a_tag_without_a_vlan_is_a_priority(net, shielded, tag):
    with (
        net.gateway.packet_socket("g0", program=CLAIM.packet_filter()) as watch,
        net.client.packet_socket("c0") as wire,
    ):
        wire.send(PLAIN + frame(TO_SERVICE, tag=tag))
        assert watch.recv(2000)[len(PLAIN) :] == frame(TO_SERVICE)
        wait_for("the claimed frame to be dropped", lambda: dropped(net))


def test_an_interface_without_ethernet_is_not_claimed(net, on_gateway):
    """The packet filter reads Ethernet frames: what it cannot take the shield must not drop."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun: no interface without Ethernet to try")
    datagram = udp.HEADER.pack(40_000, 53, udp.SIZE + 5, 0) + b"hello"
    with net.gateway.udp((VIP, 53)) as stack, net.gateway.tun("tun9") as device:
        on_gateway(Shield().apply(CLAIM, ["tun9"]))
        device.write(ipv4.build(packed("192.0.2.7"), packed(VIP), udp.PROTOCOL, datagram))
        assert stack.recv(100) == b"hello"


def test_random_packets_are_dropped_if_covered_and_seen_if_accepted(net, shielded):
    program = CLAIM.packet_filter()
    instructions = bpf_machine.load(program)
    end = frame(HEALTH_CHECK_REPLY)  # seen and not dropped: when the second comes, the first is through

    @settings(max_examples=250)
    @given(samples())
    def check(sample):
        nonlocal before
        data = frame(sample)
        buffer = bytearray(PLAIN + data)
        packet = parse(buffer, len(buffer))
        assume(not packet.icmp_error or packet.quoted)  # covers() guesses
        for each in (data, end, end):
            wire.send(PLAIN + each)
        seen = list(itertools.takewhile(lambda got: got != end, iter(lambda: watch.recv(2000)[10:], None)))
        assert watch.recv(2000)[10:] == end
        after, before = dropped(net) - before, dropped(net)
        assert seen == ([data] if bpf_machine.run(instructions, data)[0] else [])
        assert after == CLAIM.covers(packet, OWN)

    # Nobody answers: the answers would be counted as well.
    silence = "add table netdev t; "
    silence += "add chain netdev t c { type filter hook ingress device g0 priority 0; policy drop; }"
    net.gateway.run("nft", silence)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # one queue, so that packets stay in order
    try:
        with (
            net.gateway.packet_socket("g0", program=program) as watch,
            net.client.packet_socket("c0") as wire,
        ):
            before = dropped(net)
            check()
    finally:
        os.sched_setaffinity(0, cpus)
        net.gateway.run("nft", "delete", "table", "netdev", "t")


def test_2000_backends_are_replaced_without_a_gap(net, on_gateway):
    """A gap is as short as one packet's way through the rules: one has to be under way at any time."""
    backends = [f"10.9.{128 + n // 250}.{n % 250 + 1}:{8000 + n % 3}" for n in range(2000)]
    large = Claim.of(Plan((service(f"{VIP}:53", *backends, protocol=Protocol.UDP),)))
    shield, replaced, through = Shield(), threading.Event(), threading.Event()
    on_gateway(shield.apply(CLAIM, ["g0"]))

    with (
        net.gateway.udp((VIP, 53)) as stack,
        net.gateway.udp((VIP, 54)) as beside,
        net.client.udp(("192.0.2.7", 0)) as client,
        net.client.udp(("192.0.2.7", 0)) as bursts,
        net.client.without_gso("c0"),
    ):
        bursts.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(b"during"))

        def flood():
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # one queue: packets stay in order
            while not through.is_set():
                bursts.sendto(b"during" * 64, (VIP, 54 if replaced.is_set() else 53))

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            for claim in [CLAIM, large] * 20:
                on_gateway(shield.apply(claim, ["g0"]))
            replaced.set()
            assert beside.recv(100) == b"during"
        finally:
            replaced.set()
            through.set()
            flooding.join()
        assert dropped(net) > 0
        listed = json.loads(net.gateway.run("nft", "-j", "list", "set", "netdev", "l4lb", "backends4"))
        assert len(listed["nftables"][1]["set"]["elem"]) == 2000
        on_gateway(shield.remove())
        client.sendto(b"after", (VIP, 53))
        assert stack.recv(100) == b"after"


def test_a_held_shield_expires_by_itself(net, on_gateway):
    async def hold():
        shield = Shield()
        await shield.apply(CLAIM, ["g0"])
        await shield.hold(CLAIM, ["g0"], 1.0)

    with net.gateway.udp((VIP, 53)) as stack, net.client.udp(("192.0.2.7", 0)) as client:
        on_gateway(hold())
        client.sendto(b"held", (VIP, 53))
        wait_for("the held shield to drop", lambda: dropped(net))
        stack.settimeout(0.02)

        def arrived():
            client.sendto(b"expired", (VIP, 53))
            try:
                return stack.recv(100)
            except TimeoutError:
                return None

        assert wait_for("the shield to expire", arrived, 5.0) == b"expired"
    assert "l4lb" in traces(net)[0]
    assert clsact_interfaces(net) == []


def test_remove_leaves_no_trace_of_a_shield_whose_process_is_gone(net, on_gateway):
    before = traces(net)
    on_gateway(Shield().apply(CLAIM, ["g0", "g1"]))
    on_gateway(Shield().apply(CLAIM, ["g0"]))
    assert traces(net) != before
    assert on_gateway(Shield().remove()) is True
    assert traces(net) == before
    assert on_gateway(Shield().remove()) is False


def test_a_clsact_qdisc_of_somebody_else_stays_and_so_do_their_filters(net, on_gateway):
    net.gateway.run("tc", "qdisc", "add", "dev", "g0", "clsact")
    try:
        found = traces(net)
        on_gateway(Shield().apply(CLAIM, ["g0", "g1"]))
        theirs = ["dev", "g1", "ingress", "pref", "9", "bpf", "bytecode", "1,6 0 0 0"]
        net.gateway.run("tc", "filter", "add", *theirs)
        on_gateway(Shield().remove())
        assert traces(net)[2] == found[2]
        assert clsact_interfaces(net) == ["g0", "g1"]
        assert "pref 9" in net.gateway.run("tc", "filter", "show", "dev", "g1", "ingress")
    finally:
        for link in ("g0", "g1"):
            net.gateway.run("tc", "qdisc", "delete", "dev", link, "clsact")


def test_an_ingress_qdisc_is_named_as_what_is_in_the_way(net, on_gateway):
    net.gateway.run("tc", "qdisc", "add", "dev", "g1", "ingress")
    try:
        before = traces(net)
        with pytest.raises(DatapathError, match=r"^g1 has an ingress qdisc, .* move its filters to clsact"):
            on_gateway(Shield().apply(CLAIM, ["g0", "g1"]))
        assert traces(net) == before
    finally:
        net.gateway.run("tc", "qdisc", "delete", "dev", "g1", "ingress")


def test_a_table_that_cannot_be_changed_in_place_is_replaced(net, on_gateway):
    net.gateway.run("nft", "add table netdev l4lb; add set netdev l4lb vips4 { type inet_service; }")
    on_gateway(Shield().apply(CLAIM, ["g0"]))
    assert VIP in net.gateway.run("nft", "list", "set", "netdev", "l4lb", "vips4")


@pytest.mark.parametrize("name", ["eth0.100", "br-lan", "_x", "0", "counter", "WAN.1-2_3"])
def test_interfaces_may_have_any_usual_name(net, on_gateway, name):
    net.gateway.run("ip", "link", "add", "dev", name, "type", "veth", "peer", "name", "c9")
    try:
        shield = Shield()
        assert on_gateway(shield.apply(CLAIM, ["g0", name])) == ("g0", name)
        assert on_gateway(shield.apply(CLAIM, ["g0"])) == ("g0",)
    finally:
        net.gateway.run("ip", "link", "delete", "dev", name)


def test_an_interface_given_up_is_left_clean(net, on_gateway):
    shield = Shield()
    assert on_gateway(shield.apply(CLAIM, ["g0", "g1"])) == ("g0", "g1")
    assert on_gateway(shield.apply(CLAIM, ["g0"])) == ("g0",)
    assert clsact_interfaces(net) == ["g0"]
    assert "g1" not in net.gateway.run("nft", "list", "table", "netdev", "l4lb")


@pytest.mark.parametrize(
    "removal",
    [
        ("nft", "flush", "ruleset"),
        ("tc", "qdisc", "delete", "dev", "g0", "clsact"),
        ("tc", "filter", "delete", "dev", "g1", "egress"),
    ],
    ids=lambda removal: " ".join(removal[:2]),
)
def test_what_somebody_removes_is_noticed_and_can_be_put_back(net, on_gateway, removal):
    shield = Shield()
    on_gateway(shield.apply(CLAIM, ["g0", "g1"]))
    assert on_gateway(shield.loaded())
    try:
        net.gateway.run(*removal)
        assert not on_gateway(shield.loaded())
        on_gateway(shield.apply(CLAIM, ["g0", "g1"]))
        assert on_gateway(shield.loaded())
    finally:
        on_gateway(shield.remove())
        if "filter" in removal:  # whose qdisc it was is not known any more
            net.gateway.run("tc", "qdisc", "delete", "dev", "g1", "clsact")


def test_a_missing_interface_is_left_out(net, on_gateway):
    assert on_gateway(Shield().apply(CLAIM, ["g0", "not-there"])) == ("g0",)


def test_a_vanished_interface_takes_its_chain_along_and_is_shielded_when_it_is_back(net, on_gateway):
    add = ["ip", "link", "add", "g9", "type", "veth", "peer", "name", "c9"]
    shield = Shield()
    net.gateway.run(*add)
    assert on_gateway(shield.apply(CLAIM, ["g0", "g9"])) == ("g0", "g9")
    net.gateway.run("ip", "link", "delete", "g9")
    assert on_gateway(shield.apply(CLAIM, ["g0", "g9"])) == ("g0",)
    net.gateway.run(*add)
    try:
        assert on_gateway(shield.apply(CLAIM, ["g0", "g9"])) == ("g0", "g9")
        assert f"{HAND_BACK_MARK:#x}" in net.gateway.run("tc", "filter", "show", "dev", "g9", "egress")
    finally:
        net.gateway.run("ip", "link", "delete", "g9")


def test_two_filters_fit_into_the_option_memory_of_older_kernels(net):
    """20 KiB; while a filter is replaced both count. kernel_bytes() is what this rests on."""
    hosts = [str(ip_address(0x0A09_8000 + 3 * n)) for n in range(700)]
    rooms = [(20_480, None)]
    with net.gateway.entered():
        try:
            subprocess.run(
                ["sysctl", "-qw", "net.core.optmem_max=20480"], check=True, stderr=subprocess.PIPE
            )
            rooms.append((131_072, 65_000))
        except subprocess.CalledProcessError:
            pass  # one value for all namespaces, and 20 KiB already
        for most, room in rooms:
            if len(rooms) > 1:
                subprocess.run(["sysctl", "-qw", f"net.core.optmem_max={most}"], check=True)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
                for count in range(100, 701, 50):
                    plan = Plan((service(f"{VIP}:80", *(f"{host}:80" for host in hosts[:count])),))
                    claim = Claim.of(plan)
                    attach_filter(sock, claim.packet_filter(room) if room else claim.packet_filter())

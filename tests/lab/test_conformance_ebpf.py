"""The packet-case table on the eBPF datapaths: the programs, one packet at a time by BPF_PROG_TEST_RUN, and
on real links, where the kernel sends."""

import subprocess
from ipaddress import ip_address
from typing import ClassVar

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.libbpf import LibbpfError
from l4lb.model import DropReason, Key, Limits, Table, Verdict
from tests.conformance.case import all_cases
from tests.conformance.engines.live import EBPF_OFFERS, LiveEngine, ebpf
from tests.conformance.engines.program import OFFERS, ProgramEngine
from tests.conformance.packets import VNET, tcp
from tests.conformance.plans import plan, service
from tests.conformance.run import run
from tests.conformance.world import GATEWAY_MAC, V4, Host, Side
from tests.unit.datapath.ebpf.kernel import reason

pytestmark = pytest.mark.lab

KINDS = ("tc", "xdp")
OURS, CLIENT_MAC, BACKEND_MAC = GATEWAY_MAC[Side.CLIENTS], "02:00:00:01:01:02", "02:00:00:02:01:02"


def loaded(engine, *arguments):
    """An engine of this kind; where none can be, the test is skipped."""
    try:
        return engine(*arguments)
    except (LibbpfError, OSError) as problem:
        pytest.skip(reason(problem))


@pytest.fixture(scope="module", params=KINDS)
def program(request, lab_possible):
    engine = loaded(ProgramEngine, request.param)
    yield engine
    engine.close()


class SmallEngine(ProgramEngine):
    """With a table for as many established connections as are easily opened."""

    ALLOWED = 64
    sizes: ClassVar = ProgramEngine.sizes | {"connections4": ALLOWED, "blocks": 1}


@pytest.fixture(params=KINDS)
def small(request, lab_possible):
    engine = loaded(SmallEngine, request.param)
    yield engine
    engine.close()


SUMMED = 4  # BPF_F_TEST_SKB_CHECKSUM_COMPLETE

CUT = {
    "without_the_trailer",
    "ethernet_trailer",
    "a_frame_longer_than_its_packet_is_cut",
    "the_quote_is_as_long_as_allowed",
    "too_big_for_the_backend_is_answered",
    "too_big_for_the_client_is_answered",
    "too_big_for_a_neighbour_that_is_not_known_yet",
    "too_big_full_nat",
    "too_big_udp",
    "fragments_too_big",
    "ttl_comes_before_size",
    "a_syn_too_big_opens_nothing",
    "all_down_refuses",
    "refused_by_round_robin",
    "mid_stream_refused",
}


@pytest.fixture(scope="module")
def summed(lab_possible):
    engine = loaded(ProgramEngine, "tc", SUMMED)
    with engine.inside():
        try:
            engine.send(bytes(100), Side.CLIENTS)
        except LibbpfError as problem:
            engine.close()
            pytest.skip(f"no test runs with a sum of the whole packet (Linux 6.16): {problem}")
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=KINDS)
def live(request, lab_possible, tmp_path_factory):
    file_system = tmp_path_factory.mktemp("bpf")
    subprocess.run(["mount", "-t", "bpf", "bpf", file_system], check=True)
    try:
        engine = LiveEngine(request.param, ebpf(request.param, file_system), EBPF_OFFERS)
        yield engine
        engine.close()
    except DatapathError as problem:
        pytest.skip(reason(problem))
    finally:
        subprocess.run(["umount", file_system], check=True)


def skip_without(missing):
    if missing:
        pytest.skip("no " + ", no ".join(need.value for need in missing))


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_case(case, program):
    skip_without(case.missing(OFFERS))
    with program.inside():
        run(case, program)


@pytest.mark.parametrize("case", [case for case in all_cases() if case.name not in CUT], ids=str)
def test_sum_of_the_device(case, summed):
    """The device has summed the whole packet (CHECKSUM_COMPLETE), and after the program the sum is still
    that of the packet: else the test run fails, and a host that gets the packet over a veth complains of
    its hardware. A packet that is CUT has no such sum any more; the test run does not know that."""
    skip_without(case.missing(OFFERS))
    with summed.inside():
        run(case, summed)


@pytest.mark.parametrize("address", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "02:00:00:01:00:99"])
def test_frames_for_others_are_not_forwarded(address, program):
    """A packet in a broadcast or multicast frame is not forwarded to one host (RFC 1812 5.3.4), and one for
    another host is that host's, though a promiscuous card takes it; at any time of a connection."""
    syn, answer, ack = (
        tcp(V4.client, V4.vip, "S", seq=1),
        tcp(V4.web1, V4.client, "SA", seq=1, ack=2),
        tcp(V4.client, V4.vip, "A", seq=2, ack=2),
    )
    program.reset()
    with program.inside():
        program.configure(plan(service(V4, V4.web1)))
        for packet in (syn, ack):
            for to, verdict in ((address, Verdict.PASS), (OURS, Verdict.FORWARD)) * 2:
                assert program.send(packet.on_wire(CLIENT_MAC, to), Side.CLIENTS).verdict is verdict
            for to, verdict in ((address, Verdict.PASS), (GATEWAY_MAC[Side.BACKENDS], Verdict.FORWARD)) * 2:
                assert program.send(answer.on_wire(BACKEND_MAC, to), Side.BACKENDS).verdict is verdict


def opened(engine, client):
    """How many SYNs it took to open a connection; None if 1,000 were refused."""
    syn, ack = (
        tcp(client, V4.vip, flags, **numbers).on_wire(CLIENT_MAC, OURS)
        for flags, numbers in (("S", {"seq": 1}), ("A", {"seq": 2, "ack": 2}))
    )
    answer = tcp(V4.web1, client, "SA", seq=1, ack=2).on_wire(BACKEND_MAC, GATEWAY_MAC[Side.BACKENDS])
    for tries in range(1, 1_001):
        result = engine.send(syn, Side.CLIENTS)
        if result.verdict is Verdict.FORWARD:
            assert engine.send(answer, Side.BACKENDS).verdict is Verdict.FORWARD
            assert engine.send(ack, Side.CLIENTS).verdict is Verdict.FORWARD
            return tries
        assert result.reasons == {DropReason.ESTABLISHED_FULL: 1}
    return None


def test_without_a_daemon_what_has_expired_makes_room(small):
    """Nobody sweeps: the table is as full as is allowed, and new ones take the place of dead ones."""
    with small.inside():
        small.configure(plan(service(V4, V4.web1), limits=Limits(half_open=100, established=small.ALLOWED)))
        for wave in range(3):
            clients = [V4.client.at(10_000 + 1_000 * wave + number) for number in range(small.ALLOWED)]
            tries = [opened(small, client) for client in clients]
            assert None not in tries
            assert tries.count(1) > small.ALLOWED // 2
            assert opened(small, V4.client.at(50_000)) is None  # all are alive
            small.wait(10_000)


def asked_by(engine, client):
    """The backend that the client's SYN goes to."""
    result = engine.send(tcp(client, V4.vip, "S", seq=1).on_wire(CLIENT_MAC, OURS), Side.CLIENTS)
    assert result.verdict is Verdict.FORWARD
    packet = result.out[0][1][VNET + 14 :]
    return next(host for host in (V4.web1, V4.web2) if ip_address(host.ip).packed == packet[16:20])


def shaken_hands(engine, client):
    """The backend that the client has a connection with."""
    backend = asked_by(engine, client)
    answer = tcp(backend, client, "SA", seq=1, ack=2).on_wire(BACKEND_MAC, GATEWAY_MAC[Side.BACKENDS])
    assert engine.send(answer, Side.BACKENDS).verdict is Verdict.FORWARD
    last = tcp(client, V4.vip, "A", seq=2, ack=2).on_wire(CLIENT_MAC, OURS)
    assert engine.send(last, Side.CLIENTS).verdict is Verdict.FORWARD
    return backend


def test_a_flood_makes_no_regular_client_be_forgotten(small):
    """Clients that had a connection are remembered behind SYNs from twice as many addresses as there is
    room for. Who has only sent a SYN is remembered too, but may be forgotten."""
    table = Table(Key.RANDOM, (0, 1))
    flood = [tcp(Host(f"10.1.{16 + at // 250}.{1 + at % 250}", 40_000), V4.vip, "S") for at in range(8_192)]
    regulars, newcomers = ([Host(f"10.1.{net}.{at}", 40_000) for at in range(1, 31)] for net in (8, 9))
    with small.inside():
        small.configure(plan(service(V4, V4.web1, V4.web2, selection=table, affinity=3_000.0)))
        theirs = [shaken_hands(small, client) for client in regulars]
        others = [asked_by(small, client) for client in newcomers]
        assert [asked_by(small, client.at(50_000)) for client in newcomers] == others
        for each in flood:
            assert small.send(each.on_wire(CLIENT_MAC, OURS), Side.CLIENTS).verdict is Verdict.FORWARD
        assert [asked_by(small, client.at(50_000)) for client in regulars] == theirs


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_case_live(case, live):
    skip_without(case.missing(live.offers))
    run(case, live)

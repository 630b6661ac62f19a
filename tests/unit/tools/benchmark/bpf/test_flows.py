"""Packets of many flows: what Python says of them and what the programs write."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.bpf.flows import BACKEND_ISN, CLIENT_ISN, FRAME, PORTS, Order, client
from benchmark.bpf.programs import context, loaded
from l4lb.datapath.libbpf import Object
from l4lb.model import Endpoint
from l4lb.wire import tcp
from l4lb.wire.checksum import ones_sum, pseudo_header

_MACS = "02:00:00:00:01:01", "02:00:00:00:01:0a"
_VIP = Endpoint.parse("10.1.0.100:1000")


def test_flows_have_ends_of_their_own():
    numbers = (0, 1, PORTS - 1, PORTS, 999_999, 3_999_999_999)
    assert len({client(number) for number in numbers}) == len(numbers)
    assert client(PORTS + 1) == Endpoint.parse("10.128.0.1:10001")


def test_more_services_than_ports_are_refused():
    with pytest.raises(ValueError, match="65000 services from port 1000"):
        Order(_MACS, _VIP, tcp.ACK, 1, services=65_000).pack()


@pytest.fixture(scope="module")
def restore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Object]:
    if os.geteuid() != 0:
        pytest.skip("only root may load BPF programs")
    with loaded("restore", tmp_path_factory.mktemp("bpf")) as program:
        yield program


def written(restore: Object, order: Order, runs: int = 1) -> bytes:
    """The packet after so many runs on one that was garbage."""
    restore.maps["orders"].update(bytes(4), order.pack())
    done = restore.programs["restore_xdp"].test_run(b"\xa5" * FRAME, ctx=context(FRAME, 1), repeat=runs)
    return done.data


def destination_port(frame: bytes) -> int:
    return int.from_bytes(frame[36:38], "big")


@pytest.mark.lab
@pytest.mark.parametrize("flow", [0, 1, PORTS - 1, PORTS, 999_999, 3_999_999_999])
@pytest.mark.parametrize("services", [1, 7, 1_000])
def test_a_frame_is_that_of_its_flow_with_right_checksums(restore: Object, flow: int, services: int):
    frame = written(restore, Order(_MACS, _VIP, tcp.ACK, 4_000_000_000, services, first=flow))
    assert frame[:14].hex(":") == f"{_MACS[0]}:{_MACS[1]}:08:00"
    assert Endpoint(frame[26:30], int.from_bytes(frame[34:36], "big")) == client(flow)
    assert (frame[30:34], destination_port(frame)) == (_VIP.ip, _VIP.port + flow % services)
    assert ones_sum(frame[14:34]) == 0xFFFF
    segment = frame[34:]
    assert ones_sum(segment + pseudo_header(frame[26:30], _VIP.ip, 6, 32).to_bytes(2, "big")) == 0xFFFF


@pytest.mark.lab
def test_flows_come_in_turn_and_begin_again(restore: Object):
    order = Order(_MACS, _VIP, tcp.ACK, 3, services=3)
    assert [destination_port(written(restore, order, runs)) - _VIP.port for runs in (1, 2, 3, 4)] == [
        0,
        1,
        2,
        0,
    ]


@pytest.mark.lab
def test_shuffled_flows_come_in_random_order(restore: Object):
    order = Order(_MACS, _VIP, tcp.ACK, 1_000, services=1_000, shuffled=True)
    ports = [destination_port(written(restore, order)) for _ in range(50)]
    assert len(set(ports)) > 30
    assert ports != sorted(ports)


@pytest.mark.lab
def test_a_syn_begins_and_everything_else_goes_on(restore: Object):
    syn, ack = (written(restore, Order(_MACS, _VIP, flags, 1)) for flags in (tcp.SYN, tcp.ACK))
    assert (syn[38:46], syn[47]) == (CLIENT_ISN.to_bytes(4, "big") + bytes(4), tcp.SYN)
    expected = (CLIENT_ISN + 1).to_bytes(4, "big") + (BACKEND_ISN + 1).to_bytes(4, "big")
    assert (ack[38:46], ack[47]) == (expected, tcp.ACK)


@pytest.mark.lab
def test_a_receiver_answers_a_syn_and_keeps_the_rest(restore: Object, tmp_path: Path):
    syn, ack = (written(restore, Order(_MACS, _VIP, flags, 1)) for flags in (tcp.SYN, tcp.ACK))
    with loaded("receiver", tmp_path) as receiver:
        program = receiver.programs["receive_xdp"]
        answered = program.test_run(syn, ctx=context(FRAME, 1))
        assert answered.retval == 4  # XDP_REDIRECT
        frame = answered.data
        assert (frame[:6], frame[6:12]) == (syn[6:12], syn[:6])
        assert (frame[26:30], frame[30:34]) == (_VIP.ip, client(0).ip)
        assert (frame[34:36], frame[36:38]) == (syn[36:38], syn[34:36])
        assert frame[38:46] == BACKEND_ISN.to_bytes(4, "big") + (CLIENT_ISN + 1).to_bytes(4, "big")
        assert frame[47] == tcp.SYN | tcp.ACK
        pseudo = pseudo_header(_VIP.ip, client(0).ip, 6, 32).to_bytes(2, "big")
        assert ones_sum(frame[34:] + pseudo) == 0xFFFF
        assert program.test_run(ack, ctx=context(FRAME, 1)).retval == 1  # XDP_DROP
        assert (
            program.test_run(ack[:12] + b"\x08\x06" + ack[14:], ctx=context(FRAME, 1)).retval == 2
        )  # XDP_PASS
        counts = [receiver.maps["received"].lookup_percpu(kind.to_bytes(4, "little")) for kind in (0, 1)]
        assert [sum(int.from_bytes(value, "little") for value in each) for each in counts] == [1, 1]

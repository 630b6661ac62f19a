"""Neighbours that the eBPF programs send to are in use for the kernel, which asks if they are there."""

import json
import subprocess
import time

import pytest

from l4lb.datapath.base import DatapathError
from netlab.command import inside as command_in
from tests.conformance.engines.live import EBPF_OFFERS, LiveEngine, ebpf
from tests.conformance.exchanges import CLIENT_NEXT, CLIENT_SEQ
from tests.conformance.packets import tcp
from tests.conformance.plans import plan, service
from tests.conformance.world import GATEWAY_MAC, NETS, Side, route
from tests.unit.datapath.ebpf.kernel import reason

pytestmark = pytest.mark.lab

DEADLINE = 10.0  # seconds; one packet in a second goes by the neighbour's address


@pytest.fixture(params=["tc", "xdp"])
def live(request, lab_possible, tmp_path):
    subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], check=True)
    try:
        engine = LiveEngine(request.param, ebpf(request.param, tmp_path), EBPF_OFFERS)
    except DatapathError as problem:
        pytest.skip(reason(problem))
    else:
        yield engine
        engine.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def neighbour(live, *what):
    command = command_in(live.namespace, "ip", "-j", "neighbour", *what, "dev", Side.CLIENTS.value)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("net", NETS, ids=str)
def test_a_stale_router_is_asked_for_though_connections_are_short(net, live):
    """A router that has failed over without saying so would otherwise get packets at its old address for
    as long as nothing else uses it (RFC 1122 2.3.2.1, RFC 4861 7.3.3)."""
    live.configure(plan(service(net, net.web1)))
    router = route(net.far.ip)
    neighbour(live, "replace", router.address, "lladdr", router.mac, "nud", "stale")
    deadline = time.monotonic() + DEADLINE
    port = 40_000
    while json.loads(neighbour(live, "show", router.address))[0]["state"] == ["STALE"]:
        assert time.monotonic() < deadline, "nobody has asked"
        port += 1
        client = net.far.at(port)
        send(live, tcp(client, net.vip, "S", seq=CLIENT_SEQ), router.mac, Side.CLIENTS)
        answer = tcp(net.web1, client, "SA", seq=7, ack=CLIENT_NEXT)
        send(live, answer, route(net.web1.ip).mac, Side.BACKENDS)


def send(live, packet, mac, side):
    result = live.send(packet.on_wire(mac, GATEWAY_MAC[side]), side)
    assert len(result.out) == 1, result

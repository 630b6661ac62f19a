"""Packets of which only the Ethernet header lies in the linear part of their socket buffer, as some drivers
give them to the kernel (napi_gro_frags())."""

import struct
import subprocess

import pytest

from l4lb.datapath.base import DatapathError
from netlab.command import inside as command_in
from tests.conformance.engines.live import EBPF_OFFERS, LiveEngine, ebpf
from tests.conformance.exchanges import HOP
from tests.conformance.packets import ETHERNET, VNET, fragments, udp
from tests.conformance.plans import UDP, plan, service
from tests.conformance.world import GATEWAY_MAC, NETS, PREFIXES, Side, route
from tests.lab.clients import wait_for

pytestmark = pytest.mark.lab

MTU = 9_000
SIZE = 8_000
"""Of a fragment: only of packets of more than a page does a packet socket keep the linear part short."""

DATA = bytes(range(256)) * 50


@pytest.fixture
def live(lab_possible, tmp_path):
    subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], check=True)
    try:
        engine = LiveEngine("tc", ebpf("tc", tmp_path), EBPF_OFFERS)
    except DatapathError as problem:
        pytest.skip(f"no eBPF: {problem}")
    else:
        try:
            for prefix in PREFIXES[Side.BACKENDS]:
                command = command_in(engine.namespace, "ip", "route", "replace", str(prefix))
                subprocess.run([*command, "dev", Side.BACKENDS.value, "mtu", str(MTU)], check=True)
            yield engine
        finally:
            engine.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def with_short_head(frame):
    """The virtio-net header says how long the headers are: as long as Ethernet's."""
    return frame[:2] + struct.pack("=H", ETHERNET) + frame[4:]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_fragments(net, live):
    live.configure(plan(service(net, net.web1, protocol=UDP)))
    before = fragments(udp(net.client, net.vip, DATA, df=False), SIZE, identification=77)
    after = fragments(udp(net.client, net.web1, DATA, df=False, ttl=HOP), SIZE, identification=77)
    for packet, expected in zip(before, after, strict=True):
        frame = with_short_head(packet.on_wire(route(net.client.ip).mac, GATEWAY_MAC[Side.CLIENTS]))

        def forwarded():  # until the route's MTU is known the sender is told that it is too long
            ((side, out),) = live.send(frame, Side.CLIENTS).out  # noqa: B023
            return out if side is Side.BACKENDS else None

        assert wait_for("it to be forwarded", forwarded)[VNET + ETHERNET :] == expected.packet

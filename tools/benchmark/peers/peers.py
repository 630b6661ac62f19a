"""The balancers, each started for its turn and stopped after it.

All do the same job: new connections to port 80 of the VIP go to the three web backends in turn, those
to port 8081 and to iperf3's port to the first one. Those that can check their backends do. Two do none of
it, and are what there is to compare with: plain forwarding, where the client asks the backends by their own
addresses, and no gateway at all, where it does so over a cable of its own. Nobody who stands between can be
faster than that; what is left are the two ends. For single packets the limit is a program that only sends
them on.

Never two at once: a packet socket sees the packets of the others and costs them time, and a hook of
netfilter slows everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from benchmark.lab.hosts import IPERF_PORT, ONE_PORT, WEB_PORT, Frontend, Hosts
from benchmark.peers import proxies
from benchmark.peers.bare import redirect
from benchmark.peers.kernel import ipvs, nftables, why_no_ipvs
from benchmark.peers.l4lb import config_text, running
from benchmark.peers.service import Served


@dataclass(frozen=True, slots=True)
class Peer:
    """A balancer by the name used on the command line and in figures."""

    name: str
    title: str
    serve: Callable[[Hosts], AbstractContextManager[Frontend]]
    packets: bool = False  # takes part where single packets are counted
    traffic: bool = True  # takes part under the loads of real clients
    absent: Callable[[], str | None] = lambda: None  # why it cannot run on this machine


def l4lb(datapath: str) -> Callable[[Hosts], AbstractContextManager[Frontend]]:
    """l4lb, with health checks where there are servers to check."""

    @contextmanager
    def serve(hosts: Hosts) -> Iterator[Frontend]:
        with ExitStack() as stack:
            if datapath == "xdp":
                stack.enter_context(hosts.ready_for_xdp())
            stack.enter_context(running(hosts, datapath, our_config(hosts, datapath)))
            yield hosts.at_vip

    return serve


def our_config(hosts: Hosts, datapath: str) -> str:
    """What l4lb is to do, the job of all peers."""
    return config_text(datapath, hosts.vip, _services(hosts))


def _services(hosts: Hosts) -> tuple[Served, ...]:
    # iperf3 serves one client at a time: a check of its own port would be that client.
    check = WEB_PORT if hosts.servers else None
    web = [f"{address}:{WEB_PORT}" for address in hosts.backends]
    return (
        Served("web", WEB_PORT, web, check),
        Served("one", ONE_PORT, [f"{hosts.backends[0]}:{ONE_PORT}"], check),
        Served("bulk", IPERF_PORT, [f"{hosts.backends[0]}:{IPERF_PORT}"], check),
    )


@contextmanager
def haproxy(hosts: Hosts) -> Iterator[Frontend]:
    """HAProxy, mode tcp."""
    with proxies.haproxy(hosts, _services(hosts)):
        yield hosts.at_vip


@contextmanager
def nginx_stream(hosts: Hosts) -> Iterator[Frontend]:
    """nginx as a TCP proxy."""
    with proxies.nginx(hosts, _services(hosts)):
        yield hosts.at_vip


@contextmanager
def forwarding(hosts: Hosts) -> Iterator[Frontend]:
    """No balancer: the gateway's kernel forwards what the client sends to the backends."""
    yield hosts.at_backends


@contextmanager
def direct(hosts: Hosts) -> Iterator[Frontend]:
    """No gateway: the client and the first backend have a cable of their own."""
    with hosts.joined():
        yield hosts.at_backends


PEERS: Final[dict[str, Peer]] = {
    peer.name: peer
    for peer in (
        Peer("raw", "l4lb, raw", l4lb("raw")),
        Peer("tc", "l4lb, tc", l4lb("tc"), packets=True),
        Peer("xdp", "l4lb, xdp", l4lb("xdp"), packets=True),
        Peer("nftables", "nftables DNAT", nftables, packets=True),
        Peer("ipvs", "IPVS, NAT", ipvs, absent=why_no_ipvs),
        Peer("haproxy", "HAProxy, mode tcp", haproxy, absent=proxies.why_no_haproxy),
        Peer("nginx", "nginx stream", nginx_stream, absent=proxies.why_no_nginx),
        Peer("forwarding", "plain forwarding", forwarding, packets=True),
        Peer("direct", "no gateway", direct),
        Peer("redirect", "bare XDP redirect", redirect, packets=True, traffic=False),
    )
}

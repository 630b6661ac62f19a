"""The kernel's own balancers on the gateway, given the same services as l4lb."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmark.lab.hosts import IPERF_PORT, ONE_PORT, WEB_PORT, Frontend, Hosts

_NFTABLES: Final = """\
table ip bench {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {vip} tcp dport {web} dnat to numgen inc mod {count} map {{ {backends} }}
    ip daddr {vip} tcp dport {one} dnat to {first}
    ip daddr {vip} tcp dport {iperf} dnat to {first}
  }}
}}
"""


@contextmanager
def nftables(hosts: Hosts) -> Iterator[Frontend]:
    """The kernel's own NAT: connection tracking, and a rule that picks backends in turn."""
    rules = _NFTABLES.format(
        vip=hosts.vip,
        web=WEB_PORT,
        one=ONE_PORT,
        iperf=IPERF_PORT,
        count=len(hosts.backends),
        backends=", ".join(f"{index} : {address}" for index, address in enumerate(hosts.backends)),
        first=hosts.backends[0],
    )
    with hosts.vip_on_gateway():
        hosts.must("gateway", "nft", "-f", "-", text=rules)
        try:
            yield hosts.at_vip
        finally:
            hosts.must("gateway", "nft", "delete", "table", "ip", "bench")


@contextmanager
def ipvs(hosts: Hosts) -> Iterator[Frontend]:
    """The kernel's own balancer, masquerading: backends see the client's address as they do with l4lb."""
    rules = [f"-A -t {hosts.vip}:{WEB_PORT} -s rr"]
    rules += [f"-a -t {hosts.vip}:{WEB_PORT} -r {address}:{WEB_PORT} -m" for address in hosts.backends]
    rules += [f"-A -t {hosts.vip}:{ONE_PORT} -s rr"]
    rules += [f"-a -t {hosts.vip}:{ONE_PORT} -r {hosts.backends[0]}:{ONE_PORT} -m"]
    rules += [f"-A -t {hosts.vip}:{IPERF_PORT} -s rr"]
    rules += [f"-a -t {hosts.vip}:{IPERF_PORT} -r {hosts.backends[0]}:{IPERF_PORT} -m"]
    with hosts.vip_on_gateway():
        hosts.must("gateway", "ipvsadm", "--restore", text="\n".join(rules) + "\n")
        try:
            yield hosts.at_vip
        finally:
            hosts.must("gateway", "ipvsadm", "--clear")


def why_no_ipvs() -> str | None:
    """What keeps IPVS from running here; None if nothing does."""
    if shutil.which("ipvsadm") is None:
        return "ipvsadm is not installed"
    tried = subprocess.run(
        ["unshare", "--net", "ipvsadm", "--list"], capture_output=True, text=True, check=False
    )
    return "this kernel has no IPVS" if tried.returncode else None

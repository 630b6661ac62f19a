"""Three hosts on two cables, without a server on any: for single packets, whose clients and backends are
only addresses.

    [ client ] eth0 ------- eth0 [ gateway ] eth1 ------- eth0 [ backend ]
     10.1.0.10          10.1.0.1               10.2.0.1         10.2.0.2
     10.128.0.0/9      VIP 10.1.0.100                        10.5.0.0/16

Behind the client are the clients of all flows, behind the backend are all backends. The gateway knows its
neighbours: nothing waits for them. GRO is on everywhere: without it, or an XDP program, a veth takes no
frames from XDP. The two cores of the benchmark have queues of their own, as on any network card: with one
for both, a core would receive what the other sends too much of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmark.lab.cores import CORE, OTHER_CORE, mask
from benchmark.lab.hosts import RENO, Hosts
from benchmark.lab.machine import only_bench
from l4lb.model import Endpoint
from netlab.command import find, inside, run
from netlab.lab import Lab
from netlab.record import Record, namespace_inode

HOSTS: Final = ("client", "gateway", "backend")
BACKENDS: Final = 8  # for what does not ask for another number

CLIENT_MAC: Final = "02:00:00:00:01:0a"
GATEWAY_MACS: Final = ("02:00:00:00:01:01", "02:00:00:00:02:01")  # eth0, eth1
BACKEND_MAC: Final = "02:00:00:00:02:02"

_PROGRAMS: Final = ("ethtool", "nft", "ss", "taskset", "unshare")
_QUEUES: Final = 2
_CARD: Final = f"mtu 1500 numtxqueues {_QUEUES} numrxqueues {_QUEUES}"
_LINKS: Final = f"""\
link add eth0 {_CARD} address {GATEWAY_MACS[0]} type veth \
peer name eth0 {_CARD} address {CLIENT_MAC} netns {{client}}
link add eth1 {_CARD} address {GATEWAY_MACS[1]} type veth \
peer name eth0 {_CARD} address {BACKEND_MAC} netns {{backend}}
"""
_CARDS: Final = (("client", "eth0"), ("gateway", "eth0"), ("gateway", "eth1"), ("backend", "eth0"))

# What a core sends goes into a queue of its own, and is received by that core: XPS, whose settings only
# a /sys that was mounted on the host shows.
_QUEUE_BY_CORE: Final = "mount -t sysfs sysfs /sys\n" + "".join(
    f"echo {mask(core)} > /sys/class/net/{{card}}/queues/tx-{queue}/xps_cpus\n"
    for queue, core in enumerate((CORE, OTHER_CORE))
    if core is not None
)
_UP: Final = {
    "gateway": f"""\
link set lo up
link set eth0 up
link set eth1 up
address add 10.1.0.1/24 dev eth0
address add 10.2.0.1/24 dev eth1
route add 10.128.0.0/9 via 10.1.0.10
route add 10.5.0.0/16 via 10.2.0.2
neighbour add 10.1.0.10 dev eth0 lladdr {CLIENT_MAC} nud permanent
neighbour add 10.2.0.2 dev eth1 lladdr {BACKEND_MAC} nud permanent
""",
    "client": """\
link set lo up
link set eth0 up
address add 10.1.0.10/24 dev eth0
route add default via 10.1.0.1
""",
    "backend": """\
link set lo up
link set eth0 up
address add 10.2.0.2/24 dev eth0
address add 10.5.0.1/16 dev lo
route add default via 10.2.0.1
""",
}
_SETTINGS: Final = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv4.conf.all.rp_filter=0", RENO)


class Cables(Hosts):
    """The hosts, up. Use ``open_cables``."""

    def __init__(self, lab: Lab) -> None:
        self.namespaces = {host: f"{lab.prefix}-{host}" for host in HOSTS}
        super().__init__(
            lambda host, *argv: inside(self.namespaces[host], *argv),
            self.namespaces["gateway"],
            lab.directory / "files",
            "10.1.0.100",
            backends(BACKENDS),
            servers=False,
        )


def backends(count: int) -> list[str]:
    """Addresses of backends."""
    first = int.from_bytes(Endpoint.parse("10.5.0.1:1").ip, "big")
    return [".".join(map(str, (first + number).to_bytes(4, "big"))) for number in range(count)]


@contextmanager
def open_cables(prefix: str) -> Iterator[Cables]:
    """The hosts; whatever has this prefix is removed before and after.

    Raises:
        BenchError: this machine cannot run a benchmark.
        LabError: another one runs, or they cannot be made.
    """
    with only_bench(prefix, _PROGRAMS) as lab:
        lab.directory.mkdir(parents=True)
        cables = Cables(lab)
        record = Record(lab.directory / "record.json")
        for name in cables.namespaces.values():
            record.namespaces[name] = None
            record.save()
            run(["ip", "netns", "add", name])
            record.namespaces[name] = namespace_inode(name)
            record.save()
        for host in HOSTS:
            cables.must(
                host, "sysctl", "-q", "-w", f"net.ipv4.ip_forward={int(host == 'gateway')}", *_SETTINGS
            )
        cables.must("gateway", "ip", "-batch", "-", text=_LINKS.format(**cables.namespaces))
        for host, lines in _UP.items():
            cables.must(host, find("ip"), "-batch", "-", text=lines)
        for host, card in _CARDS:
            cables.must(host, "ethtool", "-K", card, "gro", "on")
            cables.must(host, "unshare", "--mount", "sh", "-e", "-c", _QUEUE_BY_CORE.format(card=card))
        yield cables

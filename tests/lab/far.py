"""A host behind a host of the lab, on a link of a smaller MTU: packets there meet a router on the way.

gateway ------ via ------ far
        1500       1300
"""

import subprocess
from contextlib import contextmanager

from netlab.command import inside as command_in

FAR, FAR6 = "10.3.0.2", "2001:db8:3::2"
_ROUTER, _ROUTER6 = "10.3.0.1", "2001:db8:3::1"
MTU = 1300


def _ip(namespace, *lines):
    subprocess.run(
        command_in(namespace, "ip", "-batch", "-"), input="\n".join(lines), text=True, check=True
    )


@contextmanager
def far_host(lab, via):
    """The name of the network namespace of a host that only ``via`` is beside."""
    name = f"{lab.prefix}-far"
    router, gateway = lab.namespace(via), lab.namespace("gateway")
    host = lab.topology.hosts[via]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        # The far end takes and sends full frames: only the router knows of the limit.
        _ip(
            router,
            f"link add far0 mtu {MTU} type veth peer name eth0 mtu 1500 netns {name}",
            f"address add {_ROUTER}/24 dev far0",
            f"address add {_ROUTER6}/64 dev far0 nodad",
            "link set far0 up",
        )
        _ip(
            name,
            "link set lo up",
            f"address add {FAR}/24 dev eth0",
            f"address add {FAR6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {_ROUTER}",
            f"route add default via {_ROUTER6}",
        )
        lab.exec(via, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        _ip(
            gateway,
            f"route add 10.3.0.0/24 via {host.address(4)}",
            f"route add 2001:db8:3::/64 via {host.address(6)}",
        )
        yield name
    finally:
        subprocess.run(command_in(gateway, "ip", "route", "delete", "10.3.0.0/24"), check=False)
        subprocess.run(command_in(gateway, "ip", "route", "delete", "2001:db8:3::/64"), check=False)
        subprocess.run(command_in(router, "ip", "link", "delete", "far0"), check=False)
        lab.exec(via, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
        subprocess.run(["ip", "netns", "delete", name], check=False)

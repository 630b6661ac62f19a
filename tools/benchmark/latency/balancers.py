"""Who is compared, each started for its turn and stopped after it.

All are given the same job: connections to the VIP go to the servers, which are checked by a TCP connect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmark.lab.hosts import WEB_PORT
from benchmark.latency.pool import PORT, Pool
from benchmark.peers.l4lb import config_text, running
from benchmark.peers.proxies import haproxy, nginx, why_no_haproxy, why_no_nginx
from benchmark.peers.service import Agents, Served
from netlab.daemon import Daemon

SERVICE: Final = "web"

_HAPROXY: Final = {
    "haproxy-roundrobin": "roundrobin",
    "haproxy-leastconn": "leastconn",
    "haproxy-random": "random(2)",
}
_NGINX: Final = {"nginx-least_conn": "least_conn"}
_L4LB: Final = {f"l4lb-{name}": name for name in ("round_robin", "least_connection", "adaptive")}

BALANCERS: Final = (*_HAPROXY, *_NGINX, *_L4LB)
"""Their names, in the order in which they are shown."""

OURS: Final = "l4lb-adaptive"
"""The one that has targets."""

LISTENING: Final = (*_HAPROXY, OURS)
"""Those that go by what agents say."""


def absent(name: str) -> str | None:
    """What keeps a balancer from running here; None if nothing does."""
    if name in _HAPROXY:
        return why_no_haproxy()
    return why_no_nginx() if name in _NGINX else None


@contextmanager
def serving(name: str, pool: Pool, datapath: str, agents: Agents | None) -> Iterator[Daemon | None]:
    """A balancer at work at the VIP, for the length of a ``with``; if it is l4lb, its daemon.

    Args:
        name: one of ``BALANCERS``.
        pool: whom it is to balance.
        datapath: of l4lb, if it is the balancer.
        agents: of the servers, if they have any.

    Raises:
        BenchError, LabError: it does not start, or does not stop.
    """
    schedulers = _HAPROXY | _NGINX | _L4LB
    web = Served(SERVICE, WEB_PORT, pool.addresses, PORT, schedulers[name], agents)
    with ExitStack() as stack:
        if name in _L4LB:
            if datapath == "xdp":
                stack.enter_context(pool.site.ready_for_xdp())
            text = config_text(datapath, pool.site.vip, (web,))
            yield stack.enter_context(running(pool.site, datapath, text))
        else:
            stack.enter_context((haproxy if name in _HAPROXY else nginx)(pool.site, (web,)))
            yield None

"""Who is compared, each started for its turn and stopped after it.

All are given the same job: connections to the VIP go to the servers, which are checked by a TCP connect.
HAProxy and nginx are TCP proxies here: as HTTP proxies they would choose for every request of a
connection, which is another job, and one that nobody can do who does not end connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmark.daemon import Served, config_text, running
from benchmark.hosts import WEB_PORT
from benchmark.latency.pool import PORT, Pool
from benchmark.peers import NGINX_STREAM
from l4lb.schedulers import SCHEDULERS

# 100 ms are an age for a proxy: that it takes every connection at once matters, its speed does not.
_HAPROXY: Final = """\
global
  maxconn 6000

defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s

listen web
  bind {vip}:{port}
  balance {balance}
{servers}
"""

_NGINX: Final = """\
load_module {module};
daemon off;
pid {directory}/nginx-stream.pid;
error_log stderr;
worker_processes auto;
worker_rlimit_nofile 20000;

events {{
    worker_connections 9000;
}}

stream {{
    upstream web {{
        zone web 64k;
        {balance};
{servers}
    }}
    server {{
        listen {vip}:{port} backlog=4096;
        proxy_pass web;
    }}
}}
"""

_HAPROXY_BALANCE: Final = {
    "haproxy-roundrobin": "roundrobin",
    "haproxy-leastconn": "leastconn",
    "haproxy-random": "random(2)",
}
_NGINX_BALANCE: Final = {"nginx-least_conn": "least_conn"}
_SCHEDULER: Final = {
    f"l4lb-{name}": name for name in ("round_robin", "least_connection", "adaptive") if name in SCHEDULERS
}

BALANCERS: Final = (*_HAPROXY_BALANCE, *_NGINX_BALANCE, *_SCHEDULER)
"""Their names, in the order in which they are shown."""

OURS: Final = "l4lb-adaptive"
"""The one that has targets."""

ABSENT: Final = {} if OURS in BALANCERS else {OURS: "l4lb has no such scheduler"}
"""Those that cannot take part, and why."""


@contextmanager
def serving(name: str, pool: Pool, datapath: str) -> Iterator[None]:
    """A balancer at work at the VIP, for the length of a ``with``.

    Args:
        name: one of ``BALANCERS``.
        pool: whom it is to balance.
        datapath: of l4lb, if it is the balancer.

    Raises:
        BenchError: it does not start, or does not stop.
    """
    with ExitStack() as stack:
        if name in _HAPROXY_BALANCE:
            stack.enter_context(_haproxy(pool, _HAPROXY_BALANCE[name]))
        elif name in _NGINX_BALANCE:
            stack.enter_context(_nginx(pool, _NGINX_BALANCE[name]))
        else:
            stack.enter_context(_l4lb(pool, datapath, _SCHEDULER[name]))
        yield


@contextmanager
def _haproxy(pool: Pool, balance: str) -> Iterator[None]:
    site = pool.site
    servers = [f"  server {server.name} {server.address}:{PORT} check" for server in pool.servers]
    text = _HAPROXY.format(vip=site.vip, port=WEB_PORT, balance=balance, servers="\n".join(servers))
    config = site.directory / "haproxy.cfg"
    config.write_text(text)
    with site.vip_on_gateway(), site.server("gateway", WEB_PORT, "haproxy", "-db", "-f", str(config)):
        yield


@contextmanager
def _nginx(pool: Pool, balance: str) -> Iterator[None]:
    site = pool.site
    text = _NGINX.format(
        module=NGINX_STREAM,
        directory=site.directory,
        balance=balance,
        servers="\n".join(f"        server {address};" for address in pool.addresses),
        vip=site.vip,
        port=WEB_PORT,
    )
    config = site.directory / "nginx-stream.conf"
    config.write_text(text)
    command = ("nginx", "-e", "stderr", "-p", str(site.directory), "-c", str(config))
    with site.vip_on_gateway(), site.server("gateway", WEB_PORT, *command):
        yield


@contextmanager
def _l4lb(pool: Pool, datapath: str, scheduler: str) -> Iterator[None]:
    site = pool.site
    web = Served("web", WEB_PORT, pool.addresses, PORT, scheduler)
    with ExitStack() as stack:
        if datapath == "xdp":
            stack.enter_context(site.ready_for_xdp())
        stack.enter_context(running(site, datapath, config_text(datapath, site.vip, (web,))))
        yield

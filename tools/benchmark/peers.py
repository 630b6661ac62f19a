"""The balancers, each started for its turn and stopped after it.

All do the same job: new connections to port 80 of the VIP go to the three web backends in turn, those
to iperf3's port to the first backend. Those that can check their backends do. Plain forwarding does
none of it: the client goes straight to the backends, which is the limit of the lab.

Never two at once: a packet socket sees the packets of the others and costs them time, and a hook of
netfilter slows everybody.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark import BenchError
from benchmark.site import IPERF_PORT, WEB_PORT, Frontend, Site, last_line

L4LB: Final = Path(sys.executable).with_name("l4lb")
_HEALTHY: Final = 20.0  # seconds for all backends to be up
_NGINX_STREAM: Final = "/usr/lib/nginx/modules/ngx_stream_module.so"  # of libnginx-mod-stream


@dataclass(frozen=True, slots=True)
class Peer:
    """A balancer by the name used on the command line and in figures."""

    name: str
    title: str
    serve: Callable[[Site], AbstractContextManager[Frontend]]


class Daemon:
    """A running l4lb on the gateway, asked as a user would."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.config = site.directory / "l4lb.toml"
        self._options = ("-c", str(self.config), "--socket", str(site.directory / "l4lb.sock"))

    def command(self, *words: str) -> tuple[str, ...]:
        """The command line of ``l4lb`` for this daemon."""
        return (str(L4LB), *self._options, *words)

    def ask(self, *words: str) -> str:
        """Run a command of ``l4lb``; what it printed.

        Raises:
            BenchError: it failed.
        """
        return self.site.must("gateway", *self.command(*words))

    def wait_healthy(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Until all backends are up.

        Raises:
            BenchError: l4lb has ended, or they are not in time.
        """
        deadline = time.monotonic() + _HEALTHY
        while True:
            try:
                backends = json.loads(self.ask("backend", "list", "--json"))["backends"]
                if all(backend["state"] == "up" for backend in backends):
                    return
            except BenchError:  # its socket is not there yet
                if process.poll() is not None:
                    raise BenchError(f"l4lb ended: {last_line(log)}") from None
            if time.monotonic() > deadline:
                raise BenchError(f"l4lb's backends do not come up; its log ends: {last_line(log)}")
            time.sleep(0.1)


@contextmanager
def daemon(site: Site) -> Iterator[Daemon]:
    """l4lb, ready, all backends up."""
    control = Daemon(site)
    config = [f'[[services]]\nname = "web"\naddress = "{site.vip}:{WEB_PORT}"\n']
    config += [f'[[services.backends]]\naddress = "{address}:{WEB_PORT}"\n' for address in site.backends]
    config += [
        f'[[services]]\nname = "bulk"\naddress = "{site.vip}:{IPERF_PORT}"\n',
        # iperf3 serves one client at a time: a check of its own port would be that client.
        f"[services.health]\nport = {WEB_PORT}\n",
        f'[[services.backends]]\naddress = "{site.backends[0]}:{IPERF_PORT}"\n',
    ]
    control.config.write_text("\n".join(config))
    with site.process("gateway", *control.command("run")) as (process, log):
        control.wait_healthy(process, log)
        try:
            yield control
        finally:
            # Not by SIGTERM: that keeps the host's stack silent for a while, for a restart.
            control.ask("stop")
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                raise BenchError("l4lb still runs after 'l4lb stop'") from None


@contextmanager
def l4lb(site: Site) -> Iterator[Frontend]:
    """l4lb with health checks on."""
    with daemon(site):
        yield site.at_vip


_NFTABLES: Final = """\
table ip bench {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {vip} tcp dport {web} dnat to numgen inc mod {count} map {{ {backends} }}
    ip daddr {vip} tcp dport {iperf} dnat to {first}
  }}
}}
"""


@contextmanager
def nftables(site: Site) -> Iterator[Frontend]:
    """The kernel's own NAT: connection tracking, and a rule that picks backends in turn."""
    rules = _NFTABLES.format(
        vip=site.vip,
        web=WEB_PORT,
        iperf=IPERF_PORT,
        count=len(site.backends),
        backends=", ".join(f"{index} : {address}" for index, address in enumerate(site.backends)),
        first=site.backends[0],
    )
    with site.vip_on_gateway():
        site.must("gateway", "nft", "-f", "-", text=rules)
        try:
            yield site.at_vip
        finally:
            site.must("gateway", "nft", "delete", "table", "ip", "bench")


# maxconn: sockets and pipes must be below the limit of open files, or it does not start. Splicing gives
# it more bulk throughput here than reading and writing, and costs nothing elsewhere.
_HAPROXY: Final = """\
global
  maxconn 6000

defaults
  mode tcp
  option splice-request
  option splice-response
  timeout connect 5s
  timeout client 60s
  timeout server 60s

listen web
  bind {vip}:{web}
  balance roundrobin
{servers}

listen bulk
  bind {vip}:{iperf}
  server iperf3 {first}:{iperf} check port {web}
"""


@contextmanager
def haproxy(site: Site) -> Iterator[Frontend]:
    """HAProxy, mode tcp, a thread for each core (its default), health checks on."""
    config = site.directory / "haproxy.cfg"
    config.write_text(
        _HAPROXY.format(
            vip=site.vip,
            web=WEB_PORT,
            iperf=IPERF_PORT,
            first=site.backends[0],
            servers="\n".join(
                f"  server web{number} {address}:{WEB_PORT} check"
                for number, address in enumerate(site.backends, 1)
            ),
        )
    )
    command = ("haproxy", "-db", "-f", str(config))
    with site.vip_on_gateway(), site.server("gateway", IPERF_PORT, *command):
        yield site.at_vip


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
    proxy_buffer_size 64k;
    upstream web {{
        zone web 64k;
{servers}
    }}
    server {{
        listen {vip}:{web} backlog=4096;
        proxy_pass web;
    }}
    server {{
        listen {vip}:{iperf};
        proxy_pass {first}:{iperf};
    }}
}}
"""


@contextmanager
def nginx_stream(site: Site) -> Iterator[Frontend]:
    """nginx as a TCP proxy, a worker for each core."""
    config = site.directory / "nginx-stream.conf"
    config.write_text(
        _NGINX.format(
            module=_NGINX_STREAM,
            directory=site.directory,
            vip=site.vip,
            web=WEB_PORT,
            iperf=IPERF_PORT,
            first=site.backends[0],
            servers="\n".join(f"        server {address}:{WEB_PORT};" for address in site.backends),
        )
    )
    command = ("nginx", "-e", "stderr", "-p", str(site.directory), "-c", str(config))
    with site.vip_on_gateway(), site.server("gateway", IPERF_PORT, *command):
        yield site.at_vip


@contextmanager
def forwarding(site: Site) -> Iterator[Frontend]:
    """No balancer: the gateway's kernel forwards what the client sends to the backends."""
    yield site.at_backends


US: Final = "l4lb"

PEERS: Final[dict[str, Peer]] = {
    peer.name: peer
    for peer in (
        Peer(US, "l4lb, raw", l4lb),
        Peer("nftables", "nftables DNAT", nftables),
        Peer("haproxy", "HAProxy, mode tcp", haproxy),
        Peer("nginx", "nginx stream", nginx_stream),
        Peer("forwarding", "plain forwarding", forwarding),
    )
}

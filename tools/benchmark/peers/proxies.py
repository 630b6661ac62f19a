"""HAProxy and nginx as TCP proxies on the gateway, given the same services as l4lb.

As HTTP proxies they would choose for every request of a connection, which is another job, and one that
nobody can do who does not end connections.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmark.lab.hosts import Hosts
from benchmark.peers.service import Served

_STREAM: Final = "/usr/lib/nginx/modules/ngx_stream_module.so"  # of libnginx-mod-stream

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

{services}
"""

_NGINX: Final = """\
load_module {module};
daemon off;
pid {directory}/nginx-stream.pid;
error_log stderr;
worker_processes {workers};
worker_rlimit_nofile 20000;

events {{
    worker_connections 9000;
}}

stream {{
    proxy_buffer_size 64k;
{services}
}}
"""


@contextmanager
def haproxy(hosts: Hosts, services: Sequence[Served]) -> Iterator[None]:
    """HAProxy, mode tcp, a thread for each core that it may use (its default), health checks on, at the VIP
    for the length of a ``with``. A service's scheduler is one of HAProxy's; the default is roundrobin.

    Raises:
        BenchError: it does not start.
    """
    config = hosts.directory / "haproxy.cfg"
    config.write_text(haproxy_text(hosts.vip, services))
    command = ("haproxy", "-db", "-f", str(config))
    with hosts.vip_on_gateway(), hosts.server("gateway", services[-1].port, *command):
        yield


@contextmanager
def nginx(hosts: Hosts, services: Sequence[Served]) -> Iterator[None]:
    """nginx's stream proxy, a worker for each core that it may use, at the VIP for the length of a
    ``with``. A service's scheduler is one of nginx's; without one it takes turns.

    Raises:
        BenchError: it does not start.
    """
    config = hosts.directory / "nginx-stream.conf"
    text = _NGINX.format(
        module=_STREAM,
        directory=hosts.directory,
        workers=len(os.sched_getaffinity(0)),
        services="\n".join(_nginx_service(hosts.vip, service) for service in services),
    )
    config.write_text(text)
    command = ("nginx", "-e", "stderr", "-p", str(hosts.directory), "-c", str(config))
    with hosts.vip_on_gateway(), hosts.server("gateway", services[-1].port, *command):
        yield


def why_no_haproxy() -> str | None:
    """What keeps HAProxy from running here; None if nothing does."""
    return None if shutil.which("haproxy") else "haproxy is not installed"


def why_no_nginx() -> str | None:
    """What keeps nginx from running here; None if nothing does."""
    return None if Path(_STREAM).exists() else "libnginx-mod-stream is not installed"


def haproxy_text(vip: str, services: Sequence[Served]) -> str:
    """The text of HAProxy's config."""
    return _HAPROXY.format(services="\n\n".join(_haproxy_service(vip, service) for service in services))


def _haproxy_service(vip: str, service: Served) -> str:
    options = f"check port {service.checked}" if service.checked is not None else ""
    if service.agents is not None:
        # A weight of 100, so that one percent of it is a weight, too.
        every = round(1000 * service.agents.interval)
        options += f" weight 100 agent-check agent-port {service.agents.port} agent-inter {every}ms"
    lines = [
        f"listen {service.name}",
        f"  bind {vip}:{service.port}",
        f"  balance {service.scheduler or 'roundrobin'}",
        *(
            f"  server {service.name}{number} {backend} {options}".rstrip()
            for number, backend in enumerate(service.backends, 1)
        ),
    ]
    return "\n".join(lines)


def _nginx_service(vip: str, service: Served) -> str:
    lines = [
        f"    upstream {service.name} {{",
        f"        zone {service.name} 64k;",
        *([f"        {service.scheduler};"] if service.scheduler else []),
        *(f"        server {backend};" for backend in service.backends),
        "    }",
        "    server {",
        f"        listen {vip}:{service.port} backlog=4096;",
        f"        proxy_pass {service.name};",
        "    }",
    ]
    return "\n".join(lines)

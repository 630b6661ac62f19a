"""The servers of a backend: nginx and a UDP echo, with all their files in a directory of their own.

A backend is a network namespace, or this machine itself: None.

What nginx answers on port 80, and on port 8081 for who needs a backend that no other service has:

    /           the host's name
    /client     the host's name, and the address and port that the connection came from
    /NAME       a file of the lab's www directory, the same on all backends
    /upload/NAME    PUT stores a file in the backend's own directory
    port 8080   200, or 503 while a file `unhealthy` is in the backend's directory
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Final

from netlab import LabError
from netlab.command import find, inside, run
from netlab.process import in_namespace
from netlab.record import namespace_inode

SERVERS: Final = ("nginx", "udp_echo")
UDP_ECHO_PORT: Final = 5353
_UDP_ECHO: Final = Path(__file__).with_name("udp_echo.py")
_PATIENCE: Final = 10.0  # seconds
_USER: Final = "www-data"  # in every Debian and Ubuntu

_NGINX: Final = """\
user {user};
worker_processes 1;
worker_rlimit_nofile 65536;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;

events {{
    worker_connections 16384;
}}

http {{
    access_log off;
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {directory}/temp;
    proxy_temp_path {directory}/temp/proxy;
    fastcgi_temp_path {directory}/temp/fastcgi;
    uwsgi_temp_path {directory}/temp/uwsgi;
    scgi_temp_path {directory}/temp/scgi;

    server {{
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096;
        listen 8081 backlog=4096;
        listen [::]:8081 backlog=4096;
        root {www};
        location = / {{
            return 200 "{name}\\n";
        }}
        location = /client {{
            return 200 "{name} $remote_addr $remote_port\\n";
        }}
        location /upload/ {{
            root {directory};
            dav_methods PUT;
        }}
    }}

    server {{
        listen 8080;
        listen [::]:8080;
        location / {{
            if (-f {directory}/unhealthy) {{
                return 503 "{name} is unhealthy\\n";
            }}
            return 200 "{name} is healthy\\n";
        }}
    }}
}}
"""


def prepare(name: str, directory: Path, www: Path) -> None:
    """Lay out a backend's directory and write its nginx configuration."""
    for path in (directory, directory / "temp", directory / "upload"):
        path.mkdir(parents=True, exist_ok=True)
        shutil.chown(path, _USER)
    text = _NGINX.format(user=_USER, name=name, directory=directory, www=www)
    (directory / "nginx.conf").write_text(text)


def running(namespace: str | None, server: str, directory: Path) -> int | None:
    """The process number of a server, None if it does not run."""
    inode = namespace_inode(namespace)
    try:
        pid = int((directory / f"{server}.pid").read_text())
    except (FileNotFoundError, ValueError):  # never started, or just starting
        return None
    return pid if inode is not None and in_namespace(pid, inode) else None


def start(namespace: str | None, server: str, name: str, directory: Path) -> None:
    """Start one of ``SERVERS``; returns when it listens.

    Raises:
        LabError: it does not come up; says why.
    """
    pid_file = directory / f"{server}.pid"
    pid_file.unlink(missing_ok=True)
    if server == "nginx":
        argv = [find("nginx"), "-p", str(directory), "-c", str(directory / "nginx.conf")]
    else:
        argv = [sys.executable, str(_UDP_ECHO), name, str(UDP_ECHO_PORT), str(pid_file)]
    run(inside(namespace, *argv))
    # It listens by now; nginx writes its number a moment after it has gone to the background.
    deadline = time.monotonic() + _PATIENCE
    while running(namespace, server, directory) is None:
        if time.monotonic() > deadline:
            raise LabError(f"{server} of {name} ended as soon as it had started: see {directory}")
        time.sleep(0.005)

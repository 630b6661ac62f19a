"""A program that only sends packets on, at XDP of the gateway: what no balancer can be faster than."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Final

from benchmark.bpf.flows import mac_bytes
from benchmark.bpf.programs import attached, loaded
from benchmark.lab.cables import BACKEND_MAC, GATEWAY_MACS
from benchmark.lab.hosts import Frontend, Hosts
from l4lb.datapath.libbpf import Object
from netlab.namespace import entered

_WAY: Final = Struct("=I12s")  # struct way


@contextmanager
def configured(hosts: Hosts) -> Iterator[Object]:
    """redirect.c, told the way to the backend."""
    with loaded("redirect", hosts.directory) as program:
        with entered(hosts.gateway):
            interface = socket.if_nametoindex("eth1")
        addresses = mac_bytes(BACKEND_MAC) + mac_bytes(GATEWAY_MACS[1])
        program.maps["ways"].update(bytes(4), _WAY.pack(interface, addresses))
        yield program


@contextmanager
def redirect(hosts: Hosts) -> Iterator[Frontend]:
    """Packets from the client go to the backend whatever is in them; those back are forwarded."""
    with configured(hosts) as program, attached(program.programs["redirect"], "xdp", hosts.gateway, "eth0"):
        yield hosts.at_backends

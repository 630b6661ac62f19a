"""Configs for the tests on the lab: the text of services whose backends are the lab's web hosts."""

import json

from l4lb.model import Endpoint
from netlab.gateway import endpoint

VIP, VIP6 = "10.1.0.100", "2001:db8:1::100"
CLIENT, CLIENT6 = "10.1.0.10", "2001:db8:1::10"
BACKENDS = {
    4: {"web1": "10.2.0.11", "web2": "10.2.0.12", "web3": "10.2.0.13"},
    6: {"web1": "2001:db8:2::11", "web2": "2001:db8:2::12", "web3": "2001:db8:2::13"},
}

UNCHECKED = 'check = "none"'
CHECKED = 'check = "http"\nport = 8080\ninterval = 0.1\ntimeout = 0.5\nrise = 1\nfall = 1'
"""By the page that the lab's file `unhealthy` turns bad: nginx itself goes on serving."""


def backend(name, version=4, port=80):
    """A web host as l4lb writes it."""
    return endpoint(BACKENDS[version][name], port)


def service(name="web", *, vip=VIP, port=80, weights=None, health=UNCHECKED, backend_port=None, **settings):
    """The text of one service. ``weights``: host (or ADDRESS:PORT) -> weight; by default
    all three hosts with weight 1."""
    version = 6 if ":" in vip else 4
    lines = ["[[services]]", f'name = "{name}"', f'address = "{endpoint(vip, port)}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    lines += ["[services.health]", health]
    for host, weight in (weights or dict.fromkeys(BACKENDS[version], 1)).items():
        address = backend(host, version, backend_port or port) if host in BACKENDS[version] else host
        lines += ["[[services.backends]]", f'address = "{address}"', f"weight = {weight}"]
    return "\n".join(lines) + "\n"


def listed(daemon, field, name="web"):
    """One field of the backends of a service as the daemon lists them, by host."""
    found = daemon.api.get("backends", service=name)["backends"]
    hosts = {address: host for version in BACKENDS for host, address in BACKENDS[version].items()}
    return {hosts[Endpoint.parse(one["address"]).host]: one[field] for one in found}

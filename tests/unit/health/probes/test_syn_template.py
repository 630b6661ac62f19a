"""The SYN that scapy builds. What is in it: test_segments.py."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """\
import scapy.arch

def read(*_):
    raise SystemExit("the host's routes were read")

scapy.arch.read_routes = scapy.arch.read_routes6 = read

from l4lb.health.probes.segments import syn
from l4lb.model import Endpoint

for ours, target in (("10.2.0.1", "10.2.0.11:80"), ("2001:db8:2::1", "[2001:db8:2::b]:80")):
    source = Endpoint.parse(f"[{ours}]:1" if ":" in ours else f"{ours}:1").ip
    print(len(syn(source, Endpoint.parse(target), 40_000, 1)))
"""


def test_the_routes_of_the_host_are_not_read():
    """There may be hundreds of thousands, and nothing else runs while scapy reads them."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stderr, result.stdout) == ("", "44\n64\n")

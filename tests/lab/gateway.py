"""A gateway and its peer in two network namespaces, for the tests of l4lb.netlink.

gateway  lan0 10.70.0.1/24 2001:db8:70::1/64 ---- peer0 .2 ::2  peer
         wan0 10.71.0.1/24 2001:db8:71::1/64 ---- peer1 .2 ::2
"""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from l4lb.netlink.watch import KernelWatch
from netlab.command import NAMESPACES
from netlab.command import inside as command_in
from netlab.namespace import entered

_PREFIX = "l4nl"
GATEWAY, PEER = (f"{_PREFIX}-{os.getpid()}-{name}" for name in ("gateway", "peer"))
DEADLINE = 10.0  # seconds until a test gives up waiting for an event

UPLINKS = f"""
    link add lan0 type veth peer name peer0 netns {PEER}
    link add wan0 type veth peer name peer1 netns {PEER}
    addr add 10.70.0.1/24 dev lan0
    addr add 10.71.0.1/24 dev wan0
    addr add 2001:db8:70::1/64 dev lan0 nodad
    addr add 2001:db8:71::1/64 dev wan0 nodad
    link set lo up
    link set lan0 up
    link set wan0 up
"""
FAR_ENDS = """
    addr add 10.70.0.2/24 dev peer0
    addr add 10.71.0.2/24 dev peer1
    addr add 2001:db8:70::2/64 dev peer0 nodad
    addr add 2001:db8:71::2/64 dev peer1 nodad
    link set peer0 up
    link set peer1 up
"""


def packed(text):
    return ip_address(text).packed


def ip(namespace, commands, *, force=False):
    """Run ip commands, one a line, in a namespace; what they print."""
    options = ["-force"] if force else []
    result = subprocess.run(
        command_in(namespace, "ip", *options, "-batch", "-"),
        input="\n".join(line.strip() for line in commands.strip().splitlines()) + "\n",
        capture_output=True,
        text=True,
    )
    assert force or result.returncode == 0, result.stderr
    return result.stdout


def sysctl(namespace, **values):
    with entered(namespace):
        for name, value in values.items():
            family, table, interface, key = name.split("__")
            with open(f"/proc/sys/net/{family}/{table}/{interface}/{key}", "w") as file:
                file.write(str(value))


@contextlib.contextmanager
def two_namespaces():
    """Make the namespaces and put this thread into the gateway's, or skip with the reason."""
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    if shutil.which("ip") is None:
        pytest.skip("needs ip (iproute2)")
    remove_abandoned()
    for name in (GATEWAY, PEER):
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    try:
        ip(GATEWAY, UPLINKS)
        ip(PEER, FAR_ENDS)
        with entered(GATEWAY):
            yield
    finally:
        for name in (GATEWAY, PEER):
            subprocess.run(["ip", "netns", "del", name], check=True)


def remove_abandoned():
    """Take down what killed runs have left."""
    for path in NAMESPACES.glob(f"{_PREFIX}-*"):
        run = re.fullmatch(rf"{_PREFIX}-(\d+)-\w+", path.name)
        if run and not Path(f"/proc/{run[1]}").exists():
            subprocess.run(["ip", "netns", "delete", path.name], capture_output=True, check=False)


def run(scenario):
    """Run a coroutine function with a watch that follows the gateway."""

    async def main():
        async with KernelWatch() as watch:
            await scenario(watch)

    asyncio.run(main())


async def until(watch, condition):
    assert await watch.wait_for(condition, DEADLINE), f"did not happen in {DEADLINE} s: {watch.state}"

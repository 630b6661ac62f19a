"""The acceptance of a lab, step by step: the same for both, given the way to run a command on a host."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, Protocol

from netlab import LabError
from netlab.command import run
from netlab.gateway import WEB_PORT
from netlab.servers import UDP_ECHO_PORT
from netlab.topology import Topology

_SHUNNED: Final = 30.0
"""Seconds until every backend has answered a request. One after the other they say little of a backend that
is new, and adaptive goes by one slow answer for some seconds (RETRY in ``l4lb/schedulers/adaptive.py``)."""

_HEARD: Final = ("ok", "hot")  # what agents' answers make of a backend that works
_LONGEST: Final = 120  # seconds that a command may take
_SOURCE_PORT: Final = 40_000


class Hosts(Protocol):
    """A lab that is up and serves."""

    topology: Topology
    l4lb: tuple[str, ...]  # how the gateway's l4lb is called
    patience: float  # seconds that a change may take to be seen

    def command(self, host: str, *argv: str) -> list[str]:
        """The command line that runs another on a host."""

    def start(self, backend: str) -> None:
        """Start a backend's servers."""

    def stop(self, backend: str) -> None:
        """End them; the host stays up."""

    def reboot(self, host: str) -> bool:
        """Restart a host, and wait until it can be reached; False if the lab's hosts do not boot."""


class Failed(Exception):
    """A step did not show what it should. The message is one line for people."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a lab has to be able to do, and how to see it."""

    title: str
    see: Callable[[Check], str]  # what was seen; raises Failed


class Check:
    """What the steps are made of."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.topology = hosts.topology
        self.names = [host.name for host in hosts.topology.backends]

    def run(self, host: str, *argv: str) -> str:
        """What a command on a host prints.

        Raises:
            Failed: it did not exit with 0, or not in two minutes.
        """
        command, name = self.hosts.command(host, *argv), f"'{' '.join(argv)}' on {host}"
        try:
            return run(command, name=name, timeout=_LONGEST)
        except LabError as error:
            raise Failed(str(error)) from None

    def curl(self, version: int, path: str = "/") -> str:
        """What the client gets from the VIP."""
        vip = self.topology.vip(version)
        url = f"http://[{vip}]{path}" if version == 6 else f"http://{vip}{path}"
        return self.run("client", "curl", "-sS", "--fail", "-g", "--max-time", "10", url).strip()

    def udp(self) -> str:
        """Who answers a datagram to the VIP."""
        server = (self.topology.vip(4), UDP_ECHO_PORT)
        program = (
            "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(10); "
            f"s.sendto(b'x', {server}); print(s.recv(99).decode())"
        )
        return self.run("client", "python3", "-c", program).split()[0]

    def l4lb(self, *words: str) -> str:
        """What ``l4lb`` prints on the gateway."""
        return self.run("gateway", *self.hosts.l4lb, *words)

    def backend(self, host: str) -> dict[str, Any]:
        """What l4lb says of a backend of the service web."""
        backends = json.loads(self.l4lb("backend", "list", "web", "--json"))["backends"]
        address = self.address(host)
        found: dict[str, Any] = next(it for it in backends if it["address"] == address)
        return found

    def is_heard(self, host: str) -> bool:
        """Whether a backend's agent answers."""
        return self.backend(host)["agent"]["state"] in _HEARD

    def wait_state(self, host: str, state: str) -> float:
        """Until l4lb says this of a backend; the seconds that took."""
        return self.wait(f"{host} to be {state}", lambda: self.backend(host)["state"] == state)

    def address(self, host: str) -> str:
        """A backend of the service web, as l4lb names it."""
        return f"{self.topology.hosts[host].address(4)}:{WEB_PORT}"

    def all_answer(self, ask: Callable[[], str], whom: list[str]) -> int:
        """Ask until these have all answered; how often that took.

        Raises:
            Failed: one has not, or another one has.
        """
        heard: set[str] = set()
        begin = time.monotonic()
        for times in count(1):
            heard.add(ask())
            if heard - set(whom):
                raise Failed(f"{', '.join(sorted(heard - set(whom)))} answered")
            if heard == set(whom):
                break
            if time.monotonic() - begin > _SHUNNED:
                none = ", ".join(sorted(set(whom) - heard))
                raise Failed(f"of {times} requests in {_SHUNNED:g} s {none} got none")
        return times

    def wait(self, what: str, condition: Callable[[], object]) -> float:
        """Ask until the answer is true, or there is one at all; the seconds that took.

        Raises:
            Failed: it has not become true.
        """
        begin = time.monotonic()
        while True:
            why = ""
            try:
                if condition():
                    return time.monotonic() - begin
            except Failed as failure:
                why = f": {failure}"
            if time.monotonic() - begin > self.hosts.patience:
                raise Failed(f"waited {self.hosts.patience:g} s for {what}{why}")
            time.sleep(0.2)


def _reaches_all(check: Check) -> str:
    for name in check.names:
        check.wait_state(name, "up")
    times = [
        check.all_answer(ask, check.names)
        for ask in (lambda: check.curl(4), lambda: check.curl(6), check.udp)
    ]
    return "all {} have answered after {} requests to IPv4, {} to IPv6, {} datagrams".format(
        len(check.names), *times
    )


def _sees_client(check: Check) -> str:
    seen = []
    for version in (4, 6):
        client = check.topology.hosts["client"].address(version)
        name, address, _ = check.curl(version, "/client").split()
        if address != client:
            raise Failed(f"{name} saw {address} instead of {client}")
        seen.append(address)
    return f"as {' and '.join(seen)}"


def _answers(check: Check) -> str:
    status = json.loads(check.l4lb("status", "--json"))
    client = f"{check.topology.hosts['client'].address(4)}:{_SOURCE_PORT}"
    said = check.l4lb("explain", client, "web").strip().splitlines()
    if not any(check.address(name) in " ".join(said) for name in check.names):
        raise Failed(f"explain names no backend: {said[0] if said else 'it says nothing'}")
    for name in check.names:
        check.wait(f"the agent of {name}", partial(check.is_heard, name))
    return f"datapath {status['datapath']['name']}; every agent is heard"


def _leaves_and_returns(check: Check) -> str:
    name = check.names[1]
    others = [other for other in check.names if other != name]
    check.hosts.stop(name)
    try:
        left = check.wait_state(name, "down")
        check.l4lb("reload")  # what is listed is in place a moment later, and when this answers
        check.all_answer(lambda: check.curl(4), others)
        for _ in range(12):
            if check.curl(4) == name:
                raise Failed(f"{name} answered, which is stopped")
    finally:
        check.hosts.start(name)
    back = check.wait_state(name, "up")
    check.all_answer(lambda: check.curl(4), check.names)
    return (
        f"{name} was down after {left:.1f} s, no request went there or failed, and back after {back:.1f} s"
    )


# Two requests on one connection, the second when it is told to.
_KEEP_ALIVE: Final = """\
import http.client, sys
connection = http.client.HTTPConnection({address!r}, timeout=30)
for _ in range(2):
    connection.request("GET", "/client")
    print(connection.getresponse().read().decode().strip(), flush=True)
    sys.stdin.readline()
"""


def _survives_drain(check: Check) -> str:
    program = _KEEP_ALIVE.format(address=check.topology.vip(4))
    command = check.hosts.command("client", "python3", "-c", program)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            first = client.stdout.readline().strip()
            name = first.partition(" ")[0]
            if name not in check.names:
                raise Failed("the client got no answer")
            check.l4lb("backend", "drain", "web", check.address(name))
            try:
                others = [other for other in check.names if other != name]
                check.all_answer(lambda: check.curl(4), others)
                client.stdin.write("\n")
                client.stdin.flush()
                if (second := client.stdout.readline().strip()) != first:
                    raise Failed(f"the connection got '{second}' instead of '{first}'")
            finally:
                check.l4lb("backend", "enable", "web", check.address(name))
        finally:
            client.kill()
    check.all_answer(lambda: check.curl(4), check.names)
    return f"the connection to {name} went on while new ones went elsewhere"


def _reboots(check: Check) -> str:
    if not check.hosts.reboot("gateway"):
        return ""
    begin = time.monotonic()

    took = check.wait("the VIP to be served again", lambda: check.curl(4) in check.names)
    _reaches_all(check)
    _answers(check)
    whole = time.monotonic() - begin
    return (
        f"it serves {took:.1f} s after it can be reached again, with all backends and agents {whole:.1f} s"
    )


STEPS: Final = (
    Step("The client reaches every backend through the VIP", _reaches_all),
    Step("Backends see the client's own address", _sees_client),
    Step("l4lb answers status, backend list and explain", _answers),
    Step("A stopped backend leaves, and comes back", _leaves_and_returns),
    Step("An established connection survives a drain", _survives_drain),
    Step("The gateway boots, and everything is back", _reboots),
)


def check(hosts: Hosts) -> Iterator[tuple[Step, str]]:
    """See the steps one after the other; with each what was seen, nothing if this lab cannot do it.

    Raises:
        LabError: one failed; says which and why.
    """
    having = Check(hosts)
    for step in STEPS:
        try:
            yield step, step.see(having)
        except (Failed, ValueError, KeyError) as error:
            raise LabError(f"{step.title}: {error}") from None

"""The loads: what a client does through a balancer, and what is read from the generator.

iperf3 moves bulk data over one TCP connection to one backend. wrk asks one web server, with
``CONNECTIONS`` connections at a time, kept or a new one for each request, or with a single one; it, the
server and the gateway share one core (``ON_ONE_CORE``). One server, as one address is one thread of wrk:
who is asked at the backends' own addresses would have it easier than behind a VIP, where each thread talks
to all.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmark import BenchError
from benchmark.lab.hosts import IPERF_PORT, Frontend
from benchmark.lab.site import Site

WRK_SCRIPT: Final = Path(__file__).with_name("wrk.lua")

THREADS: Final = 1  # of wrk
CONNECTIONS: Final = 48

_LARGEST_FRAME: Final = 1_514  # bytes of Ethernet

_GRACE: Final = 20.0  # seconds a generator may take longer than it was told


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a generator gave."""

    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    retransmits: int | None = None


Load = Callable[[Site, Frontend, int], Outcome]
"""(site, frontend, seconds) -> outcome. A generator that fails is an error in the outcome."""


def read_iperf3(metric: str, text: str) -> Outcome:
    """The outcome in what ``iperf3 --json`` printed."""
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        return Outcome(errors={"iperf3 printed no report": 1})
    if "error" in report:
        return Outcome(errors={f"iperf3: {report['error']}": 1})
    end = report["end"]
    return Outcome(
        values={metric: end["sum_received"]["bits_per_second"] / 1e9},
        retransmits=end["sum_sent"].get("retransmits"),
    )


def read_wrk(text: str) -> tuple[dict[str, float], dict[str, int]]:
    """Rate (a second), p50 and p99 (µs), and the errors that happened, as wrk.lua printed them.

    wrk corrects percentiles for coordinated omission: for an answer that took at least twice the mean it
    adds those that an even rate of requests would have had meanwhile. So they are above what the requests
    saw, and good to compare with one another.

    Raises:
        ValueError: wrk did not get as far as printing them.
    """
    line = next((line for line in text.splitlines() if line.startswith("{")), None)
    if line is None:
        raise ValueError("wrk printed no results")
    report = json.loads(line)
    errors = {f"wrk: {what}": count for what, count in report["errors"].items() if count}
    if not report["requests"]:
        errors["wrk: no answer at all"] = 1
    rate = report["requests"] / (report["microseconds"] / 1e6)
    return {"rate": rate, "p50": report["p50"], "p99": report["p99"]}, errors


def _iperf3(site: Site, frontend: Frontend, seconds: int, metric: str, *options: str) -> Outcome:
    command = ("iperf3", "--client", frontend.bulk, "--port", str(IPERF_PORT), "--time", str(seconds))
    server = ("iperf3", "--server", "--one-off", "--port", str(IPERF_PORT))
    try:
        with site.server(site.lab.topology.backends[0].name, IPERF_PORT, *server):
            done = site.run("client", *command, "--json", *options, timeout=seconds + _GRACE)
    except subprocess.TimeoutExpired:
        return Outcome(errors={"iperf3 did not come to an end": 1})
    return read_iperf3(metric, done.stdout)


def _wrk(
    site: Site,
    frontend: Frontend,
    seconds: int,
    names: dict[str, str],
    connections: int,
    *options: str,
) -> Outcome:
    """``names`` says which figure of ``read_wrk`` is which metric."""
    command = (
        *("wrk", "--threads", str(THREADS), "--connections", str(connections)),
        *("--duration", f"{seconds}s", "--timeout", "5s", "--script", str(WRK_SCRIPT)),
        *options,
        f"http://{frontend.one}/",
    )
    try:
        done = site.run("client", *command, timeout=seconds + _GRACE)
        figures, errors = read_wrk(done.stdout)
    except subprocess.TimeoutExpired:
        return Outcome(errors={"wrk did not come to an end": 1})
    except ValueError as error:
        return Outcome(errors={f"{error}: {done.stderr.strip()}": 1})
    return Outcome({names[name]: value for name, value in figures.items() if name in names}, errors)


def bulk_download(site: Site, frontend: Frontend, seconds: int) -> Outcome:
    """One TCP connection, from the backend to the client as fast as it goes."""
    return _iperf3(site, frontend, seconds, "bulk_download", "--reverse")


def bulk_upload(site: Site, frontend: Frontend, seconds: int) -> Outcome:
    """One TCP connection, from the client to the backend as fast as it goes."""
    return _iperf3(site, frontend, seconds, "bulk_upload")


@contextmanager
def _frames_of_1500(site: Site) -> Iterator[None]:
    """With a client that cuts up what it sends by itself.

    Raises:
        BenchError: it has sent larger frames all the same, or none.
    """

    def offloads(state: str) -> None:
        for card in _sent(site):
            site.must("client", "ethtool", "-K", card, "tso", state, "gso", state)

    offloads("off")
    try:
        before = _sent(site)
        yield
        after = _sent(site)
    finally:
        offloads("on")
    packets, octets = (sum(after[card][it] - before[card][it] for card in after) for it in range(2))
    mean = octets / max(1, packets)
    if not 0 < mean <= _LARGEST_FRAME:
        raise BenchError(f"a client without offloads has sent {packets} frames of {mean:.0f} bytes")


def _sent(site: Site) -> dict[str, tuple[int, int]]:
    """Packets and bytes that each of the client's cards has sent; a GSO frame is one packet."""
    links = json.loads(site.must("client", "ip", "-j", "-s", "link", "show"))
    sent = {link["ifname"]: link["stats64"]["tx"] for link in links if "LOOPBACK" not in link["flags"]}
    return {card: (tx["packets"], tx["bytes"]) for card, tx in sent.items()}


def bulk_1500(site: Site, frontend: Frontend, seconds: int) -> Outcome:
    """One TCP connection, from the client to the backend, in frames of 1,500 bytes as from a real
    cable; in the other loads frames have up to 64 KB. A proxy sends to the backend in frames of 64 KB all
    the same, as where a network card cuts them up: so it can be faster than forwarding is."""
    with _frames_of_1500(site):
        return _iperf3(site, frontend, seconds, "bulk_1500")


def keepalive(site: Site, frontend: Frontend, seconds: int) -> Outcome:
    """Small requests, each connection asking again as soon as it has its answer."""
    names = {"rate": "keepalive", "p50": "keepalive_p50", "p99": "keepalive_p99"}
    return _wrk(site, frontend, seconds, names, CONNECTIONS)


def connections(site: Site, frontend: Frontend, seconds: int) -> Outcome:
    """A new connection for each small request."""
    names = {"rate": "connections"}
    return _wrk(site, frontend, seconds, names, CONNECTIONS, "--header", "Connection: close")


def ping_pong(site: Site, frontend: Frontend, seconds: int) -> Outcome:
    """Small requests one after the other on a single connection."""
    names = {"p50": "ping_pong_p50", "p99": "ping_pong_p99"}
    return _wrk(site, frontend, seconds, names, 1)


LOADS: Final[dict[str, Load]] = {
    load.__name__: load
    for load in (bulk_download, bulk_upload, bulk_1500, keepalive, connections, ping_pong)
}
"""By the name used in metrics and on the command line, in the order they are run."""

ON_ONE_CORE: Final = frozenset(("keepalive", "connections", "ping_pong"))
"""Those under which all that a packet passes through has to be on one core (``Site.one_core``)."""


def place(site: Site, load: str) -> AbstractContextManager[None]:
    """With what is started on the cores on which a load is measured."""
    return site.one_core() if load in ON_ONE_CORE else nullcontext()

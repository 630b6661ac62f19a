"""The steps, in their order. Each raises ``StepFailed`` or ``LabError`` unless it was seen to work."""

from __future__ import annotations

import difflib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from demonstration.site import Site
from demonstration.visitors import Visitors

BIG: Final = 24 << 20
"""Bytes of the file to download, /big: at the pace below, four seconds."""

_PACE: Final = "6M"

Step = Callable[[Site], None]
STEPS: Final[list[tuple[str, Step]]] = []
"""Headline and step."""


def step(headline: str) -> Callable[[Step], Step]:
    """Make a function a step."""

    def enter(function: Step) -> Step:
        STEPS.append((headline, function))
        return function

    return enter


@step("A lab comes up: a client, a gateway, three web servers, each in a network namespace")
def lab_up(site: Site) -> None:
    """The servers are real nginx."""
    site.stage.picture(site.lab.topology.drawing)
    site.tool(f"up --big {BIG >> 20}M")
    hosts = site.lab.status()
    site.stage.check(
        "five hosts are up, nginx and a UDP echo run on three of them",
        len(hosts) == 5 and all(host.up and all(host.servers.values()) for host in hosts),
    )
    site.stage.tell(f"HOST$ below is what 'tools/lab --prefix {site.lab.prefix} exec HOST' runs.")


@step("l4lb starts on the gateway")
def start(site: Site) -> None:
    """It puts the VIPs there."""
    site.configure()
    site.stage.tell(f"export L4LB_CONFIG={site.daemon.config}")
    site.stage.tell(f"export L4LB_SOCKET={site.daemon.socket}")
    site.run("gateway", "head -n 19 $L4LB_CONFIG")
    site.start()
    site.wait("all backends to be up", lambda: _states(site) == {"up"})
    shown = site.run("gateway", "l4lb backend list --interval 0")
    site.stage.check("every backend has passed its check", shown.count(" up ") == 6)


def _states(site: Site) -> set[str]:
    return {backend["state"] for backend in site.ask("backend", "list")["backends"]}


@step("Clients reach the VIP over IPv4 and IPv6, and backends see the client's own address")
def reach(site: Site) -> None:
    """Destination NAT: the source stays."""
    for version in (4, 6):
        vip = site.lab.topology.vip(version)
        client = site.lab.topology.hosts["client"].address(version)
        url = f"http://[{vip}]" if version == 6 else f"http://{vip}"
        answer = site.run("client", f"curl -gsS {url}/client")
        name, _, seen = answer.partition(" ")
        site.stage.check(
            f"{name} answered as {vip} and saw {client}",
            name.startswith("web") and seen.split()[0] == client,
            answer,
        )


@step("Requests are spread by weight, 2 to 1")
def spread(site: Site) -> None:
    """curl connects anew for each, as it is told to."""
    found = _requests(site, 300)
    site.stage.check("web1 got two of three", found == {"web1": 200, "web2": 100}, dict(found))


def _requests(site: Site, count: int) -> Counter[str]:
    """So many requests of a connection each; how many each backend answered."""
    vip = site.lab.topology.vip(4)
    command = f"curl -sS -H 'Connection: close' 'http://{vip}/?[1-{count}]' | sort | uniq -c"
    answers = site.run("client", command, quiet=True)
    found = Counter({name: int(number) for number, name in map(str.split, answers.splitlines())})
    site.stage.bars(found)
    return found


@step("A web server dies: its clients fail over, and come back to it")
def failover(site: Site) -> None:
    """A client comes every 10 ms while nginx is stopped and started."""
    stage, web1 = site.stage, "10.2.0.11:80"
    address = f"{site.lab.topology.vip(4)}:80"
    with Visitors(site.lab.namespace("client"), address) as visitors:
        site.wait("visitors", lambda: len(visitors.visits) > 20)
        began = time.monotonic()
        site.tool("stop web1")
        site.wait("l4lb to notice", lambda: site.backend(web1)["state"] == "down")
        noticed = time.monotonic()
        site.wait("a second of visits", lambda: time.monotonic() > noticed + 1.0)
        failed = [visit for visit in visitors.since(began) if visit.error]
        last = max((visit.ended - began for visit in failed), default=0.0)
        stage.tell(
            f"{len(failed)} of {len(visitors.since(began))} requests failed, the last one {last:.1f} s "
            f"after the stop: {failed[0].error if failed else ''}"
        )
        stage.check("l4lb noticed, and from then on none did", last < noticed - began + 0.5)
        shown = site.run("gateway", "l4lb backend list web --interval 0")
        stage.check("l4lb says why web1 is down", "connection refused" in shown)
        moved = visitors.served_since(noticed + 0.5)
        stage.bars(moved)
        stage.check("web2 has all the traffic", set(moved) == {"web2"}, dict(moved))
        site.tool("start web1")
        back = time.monotonic()
        site.wait("web1 to be back", lambda: visitors.served_since(back)["web1"] >= 20)
        stage.check(
            f"web1 serves again, {time.monotonic() - back:.1f} s after its start, and nobody failed",
            not any(visit.error for visit in visitors.since(back)),
        )
    site.wait("all backends to be up", lambda: _states(site) == {"up"})


@step("While a download runs, a backend is added and the one that serves it is drained")
def drain(site: Site) -> None:
    """The download ends well; the drained backend gets nothing new meanwhile."""
    stage = site.stage
    before = site.daemon.config.read_text()
    with _download(site) as (file, ended):
        serving = _serving(site)
        host = site.name_of(serving)
        stage.tell(f"{host} serves the download.")
        site.run("gateway", "l4lb backend add web 10.2.0.13:80")
        site.run("gateway", f"l4lb backend drain web {serving}")
        site.wait("web3 to be checked", lambda: site.backend("10.2.0.13:80")["state"] == "up")
        found = _requests(site, 60)
        stage.check(
            f"{host} got no new connection, web3 got some",
            host not in found and found["web3"] > 0,
            dict(found),
        )
        stage.check("the download was under way meanwhile", not ended())
        site.run("gateway", "l4lb backend list web --interval 0")
        _arrives(site, file, ended)
    site.wait("the drained backend to be idle", lambda: site.backend(serving)["established"] == 0)
    site.stage.tell("The config file has the changes, and its comments:")
    changes = list(
        difflib.unified_diff(before.splitlines(), site.daemon.config.read_text().splitlines(), n=1)
    )[3:]
    stage.output("\n".join(changes))
    text = site.daemon.config.read_text()
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    stage.check(
        "comments and all",
        all(comment in text for comment in comments)
        and 'address = "10.2.0.13:80"' in text
        and text.count("weight = 0") == 1,
    )
    site.run("gateway", f"l4lb backend enable web {serving}")


@contextmanager
def _download(site: Site) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """A slow download through the VIP: the file it goes to, and whether it has ended."""
    file = site.lab.host_directory("client") / "big"
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    url = f"http://{site.lab.topology.vip(4)}/big"
    command = f"curl -sS --limit-rate {_PACE} -o {file} {url}"
    with site.background("client", command) as curl:
        site.wait("the download to begin", lambda: file.exists() and file.stat().st_size > BIG // 24)
        yield file, lambda: curl.poll() is not None


def _serving(site: Site) -> str:
    """The backend of the connection that is at work."""
    connections = site.ask("connection", "list", "--service", "web")["connections"]
    established = [one for one in connections if one["state"] == "established"]
    return str(min(established, key=lambda one: float(one["idle"]))["backend"])


def _arrives(site: Site, file: Path, ended: Callable[[], bool]) -> None:
    """Wait for the end of a download, and compare it with what the servers have."""
    site.wait("the download to end", ended, 30.0)
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, site.lab.www / "big")]
    site.stage.check(
        f"the download is whole: {BIG >> 20} MiB, SHA-256 {sums[0][:16]}...", sums[0] == sums[1], sums
    )


@step("UDP is balanced too")
def udp(site: Site) -> None:
    """bash can talk UDP by itself."""
    vip = site.lab.topology.vip(4)
    talk = f"exec 3<>/dev/udp/{vip}/5353; printf hello >&3; timeout 2 dd bs=64K count=1 <&3 2>/dev/null"
    answers = [site.run("client", f"bash -c '{talk}'") for _ in range(2)]
    site.stage.check("two clients, two backends", sorted(answers) == ["web1 hello", "web2 hello"], answers)


@step("A backend's own address works beside the VIP")
def direct(site: Site) -> None:
    """Such a connection goes through the gateway untouched."""
    for host in site.lab.topology.backends:
        answer = site.run("client", f"curl -sS http://{host.address(4)}/client")
        site.stage.check(
            f"{host.name} answered for itself",
            answer.split()[:2] == [host.name, site.lab.topology.hosts["client"].address(4)],
        )


@step("l4lb is restarted under a download")
def restart(site: Site) -> None:
    """A datapath in the kernel goes on without it. Another one saves its connections, and the host keeps
    silent about them until it is back."""
    stays = site.ask("status")["datapath"]["capabilities"]["survives_daemon"]
    with _download(site) as (file, ended):
        site.terminate()
        gone = file.stat().st_size

        def went_on() -> bool:
            return ended() or file.stat().st_size > gone + BIG // 24

        if stays:
            site.wait("the download to go on without l4lb", went_on)
            site.stage.check("it goes on without l4lb", gone < BIG - BIG // 24)
        site.start()
        site.wait("the download to go on", went_on)
        site.stage.check("the download was under way meanwhile", gone < BIG - BIG // 24)
        site.run("gateway", f"grep -E 'connections (restored|taken over)' {site.daemon.log}")
        _arrives(site, file, ended)


@step("What it has counted, and why it refused what it refused")
def statistics(site: Site) -> None:
    """A service without backends makes it refuse something."""
    stage, vip = site.stage, site.lab.topology.vip(4)
    site.run("gateway", f"l4lb service add empty {vip}:81 --runtime")
    site.run("client", f"curl -sS http://{vip}:81/ || true")
    shown = site.run("gateway", "l4lb status")
    stage.check("the refusal has its reason", "no backend" in shown.partition("dropped")[2])
    warned = "warning: service empty has no backend that takes new connections" in shown
    stage.check("it is warned of, and nothing else is out of order", warned and shown.count("warning") == 1)
    site.run("gateway", "l4lb service remove empty --runtime")
    site.run("gateway", "l4lb service list")
    site.wait("all backends to be checked after the restart", lambda: _states(site) == {"up"})
    backends = site.run("gateway", "l4lb backend list --interval 0")
    stage.check("all backends are up", backends.count(" up ") == 7)
    site.run("gateway", "l4lb connection list --limit 3")


@step("l4lb stops and leaves nothing behind")
def stop(site: Site) -> None:
    """Not in nftables, not in traffic control, no address."""
    site.run("gateway", "l4lb stop")
    site.await_daemon()
    tables = site.run("gateway", "nft list ruleset")
    qdiscs = site.run("gateway", "tc qdisc show | grep clsact || true")
    addresses = site.run("gateway", "ip -brief address show dev eth0")
    vips = [str(vip) for vip in site.lab.topology.vips]
    site.stage.check(
        "no rule, no filter, no VIP, no file",
        not tables
        and not qdiscs
        and not any(f"{vip}/" in addresses for vip in vips)
        and {path.name for path in site.directory.glob("l4lb.*")} == {"l4lb.toml", "l4lb.log"},
        (tables, qdiscs, addresses),
    )

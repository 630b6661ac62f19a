"""``l4lb probe``: ping for a backend. Needs no daemon."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from l4lb.cli.options import Command, Failure, endpoint, json_option, seconds_between
from l4lb.cli.output import printable, write_json

if TYPE_CHECKING:
    from l4lb.health.probes.result import ProbeKind, ProbeResult
    from l4lb.health.probes.series import Send
    from l4lb.model import Endpoint

_LONGEST = 3600.0  # seconds
_KINDS = ["syn", "http", "agent", "agent-check"]  # of ProbeKind, without its import


@click.command(cls=Command)
@click.argument("address", type=endpoint, metavar="ADDRESS:PORT")
@click.option("--kind", "kind_name", type=click.Choice(_KINDS), default="syn", show_default=True)
@click.option("--count", type=click.IntRange(1, 1_000_000), default=4, show_default=True)
@click.option(
    "--interval",
    type=seconds_between(0, _LONGEST),
    default="1",
    show_default=True,
    metavar="SECONDS",
    help="From one probe to the next, or until its answer if that takes longer.",
)
@click.option(
    "--timeout",
    type=seconds_between(0.001, _LONGEST),
    default="1",
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an answer.",
)
@click.option("--path", help="What http asks for [default: /].")
@click.option("--key", metavar="FILE", help="The key of the agents; agent needs it.")
@json_option
@click.pass_context
def probe(
    context: click.Context,
    address: Endpoint,
    kind_name: str,
    count: int,
    interval: float,
    timeout: float,
    path: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Probe a backend and time its answers.

    syn: a SYN, and a RST once it is answered; needs root. It shows reachability and the network's round
    trip only: the kernel of the backend answers, also for a server that has stalled. http: a GET, timed
    from the request to the first byte of the answer. agent: a question to 'l4lb agent' by UDP. agent-check:
    the line of an agent for HAProxy, by TCP.

    Exit status 0 if any probe was answered, 1 if none was.
    """
    # Imported here because no other command needs them.
    from l4lb.health.probes.result import CannotProbe, ProbeKind
    from l4lb.health.probes.series import probe_times
    from l4lb.health.probes.summary import summary

    kind = ProbeKind(kind_name)
    send = _sender(kind, address, timeout, path=path, key=key)
    results: list[ProbeResult] = []

    def take(result: ProbeResult) -> None:
        results.append(result)
        if not as_json:
            click.echo(f"{len(results)}: {printable(_line(result))}")

    if not as_json:
        click.echo(f"{kind.value} probes of {address}: {kind.shows}")
    try:
        strays = probe_times(count, interval, send, take)
    except CannotProbe as error:
        raise Failure(str(error)) from None
    done = {**dataclasses.asdict(summary(results)), **strays}
    if as_json:
        head = {"address": str(address), "kind": kind.value, "shows": kind.shows}
        write_json({**head, "probes": [_as_json(result) for result in results], **done})
    else:
        click.echo("\n".join(_summary_lines(done)))
    context.exit(0 if done["answered"] else 1)


def _sender(
    kind: ProbeKind, address: Endpoint, timeout: float, *, path: str | None, key: str | None
) -> Send:
    from l4lb.control.config.values import http_path
    from l4lb.health.probes.result import ProbeKind
    from l4lb.model import AgentCheck, HealthCheck

    if path is not None and kind is not ProbeKind.HTTP:
        raise click.UsageError("--path is for --kind http")
    if key is not None and kind is not ProbeKind.AGENT:
        raise click.UsageError("--key is for --kind agent")
    if kind in (ProbeKind.AGENT, ProbeKind.AGENT_CHECK):
        if kind is ProbeKind.AGENT and key is None:
            raise click.UsageError("--kind agent needs --key, the file with the agents' key")
        protocol = "udp" if kind is ProbeKind.AGENT else "tcp"
        how = AgentCheck(address.port, protocol, key, timeout=timeout)
        return lambda senders: senders.ask(address, how)
    if path is not None:
        try:
            http_path(path)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="'--path'") from None
    check = HealthCheck("http", timeout=timeout, path=path or "/")
    return lambda senders: senders.send(kind, address, check)


def _line(result: ProbeResult) -> str:
    if result.round_trip is None:
        return f"{result.outcome.value}, {result.reason}"
    said = f": {result.said}" if result.said else ""
    return f"{result.outcome.value} in {_milliseconds(result.round_trip)}{said}"


def _summary_lines(done: dict[str, Any]) -> list[str]:
    rare = ("refused", "wrong", "unsent", "late", "forged")
    counts = [f"{done[name]} {name}" for name in ("sent", "answered", "lost")]
    counts += [f"{done[name]} {name}" for name in rare if done[name]]
    lines = [f"{', '.join(counts)}, {done['packets']} packets"]
    if done["median"] is not None:
        times = "/".join(_milliseconds(done[name], unit="") for name in ("minimum", "median", "maximum"))
        lines.append(f"min/median/max {times} ms")
    return lines


def _milliseconds(seconds: float, unit: str = " ms") -> str:
    return f"{seconds * 1000:.3f}{unit}"


def _as_json(result: ProbeResult) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "outcome": result.outcome.value}

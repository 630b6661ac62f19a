"""``l4lb status``: the daemon at a glance. Plain text: rich would take most of the time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from l4lb.cli.options import Command, Location, json_option, pass_location
from l4lb.cli.output import duration, printable, write_fields, write_json


@click.command(cls=Command)
@json_option
@pass_location
def status(location: Location, as_json: bool) -> None:
    """Show how the daemon and its datapath are."""
    answer = location.client().get("status")
    if as_json:
        write_json(answer)
        return
    write_fields(_fields(answer))
    for warning in answer["warnings"]:
        click.secho(f"warning: {printable(warning)}", fg="yellow")


def _fields(answer: dict[str, Any]) -> list[tuple[str, str]]:
    datapath, connections = answer["datapath"], answer["connections"]
    fields = [
        ("l4lb", f"{answer['version']}, pid {answer['pid']}, up for {duration(answer['uptime'])}"),
        ("config", answer["config"]),
        ("socket", answer["socket"]),
        ("datapath", datapath["name"]),
        *(
            (f"  {_words(name)}", "yes" if able else "no")
            for name, able in datapath["capabilities"].items()
            if isinstance(able, bool)  # its name is among them
        ),
        *((f"  {_words(name)}", value) for name, value in datapath["details"].items()),
        ("services", str(answer["services"])),
        *(("VIP", _vip(vip)) for vip in answer["vips"]),
        ("connections", f"{connections['established']} established, {connections['half_open']} half-open"),
        ("packets", ", ".join(f"{_words(name)} {count}" for name, count in answer["verdicts"].items())),
    ]
    fields += _probe_fields(answer["probes"])
    fields.append(("health checks", "{made} made, {packets} packets".format_map(answer["checks"])))
    if refused := answer["agents"]["refused"]:
        counts = ", ".join(f"{count} {_words(reason)}" for reason, count in refused.items())
        fields.append(("agents' answers", f"refused: {counts}"))
    if answer["drops"]:
        fields.append(("dropped", ""))
    fields += [(f"  {_words(reason)}", str(count)) for reason, count in answer["drops"].items()]
    return fields


def _vip(vip: dict[str, Any]) -> str:
    if vip["interface"] is None:
        return f"{vip['address']}, on no interface"
    return f"{vip['address']} on {vip['interface']}{', added by l4lb' if vip['ours'] else ''}"


def _probe_fields(probes: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "probes", _probes(probes)
    if any(probes["agents"].values()):
        counts = "{asked} asked, {answered} answered, {withheld} withheld".format_map(probes["agents"])
        yield "  agents", counts
    yield "  packets", _probe_packets(probes)


def _probes(probes: dict[str, Any]) -> str:
    if not probes["limits"]["enabled"]:
        return "off"
    names = ["sent", "answered", "late", "withheld"]
    names[2:2] = [name for name in ("refused", "wrong", "lost", "unsent", "forged") if probes[name]]
    return ", ".join(f"{probes[name]} {name}" for name in names)


def _probe_packets(probes: dict[str, Any]) -> str:
    limits, text = probes["limits"], str(probes["packets"])
    if probes["part"] is not None:
        text += f", {probes['part']:.3%} of those forwarded"
    return f"{text} (budget {limits['share']:.3%}, at least {limits['floor']:g}/s)"


def _words(name: str) -> str:
    return name.replace("_", " ")

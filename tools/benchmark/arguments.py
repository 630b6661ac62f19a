"""The command line of ``tools/bench``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.compare.loads import LOADS
from benchmark.latency.balancers import BALANCERS
from benchmark.latency.scenes import SCENES
from benchmark.peers.peers import PEERS
from netlab.daemon import DATAPATHS, KERNEL_DATAPATHS

_PICTURES: Final = (".png", ".svg", ".pdf")

_COMMANDS: Final = {
    "all": "all of the below but profile and latency, one after the other; what is done without a COMMAND",
    "compare": "l4lb, nftables, HAProxy, nginx, and forwarding in turns, on real traffic; as root",
    "packets": "small packets a second on one core, beside nftables, forwarding and bare XDP; as root",
    "alone": "the eBPF programs alone: time of a packet, memory of a connection; as root",
    "flood": "a thousand transfers under a flood of SYNs; as root",
    "restart": "a thousand transfers while the daemon is killed and started again; as root",
    "micro": "the path of a packet in Python alone, and large connection tables; without root",
    "latency": "latency when servers are slow, stall or recover, l4lb and others in turns; as root",
    "profile": "where l4lb's packet process (raw) spends its time under each load; as root",
}


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def _sizes(text: str) -> list[int]:
    return sorted({_positive(number) for number in text.split(",")})


def _names(what: str, *known: Sequence[str]) -> Callable[[str], list[str]]:
    """The type of a list of names out of those that are known."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if not any(name in names for names in known):
                there_are = "; ".join(", ".join(names) for names in known)
                raise argparse.ArgumentTypeError(f"no {what} '{name}': there are {there_are}")
        return chosen

    return read


def _output(text: str) -> Path:
    """A file that can be written, found out before the long run and not after it."""
    file = Path(text)
    place = file if file.exists() else file.parent
    if file.is_dir() or not os.access(place, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write '{text}'")
    return file


def _picture(text: str) -> Path:
    if not text.endswith(_PICTURES):
        raise argparse.ArgumentTypeError(f"'{text}' has to end in {', '.join(_PICTURES)}")
    return _output(text)


def traffic_peers() -> list[str]:
    """Who is compared under the loads of real clients."""
    return [peer.name for peer in PEERS.values() if peer.traffic]


def packet_peers() -> list[str]:
    """Who is compared by small packets."""
    return [peer.name for peer in PEERS.values() if peer.packets]


def _only(command: str) -> tuple[str, Callable[[str], list[str]]] | None:
    """What --only takes after a command: how it is shown, and its type."""
    if command == "compare":
        return "peers and loads", _names("peer or load", traffic_peers(), list(LOADS))
    if command == "packets":
        return "peers", _names("peer", packet_peers())
    if command in ("alone", "flood", "restart"):
        return "datapaths", _names("datapath", KERNEL_DATAPATHS)
    if command == "latency":
        return "balancers", _names("balancer", BALANCERS)
    if command == "profile":
        return "loads", _names("load", list(LOADS))
    return None


def _number(default: int, text: str) -> dict[str, Any]:
    """An option that is a whole number."""
    return {"type": _positive, "default": default, "metavar": "N", "help": f"{text} (default: %(default)s)"}


_OPTIONS: Final[tuple[tuple[str, Collection[str], dict[str, Any]], ...]] = (
    (
        "--rounds",
        ("all", "compare", "packets", "alone", "flood", "restart"),
        _number(5, "turns of each"),
    ),
    # A 99th percentile takes some thousand requests, and there are many scenes.
    ("--rounds", ("latency",), _number(3, "turns of each")),
    ("--rounds", ("micro",), _number(3, "turns of each size of the table")),
    (
        "--seconds",
        ("all", "compare", "packets", "flood", "restart", "profile"),
        _number(4, "length of each measurement"),
    ),
    ("--seconds", ("latency",), _number(20, "length of each measurement")),
    (
        "--prefix",
        _COMMANDS.keys() - {"micro"},
        {
            "default": "l4lb-bench",
            "help": "of the lab, which is made anew and removed at the end (default: %(default)s)",
        },
    ),
    ("--flows", ("all", "packets"), _number(1_000, "TCP connections that the small packets are of")),
    (
        "--sizes",
        ("all", "micro"),
        {
            "type": _sizes,
            "default": [1_000, 100_000, 1_000_000],
            "metavar": "N,...",
            "help": "connections in Python's tables to measure (default: 1000,100000,1000000)",
        },
    ),
    (
        "--scenes",
        ("latency",),
        {
            "type": _names("scene", SCENES),
            "default": [],
            "metavar": "NAME,...",
            "help": f"only these: {', '.join(SCENES)}",
        },
    ),
    ("--rate", ("latency",), _number(120, "requests a second; the servers can answer 200")),
    (
        "--datapath",
        ("latency",),
        {"choices": DATAPATHS, "default": "tc", "help": "of l4lb (default: %(default)s)"},
    ),
    (
        "--plot",
        ("all", "compare", "packets", "alone", "latency"),
        {"type": _picture, "metavar": "FILE", "help": "draw what was measured to FILE, a PNG or SVG"},
    ),
    (
        "--json",
        _COMMANDS.keys(),
        {"type": _output, "metavar": "FILE", "help": "write all figures to FILE"},
    ),
)
"""An option, the commands that have it, and what it takes; --only is another one for each."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="l4lb beside other balancers on one lab, and its parts on their own.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(only=[])
        if only := _only(name):
            what, kind = only
            command.add_argument("--only", type=kind, metavar="NAME,...", help=f"only these {what}")
        for option, having, settings in _OPTIONS:
            if name in having:
                command.add_argument(option, **settings)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; ends the program, with status 2, if it is wrong."""
    words = list(argv)
    if not words or words[0] not in (*_COMMANDS, "-h", "--help"):
        words.insert(0, "all")
    return _parser().parse_args(words)


def chosen(only: Sequence[str], known: Sequence[str]) -> list[str]:
    """Those of ``known`` that are wanted; all if none of them is named."""
    return [name for name in known if name in only] or list(known)

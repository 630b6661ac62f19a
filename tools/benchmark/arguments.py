"""The command line of ``tools/bench``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.loads import LOADS
from benchmark.peers import PEERS

_PICTURES: Final = (".png", ".svg", ".pdf")

_COMMANDS: Final = {
    "all": "the comparison, then the micro-benchmark; what is done if no COMMAND is given",
    "compare": "l4lb, nftables, HAProxy, nginx and plain forwarding in turns, on real traffic; as root",
    "micro": "the path of a packet in Python alone, and large connection tables; without root",
    "profile": "where l4lb's packet process spends its time under each load; as root",
}


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def _sizes(text: str) -> list[int]:
    return sorted({_positive(number) for number in text.split(",")})


def _peers_and_loads(text: str) -> list[str]:
    chosen = text.split(",")
    for name in chosen:
        if name not in PEERS and name not in LOADS:
            known = f"{', '.join(PEERS)}; {', '.join(LOADS)}"
            raise argparse.ArgumentTypeError(f"no peer or load '{name}': there are {known}")
    return chosen


def _loads(text: str) -> list[str]:
    chosen = text.split(",")
    for name in chosen:
        if name not in LOADS:
            raise argparse.ArgumentTypeError(f"no load '{name}': there are {', '.join(LOADS)}")
    return chosen


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="l4lb beside other balancers on one lab, and its parts on their own.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in ("all", "compare"):
            command.add_argument(
                "--rounds", type=_positive, default=5, metavar="N", help="turns of each (default: 5)"
            )
            command.add_argument(
                "--only",
                type=_peers_and_loads,
                default=[],
                metavar="NAME,...",
                help=f"only these of {', '.join(PEERS)} and of {', '.join(LOADS)}",
            )
            command.add_argument(
                "--plot",
                type=_picture,
                metavar="FILE",
                help="draw the comparison to FILE, for example a PNG",
            )
        if name == "profile":
            command.add_argument(
                "--only",
                type=_loads,
                default=[],
                metavar="LOAD,...",
                help=f"only these of {', '.join(LOADS)}",
            )
        if name != "micro":
            command.add_argument(
                "--seconds", type=_positive, default=4, metavar="N", help="length of each load (default: 4)"
            )
            command.add_argument(
                "--prefix",
                default="l4lb-bench",
                help="of the lab, which is made anew and removed at the end (default: l4lb-bench)",
            )
        if name in ("all", "micro"):
            command.add_argument(
                "--sizes",
                type=_sizes,
                default=[1_000, 100_000, 1_000_000],
                metavar="N,...",
                help="connections in the tables to measure (default: 1000,100000,1000000)",
            )
        command.add_argument("--json", type=_output, metavar="FILE", help="write all figures to FILE")
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

"""What is installed: the files of each service, made from the templates beside this file."""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

UNITS: Final = PurePosixPath("/etc/systemd/system")
SETTINGS: Final = PurePosixPath("/etc/l4lb")
PROGRAM: Final = "@l4lb@"

_HIDDEN: Final = tuple(map(PurePosixPath, ("/tmp", "/var/tmp")))
"""What a unit with PrivateTmp= does not see of the host."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to install. ``theirs``: it is there to be changed, and never overwritten."""

    path: PurePosixPath
    text: str
    theirs: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A unit and what belongs to it."""

    unit: str  # its name
    template: str  # of its settings
    settings: PurePosixPath

    def files(self, program: PurePosixPath) -> tuple[File, ...]:
        """The files, for an l4lb at this absolute path.

        Raises:
            UnusablePath: see ``quoted``.
        """
        unit = _template(self.unit).replace(PROGRAM, quoted(program))
        return File(UNITS / self.unit, unit), File(self.settings, _template(self.template), theirs=True)


GATEWAY: Final = Service("l4lb.service", "l4lb.toml", SETTINGS / "l4lb.toml")
AGENT_KEY: Final = SETTINGS / "agents.key"
"""Read by the agent's unit. Not ours to make: it is the gateways'."""

AGENT: Final = Service("l4lb-agent.service", "agent.env", SETTINGS / "agent.env")


class UnusablePath(ValueError):
    """systemd cannot start a program at this path. The message is one line for people."""


def quoted(path: PurePosixPath) -> str:
    """A path as a word of ``ExecStart=`` (systemd.service(5), systemd.unit(5)).

    Raises:
        UnusablePath: it has characters that systemd refuses in the name of a program.
    """
    text = str(path)
    if not text.isprintable() or any(character in text for character in "\"'\\"):
        raise UnusablePath(f"{text!r}: systemd starts no program with quotes or backslashes in its path")
    text = text.replace("%", "%%")
    return f'"{text}"' if any(character in text for character in " ;") else text


def parts() -> tuple[Path, ...]:
    """The directories that this l4lb is run from, as they are named and as they are: of its package, its
    Python environment, the interpreter, which may belong to another one, and all modules."""
    import l4lb

    named = [
        Path(sys.prefix),
        Path(l4lb.__file__).parent,
        Path(sys.base_prefix),
        Path(sys.executable).parent,
    ]
    named += [Path(sys.executable).resolve().parent, *(Path(each).absolute() for each in sys.path if each)]
    places = [place if place.is_dir() else place.parent for place in named if place.exists()]
    return tuple(dict.fromkeys(each for place in places for each in (place, place.resolve())))


def hidden_from_unit(*places: Path) -> list[Path]:
    """Those of the places where parts of l4lb are that its unit would not see."""
    return [place for place in places if any(map(place.is_relative_to, _HIDDEN))]


def out_of_reach(service: Service, *places: Path) -> list[Path]:
    """The directories on the way to these places that the unit may not enter: the agent's user is nobody in
    particular, and the gateway's root has no CAP_DAC_OVERRIDE. ``places`` are directories."""
    shut = []
    for directory in dict.fromkeys(each for place in places for each in (*place.parents[::-1], place)):
        about = directory.stat()
        allowed = stat.S_IXOTH
        if service is GATEWAY:
            allowed = stat.S_IXUSR if not about.st_uid else stat.S_IXGRP if not about.st_gid else allowed
        if not about.st_mode & allowed:
            shut.append(directory)
    return shut


def _template(name: str) -> str:
    return resources.files("l4lb.service").joinpath(name).read_text(encoding="utf-8")

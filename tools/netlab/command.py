"""Run the programs the lab is made with; a failure becomes one line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from netlab import LabError

NAMESPACES: Final = Path("/run/netns")


def find(program: str) -> str:
    """Where a program is.

    Raises:
        LabError: it is not installed.
    """
    path = shutil.which(program)
    if path is None:
        raise LabError(f"{program} is not installed: run tools/setup")
    return path


def run(argv: Sequence[str], text: str = "") -> str:
    """Run a program with ``text`` on its standard input; what it printed.

    Raises:
        LabError: it is not installed or did not exit with 0; says what it complained of.
    """
    done = subprocess.run(
        [find(argv[0]), *argv[1:]], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        complaint = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise LabError(f"'{' '.join(argv)}' failed: {complaint}")
    return done.stdout


def inside(namespace: str, *argv: str) -> list[str]:
    """The command that runs another one inside a network namespace.

    Not `ip netns exec`: it also changes mounts, which fails in a chroot. So /sys stays the
    machine's own.
    """
    return [find("nsenter"), f"--net={NAMESPACES / namespace}", *argv]

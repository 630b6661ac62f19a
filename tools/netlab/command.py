"""Run the programs the lab is made with; a failure becomes one line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from netlab import LabError

NAMESPACES: Final = Path("/run/netns")
_LONGEST: Final = 60.0  # seconds that a program may take


def find(program: str, installer: str = "tools/setup") -> str:
    """Where a program is.

    Raises:
        LabError: it is not installed.
    """
    path = shutil.which(program)
    if path is None:
        raise LabError(f"{program} is not installed: run {installer}")
    return path


def run(
    argv: Sequence[str], text: str = "", *, name: str | None = None, timeout: float | None = None
) -> str:
    """Run a program; what it printed.

    Args:
        argv: the command line.
        text: on its standard input.
        name: what it is called in a message; None: by its command line.
        timeout: seconds that it may take; None: a minute.

    Raises:
        LabError: it is not installed, did not end or not with 0; says what it complained of.
    """
    name = name or f"'{' '.join(argv)}'"
    timeout = timeout or _LONGEST
    try:
        done = subprocess.run(
            [find(argv[0]), *argv[1:]],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{name} has not ended after {timeout:.3g} s") from None
    if done.returncode:
        complaint = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise LabError(f"{name}: {complaint}")
    return done.stdout


def inside(namespace: str | None, *argv: str) -> list[str]:
    """The command that runs another one inside a network namespace; None: on this machine itself.

    Not `ip netns exec`: it also changes mounts, which fails in a chroot. So /sys stays the
    machine's own.
    """
    if namespace is None:
        return list(argv)
    return [find("nsenter"), f"--net={NAMESPACES / namespace}", *argv]


def batch(namespace: str | None, lines: Sequence[str]) -> None:
    """Give lines to ip(8), all or up to the first that fails.

    Raises:
        LabError: one failed.
    """
    run(inside(namespace, find("ip"), "-batch", "-"), "\n".join(lines) + "\n")

"""systemd, asked by ``systemctl``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_RUNS: Final = Path("/run/systemd/system")  # sd_booted(3)


class SystemdError(Exception):
    """systemctl cannot be run or has failed. The message is one line for people."""


def runs() -> bool:
    """Whether systemd manages this host."""
    return _RUNS.is_dir()


def is_enabled_in(root: Path, unit: str) -> bool:
    """Whether an image starts it at boot: seen without systemctl, which need not be here."""
    # A link to a path in the image, which leads nowhere on the host.
    return any((wants / unit).is_symlink() for wants in (root / "etc/systemd/system").glob("*.wants"))


def systemctl(*arguments: str, root: Path | None = None) -> None:
    """Have it do something, on the host or, without a manager, in the image at ``root``.

    Raises:
        SystemdError: it could not.
    """
    program = shutil.which("systemctl")
    if program is None:
        raise SystemdError("there is no systemctl here: install systemd, or run 'l4lb run' by other means")
    command = [program, *([f"--root={root}"] if root else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise SystemdError(f"'systemctl {' '.join(arguments)}' failed: {complaint}")

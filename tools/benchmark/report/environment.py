"""On what the figures were measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from benchmark.lab.cores import load_average

_VERSIONS: Final = {
    "clang": ("clang", "--version"),
    "haproxy": ("haproxy", "-v"),
    "nginx": ("nginx", "-v"),
    "nftables": ("nft", "--version"),
    "iperf3": ("iperf3", "--version"),
    "wrk": ("wrk", "-v"),
}

BUSY: Final = 0.5
"""Load average above which somebody else is using the machine."""


def _version(command: tuple[str, ...]) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    version = re.search(r"\d+\.\d\S*", done.stdout + done.stderr)
    return version[0] if version else "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def environment() -> dict[str, str]:
    """Names to words: machine, kernel, versions, and how busy it is now."""
    return {
        "l4lb": importlib.metadata.version("l4lb"),
        "system": _system(),
        "kernel": platform.release(),
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: _version(command) for name, command in _VERSIONS.items()},
        "load average before": f"{load_average():.2f}",
    }

"""Fixtures of the tests that run on the lab."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab, remove_abandoned


@functools.cache
def why_not() -> str | None:
    """What keeps the lab from running here; None if nothing does."""
    if os.geteuid() != 0:
        return "no root: the lab is made of network namespaces"
    for program in ("ip", "sysctl", "nginx", "nft", "curl", "ping"):
        if shutil.which(program) is None:
            return f"no {program}: tools/setup installs it"
    for what, command in (
        ("network namespaces", ["true"]),
        ("nftables in the kernel", ["nft", "add", "table", "inet", "l4lb-probe"]),
    ):
        tried = subprocess.run(["unshare", "--net", *command], capture_output=True, text=True, check=False)
        if tried.returncode:
            return f"no {what}: {tried.stderr.strip()}"
    return None


@pytest.fixture(scope="session")
def lab_possible() -> None:
    """Skip where there can be no lab, and say why."""
    if reason := why_not():
        pytest.skip(reason)
    remove_abandoned()


@pytest.fixture(scope="module")
def lab(lab_possible: None) -> Iterator[Lab]:
    """A lab of this process's own, up for the tests of one module."""
    lab = Lab()
    try:
        lab.up()
        yield lab
    finally:
        lab.down()

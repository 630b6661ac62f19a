"""Fixtures of the tests that run on the lab."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.ebpf import pins
from netlab.daemon import DATAPATHS, KERNEL_DATAPATHS
from tests.lab.lab import Lab, prefix_of_this_run, remove, remove_abandoned
from tests.unit.datapath.ebpf import kernel


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


@functools.cache
def why_no_ebpf() -> str | None:
    """What keeps the eBPF datapaths from running here; None if nothing does."""
    if reason := kernel.why_not():
        return str(reason)
    try:
        if not pins.is_mounted():
            pins.mount()
    except DatapathError as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def lab_possible() -> None:
    """Skip where there can be no lab, and say why."""
    if reason := why_not():
        pytest.skip(reason)
    remove_abandoned()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What needs a lab runs on every datapath, or on those that its marker ``datapath`` names: one that has
    what is tested, or, for what is the control plane's alone, just one."""
    if "datapath" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("datapath")
        metafunc.parametrize(
            "datapath", marker.args if marker else DATAPATHS, indirect=True, scope="module"
        )


@pytest.fixture(scope="module")
def datapath(request: pytest.FixtureRequest, lab_possible: None) -> str:
    """The datapath that the daemons of a lab run on; "auto": what their configs say. Skips where it
    cannot run, and says why."""
    name: str = request.param
    if name in KERNEL_DATAPATHS and (reason := why_no_ebpf()):
        pytest.skip(f"no datapath {name}: {reason}")
    return name


@pytest.fixture
def prefix(lab_possible: None) -> Iterator[str]:
    """Of the lab that a tool makes. It is taken down in the end, as the tool may have been killed."""
    prefix = prefix_of_this_run("x")
    try:
        yield prefix
    finally:
        remove(prefix)


@pytest.fixture(scope="module")
def lab(datapath: str) -> Iterator[Lab]:
    """A lab of this process's own, up for the tests of one module."""
    lab = Lab(datapath=datapath)
    try:
        lab.up()
        yield lab
    finally:
        lab.down()

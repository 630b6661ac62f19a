"""Interfaces of a real kernel that get other names under an eBPF datapath."""

import asyncio
import contextlib

import pytest

from l4lb.datapath.ebpf import following
from l4lb.datapath.ebpf.datapath import EbpfDatapath
from l4lb.datapath.ebpf.hooks import attached
from l4lb.datapath.ebpf.pins import namespace_directory, version_directory
from l4lb.model import Limits
from tests.lab.gateway import DEADLINE, GATEWAY, ip, run, two_namespaces, until
from tests.unit.datapath.ebpf.kernel import file_system, why_not

pytestmark = pytest.mark.lab

LIMITS = Limits(half_open=1024, established=1024, affinity=1024, fragments=1024)


@pytest.fixture
def pins():
    """A BPF file system, and this thread in the gateway's namespace."""
    if reason := why_not():
        pytest.skip(reason)
    with two_namespaces(), file_system() as directory:
        yield directory


@contextlib.asynccontextmanager
async def attached_to(watch, pins, *names):
    datapath = EbpfDatapath(watch, "tc", LIMITS, file_system=pins)
    await datapath.attach(names)
    try:
        yield datapath
    finally:
        await datapath.close(hold=False)


async def renamed(watch, datapath, old, new):
    """Give an interface another name, and wait until the datapath has taken note of it."""
    ip(GATEWAY, f"link set {old} down\nlink set {old} name {new}\nlink set {new} up")
    await until(watch, lambda state: state.link(new) is not None and state.link(new).up)
    for _ in range(8):  # turns of the thread that follows links too
        await datapath.counters()


def interfaces(pins):
    return {index for _, index in attached(version_directory(namespace_directory(pins)) / "links")}


def test_an_interface_that_gets_another_name_keeps_its_programs(pins):
    async def scenario(watch):
        lan, wan = watch.state.link("lan0").index, watch.state.link("wan0").index
        async with attached_to(watch, pins, "lan0", "wan0") as datapath:
            await renamed(watch, datapath, "lan0", "lan9")
            assert interfaces(pins) == {lan, wan}
            await datapath.attach(["wan0"])  # by who has not heard of it yet
            assert interfaces(pins) == {lan, wan}
            await datapath.attach(["lan9", "wan0"])
            assert interfaces(pins) == {lan, wan}
            await datapath.attach(["wan0"])
            assert interfaces(pins) == {wan}

    run(scenario)


def test_an_interface_whose_new_name_nobody_wants_is_left_a_little_later(pins, monkeypatch):
    monkeypatch.setattr(following, "_LOOK", 0.01)

    async def scenario(watch):
        lan, wan = watch.state.link("lan0").index, watch.state.link("wan0").index
        async with attached_to(watch, pins, "lan0", "wan0") as datapath, asyncio.timeout(DEADLINE):
            await renamed(watch, datapath, "lan0", "lan9")
            while interfaces(pins) != {wan}:
                await asyncio.sleep(0.01)
            await renamed(watch, datapath, "lan9", "lan0")
            while interfaces(pins) != {lan, wan}:
                await asyncio.sleep(0.01)

    run(scenario)

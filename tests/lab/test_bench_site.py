"""The lab of the benchmark: what a turn does to it, and that nothing of it is left."""

import os
import shutil
from contextlib import ExitStack

import pytest

from benchmark import BenchError
from benchmark.lab.cores import CORE, EVERYWHERE
from benchmark.lab.site import _PROGRAMS, open_site
from netlab import LabError, process, record
from tests.lab.lab import prefix_of_this_run, remove

pytestmark = pytest.mark.lab

MISSING = [program for program in _PROGRAMS if shutil.which(program) is None]


@pytest.fixture(scope="module")
def site(lab_possible):
    if MISSING:
        pytest.skip(f"no {', '.join(MISSING)}: tools/setup installs them")
    prefix = prefix_of_this_run("b")
    with ExitStack() as stack:
        stack.callback(remove, prefix)
        try:
            opened = stack.enter_context(open_site(prefix))
        except LabError as error:
            if not str(error).startswith("another benchmark runs"):
                raise
            pytest.skip(str(error))
        yield opened


def servers(site):
    inodes = [record.namespace_inode(site.lab.namespace(host.name)) for host in site.lab.topology.backends]
    return [pid for inode in inodes for pid in process.members(inode)]


def asked(site, address):
    return site.must("client", "curl", "-s", f"http://{address}/client").split()


def test_the_client_reaches_the_backends_by_the_address_of_its_turn(site):
    for _ in range(2):
        client = site.next_client()
        for number, address in enumerate(site.at_backends.web, 1):
            assert asked(site, address)[:2] == [f"web{number}", client]
        assert asked(site, site.at_backends.one)[:2] == ["web1", client]


def test_joined_they_need_no_gateway(site):
    client = site.next_client()
    site.must("gateway", "ip", "link", "set", "eth0", "down")
    try:
        with site.joined():
            assert asked(site, site.at_backends.one)[:2] == ["web1", client]
            with pytest.raises(BenchError, match="has left the interface direct on client"):
                site.check_clean()
    finally:
        site.must("gateway", "ip", "link", "set", "eth0", "up")
    site.check_clean()


@pytest.mark.skipif(len(EVERYWHERE) < 2, reason="this machine has one core")
def test_on_one_core_are_the_servers_and_what_is_started_meanwhile(site):
    before = servers(site)
    assert before
    with site.one_core():
        assert {frozenset(os.sched_getaffinity(pid)) for pid in (0, *before)} == {frozenset({CORE})}
        assert site.must("client", "nproc").strip() == "1"
        with pytest.raises(BenchError, match="on one core"):
            site.check_clean()
    assert {frozenset(os.sched_getaffinity(pid)) for pid in (0, *before)} == {EVERYWHERE}
    assert site.must("client", "nproc").strip() == str(len(EVERYWHERE))
    site.check_clean()


def test_after_an_error_all_may_run_everywhere_again(site):
    with pytest.raises(RuntimeError), site.one_core():
        raise RuntimeError
    assert {frozenset(os.sched_getaffinity(pid)) for pid in (0, *servers(site))} == {EVERYWHERE}


def test_a_backends_further_address_is_reached_over_its_own_cable(site):
    site.add_address("web3", "10.2.0.77")
    site.next_client()
    assert asked(site, "10.2.0.77:80")[0] == "web3"

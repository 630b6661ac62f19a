"""Transfers under way while the daemon is restarted, or killed in one of several ways and started again.

What a stop, a kill and a new start leave on the host is looked at in test_daemon.py.
"""

import os
import signal
from contextlib import ExitStack, contextmanager

import pytest

from l4lb.cli.client import DaemonError
from l4lb.schedulers import SCHEDULERS
from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import Browser, Download, Upload, ask, datagrams, digest, wait_for
from tests.lab.services import BACKENDS, VIP, VIP6, service

pytestmark = pytest.mark.lab

SIZE = 24 << 20
CONSISTENT = ["source_hash", "maglev"]
INCONSISTENT = [name for name in SCHEDULERS if name not in CONSISTENT]
PATIENCE = 5.0  # seconds for what must not last: a few retransmissions


def packet_process(daemon):
    """Its number, None while there is none."""
    try:
        number = daemon.api.get("status")["datapath"]["details"].get("packet process")
    except DaemonError:  # it has just died
        return None
    return number and int(number)


def restart(daemon):
    daemon.stop()
    daemon.start()


def crash_control_plane(daemon):
    """The daemon's own process only; the packet process notices and saves its connections."""
    daemon.kill()
    daemon.start()


def crash_all(daemon):
    """Nobody can save anything."""
    process = packet_process(daemon)
    os.kill(process, signal.SIGKILL)
    daemon.kill()
    daemon.start()


def crash_packet_process(daemon):
    """The daemon starts another one."""
    first = packet_process(daemon)
    os.kill(first, signal.SIGKILL)
    wait_for("another packet process", lambda: packet_process(daemon) not in (None, first))


class Transfers:
    """A download and an upload over each IP version, of which all or none go on."""

    def __init__(self, lab, stack):
        self._lab = lab
        self._digest = lab.publish("held", SIZE)
        # One upload over each version goes to the same name: one backend may get both.
        self.downloads = [stack.enter_context(Download(lab, vip, "held")) for vip in (VIP, VIP6)]
        self.uploads = [stack.enter_context(Upload(lab, vip, "held")) for vip in (VIP, VIP6)]

    @property
    def all(self):
        return self.downloads + self.uploads

    def go_on(self):
        """They do, and arrive whole."""
        for transfer in self.all:
            transfer.progress()
        for transfer in self.all:
            transfer.finish()
        assert {download.digest for download in self.downloads} == {self._digest}
        assert {upload.status.split()[1] for upload in self.uploads} <= {"201", "204"}
        stored = [self._lab.host_directory(name) / "upload" / "held" for name in BACKENDS[4]]
        assert {digest(path) for path in stored if path.exists()} == {self._digest}

    def end_quickly(self):
        """The clients are told; nothing hangs."""
        for transfer in self.all:
            assert isinstance(transfer.failure(PATIENCE), (ConnectionResetError, BrokenPipeError))


@contextmanager
def balancing(lab, scheduler, **settings):
    config = service("web", scheduler=scheduler, **settings)
    config += service("web6", vip=VIP6, scheduler=scheduler, **settings)
    with lab.daemon(config) as daemon, ExitStack() as stack:
        try:
            yield daemon, Transfers(lab, stack)
        finally:
            for name in BACKENDS[4]:
                (lab.host_directory(name) / "upload" / "held").unlink(missing_ok=True)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_restart_keeps_transfers_with_any_scheduler(lab, scheduler):
    with balancing(lab, scheduler) as (daemon, transfers):
        restart(daemon)
        transfers.go_on()


@pytest.mark.parametrize("scheduler", ["round_robin", "maglev"])
def test_a_restart_keeps_full_nat_transfers(lab, scheduler):
    with balancing(lab, scheduler, nat="full") as (daemon, transfers):
        restart(daemon)
        transfers.go_on()


@pytest.mark.parametrize("scheduler", ["round_robin", "maglev"])
def test_a_killed_daemon_that_is_started_again_keeps_transfers(lab, scheduler):
    with balancing(lab, scheduler) as (daemon, transfers):
        crash_control_plane(daemon)
        transfers.go_on()


@pytest.mark.parametrize("scheduler", CONSISTENT)
def test_consistent_hashes_find_transfers_again_when_all_is_lost(lab, scheduler):
    with balancing(lab, scheduler) as (daemon, transfers):
        crash_all(daemon)
        transfers.go_on()


@pytest.mark.parametrize("scheduler", INCONSISTENT)
def test_transfers_that_cannot_be_found_again_end_quickly(lab, scheduler):
    with balancing(lab, scheduler) as (daemon, transfers):
        crash_all(daemon)
        transfers.end_quickly()
        assert ask(lab, VIP) in BACKENDS[4]
        assert ask(lab, VIP6) in BACKENDS[6]


def test_a_packet_process_that_is_killed_is_replaced_and_transfers_are_found_again(lab):
    with balancing(lab, "maglev") as (daemon, transfers):
        crash_packet_process(daemon)
        transfers.go_on()


def test_or_they_end_quickly_and_clients_connect_anew(lab):
    with balancing(lab, "round_robin") as (daemon, transfers):
        crash_packet_process(daemon)
        transfers.end_quickly()
        assert ask(lab, VIP) in BACKENDS[4]
        assert ask(lab, VIP6) in BACKENDS[6]


@pytest.mark.parametrize("scheduler", ["round_robin", "maglev"])
def test_a_restart_leaves_direct_connections_alone(lab, scheduler):
    """One to every backend: a hash would take some for connections to the VIP."""
    digest = lab.publish("held", SIZE)
    with lab.daemon(service(scheduler=scheduler)) as daemon, ExitStack() as stack:
        direct = [stack.enter_context(Download(lab, address, "held")) for address in BACKENDS[4].values()]
        restart(daemon)
        for download in direct:
            download.progress()
        for download in direct:
            download.finish()
            assert download.digest == digest


def test_a_restart_keeps_what_udp_clients_and_affinity_know(lab):
    config = service("echo", port=UDP_ECHO_PORT, protocol="udp") + service(affinity="client")
    with (
        lab.daemon(config) as daemon,
        datagrams(lab, VIP, UDP_ECHO_PORT) as client,
        Browser(lab, VIP) as kept,
    ):
        client.send(b"1")
        name = client.recv(100).split()[0]
        served = kept.get()
        restart(daemon)
        for number in range(9):
            client.send(b"%d" % number)
            assert client.recv(100) == b"%s %d" % (name, number)
        assert kept.get() == served


def test_repeated_restarts_under_many_connections(lab):
    with lab.daemon(service()) as daemon, ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, VIP)) for _ in range(200)]
        names = [browser.get() for browser in kept]
        for _ in range(3):
            restart(daemon)
            assert [browser.get() for browser in kept] == names

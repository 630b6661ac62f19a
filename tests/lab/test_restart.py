"""Transfers under way while the daemon is restarted, or killed in one of several ways and started again.

What a stop, a kill and a new start leave on the host is looked at in test_daemon.py; how the eBPF
datapaths go on while there is no daemon, in test_ebpf_adoption.py.
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

pytestmark = [pytest.mark.lab, pytest.mark.datapath("raw", "tc")]

SIZE = 24 << 20
CONSISTENT = ["source_hash", "maglev"]
INCONSISTENT = [name for name in SCHEDULERS if name not in CONSISTENT]
PATIENCE = 5.0  # seconds for what must not last: a few retransmissions
GOES_ON = 30.0  # seconds for one that was cut for some: TCP tries after 3, 6 and 12, and once more
PORTS = {scheduler: port for port, scheduler in enumerate(SCHEDULERS, 8001)}  # of a service for each


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
    """A download and an upload for each scheduler, one over IPv4 and one over IPv6."""

    def __init__(self, lab, schedulers, stack):
        self._lab = lab
        self._digest = lab.publish("held", SIZE)
        self._downloads, self._uploads = {}, {}
        for number, scheduler in enumerate(schedulers):
            vips, port = (VIP, VIP6), PORTS[scheduler]
            download = Download(lab, vips[number % 2], "held", port=port)
            upload = Upload(lab, vips[(number + 1) % 2], "held", port=port)
            for transfer in (download, upload):
                transfer.socket.settimeout(GOES_ON)
            self._downloads[scheduler] = stack.enter_context(download)
            self._uploads[scheduler] = stack.enter_context(upload)

    def go_on(self, schedulers):
        """They do, and arrive whole."""
        for scheduler in schedulers:
            self._downloads[scheduler].progress(seconds=GOES_ON)
            self._uploads[scheduler].progress(seconds=GOES_ON)
        for scheduler in schedulers:
            self._downloads[scheduler].finish()
            assert self._downloads[scheduler].digest == self._digest
            self._uploads[scheduler].finish()
            assert self._uploads[scheduler].status.split()[1] in ("201", "204")
        # All have the same name: the last one on each backend is left.
        stored = [path for path in self._stored() if path.exists()]
        assert {digest(path) for path in stored} == {self._digest}

    def end_quickly(self, schedulers):
        """The clients are told; nothing hangs."""
        for scheduler in schedulers:
            for transfer in (self._downloads[scheduler], self._uploads[scheduler]):
                assert isinstance(transfer.failure(PATIENCE), (ConnectionResetError, BrokenPipeError))

    def remove(self):
        for path in self._stored():
            path.unlink(missing_ok=True)

    def _stored(self):
        return [self._lab.host_directory(name) / "upload" / "held" for name in BACKENDS[4]]


@contextmanager
def balancing(lab, schedulers, **settings):
    """Services of these schedulers, with transfers through all of them."""
    config = ""
    for scheduler in schedulers:
        same = {"port": PORTS[scheduler], "backend_port": 80, "scheduler": scheduler, **settings}
        config += service(f"{scheduler}4", vip=VIP, **same) + service(f"{scheduler}6", vip=VIP6, **same)
    with lab.daemon(config) as daemon, ExitStack() as stack:
        transfers = Transfers(lab, schedulers, stack)
        try:
            yield daemon, transfers
        finally:
            transfers.remove()


@pytest.mark.datapath("raw", "tc", "xdp")
def test_a_restart_keeps_transfers_with_any_scheduler(lab):
    with balancing(lab, SCHEDULERS) as (daemon, transfers):
        restart(daemon)
        transfers.go_on(SCHEDULERS)


@pytest.mark.datapath("raw", "tc", "xdp")
def test_starts_that_are_stopped_half_way_keep_transfers(lab):
    """As several 'systemctl restart' in a row do it: whatever a start has come to."""
    with balancing(lab, ["round_robin"]) as (daemon, transfers):
        daemon.stop()
        for after in (0.6, 0.75, 0.85, 0.95):
            daemon.start_and_stop(after)
        daemon.start()
        transfers.go_on(["round_robin"])


def test_a_restart_keeps_full_nat_transfers(lab):
    with balancing(lab, ["round_robin", "maglev"], nat="full") as (daemon, transfers):
        restart(daemon)
        transfers.go_on(["round_robin", "maglev"])


def test_a_killed_daemon_that_is_started_again_keeps_transfers_with_any_scheduler(lab):
    with balancing(lab, SCHEDULERS) as (daemon, transfers):
        crash_control_plane(daemon)
        transfers.go_on(SCHEDULERS)


@pytest.mark.datapath("raw")
@pytest.mark.parametrize("crash", [crash_all, crash_packet_process])
def test_when_all_is_lost_hashes_find_transfers_again_and_others_end_quickly(lab, crash):
    with balancing(lab, SCHEDULERS) as (daemon, transfers):
        crash(daemon)
        transfers.end_quickly(INCONSISTENT)
        transfers.go_on(CONSISTENT)
        for port in PORTS.values():
            assert ask(lab, VIP, port=port) in BACKENDS[4]


def test_a_restart_leaves_direct_connections_alone(lab):
    """One to every backend: the hash takes some for connections to the VIP, until it learns."""
    published = lab.publish("held", SIZE)
    with lab.daemon(service(scheduler="maglev")) as daemon, ExitStack() as stack:
        addresses = [address for version in BACKENDS for address in BACKENDS[version].values()]
        direct = [stack.enter_context(Download(lab, address, "held")) for address in addresses]
        restart(daemon)
        for download in direct:
            download.progress()
        for download in direct:
            download.finish()
            assert download.digest == published


def test_a_restart_keeps_udp_clients_with_their_backends(lab):
    config = service("echo", port=UDP_ECHO_PORT, protocol="udp")
    with lab.daemon(config) as daemon, datagrams(lab, VIP, UDP_ECHO_PORT) as client:
        client.send(b"0")
        name = client.recv(100).split()[0]
        restart(daemon)
        for number in range(9):
            client.send(b"%d" % number)
            assert client.recv(100) == b"%s %d" % (name, number)


def test_repeated_restarts_under_many_connections(lab):
    with lab.daemon(service()) as daemon, ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, VIP)) for _ in range(200)]
        names = [browser.get() for browser in kept]
        for _ in range(3):
            restart(daemon)
            assert [browser.get() for browser in kept] == names

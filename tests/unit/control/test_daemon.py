"""The daemon's life: start, signals, what the service manager is told, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from l4lb.control import daemon
from l4lb.control.control_plane import ControlPlane
from l4lb.control.desired import DesiredState
from l4lb.datapath.base import DatapathError
from l4lb.model import Nat
from l4lb.privileges import DAEMON, Capability
from tests.unit.control.fake_datapath import DEADLINE
from tests.unit.control.fake_host import packed
from tests.unit.control.harness import CONFIG, Running, with_daemon


def serve(l4lb):
    """Until the daemon ends by itself, or cannot begin."""

    async def run():
        async with asyncio.timeout(DEADLINE):
            await l4lb.daemon().serve()

    asyncio.run(run())


def test_it_may_open_as_many_files_as_the_host_allows(tmp_path, monkeypatch):
    before = few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = []

    async def look(config_path, socket_path):
        seen.append(resource.getrlimit(resource.RLIMIT_NOFILE))

    monkeypatch.setattr(daemon, "_run", look)
    monkeypatch.setattr(daemon.logs, "configure", lambda level: None)  # it would outlast the test
    monkeypatch.setattr(daemon.faulthandler, "enable", lambda: None)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(few, 512), most))
        daemon.run(tmp_path / "l4lb.toml", tmp_path / "l4lb.sock")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert seen == [(most, most)]


def test_what_a_start_brings_about(tmp_path):
    async def scenario(l4lb):
        assert l4lb.watch.running
        assert l4lb.datapath.attached == [("eth0", "eth1")]
        # The start's own; a pass a moment later may have asked for the same.
        assert l4lb.vips.kept[0] == {packed("10.1.0.100"): None, packed("2001:db8:1::64"): None}
        web, dns = l4lb.datapath.plan.services
        assert [backend.snat for backend in web.backends] == [None, None]
        assert (dns.nat, dns.backends[0].snat) == (Nat.FULL, packed("2001:db8:2::1"))

    with_daemon(tmp_path, scenario)


def test_it_tells_once_that_it_has_started(tmp_path):
    async def scenario(l4lb):
        await l4lb.change("POST", "/v1/reload")
        assert l4lb.started == [1]

    with_daemon(tmp_path, scenario)


def test_vips_are_announced_when_the_datapath_is_ready_and_not_before(tmp_path):
    async def scenario(l4lb):
        assert order[:2] == ["plan", "vips"]

    order = []
    l4lb = Running(tmp_path)
    apply, keep = l4lb.datapath.apply, l4lb.vips.keep

    async def noted_apply(plan):
        order.append("plan")
        await apply(plan)

    async def noted_keep(vips):
        order.append("vips")
        await keep(vips)

    l4lb.datapath.apply, l4lb.vips.keep = noted_apply, noted_keep

    async def run():
        async with l4lb.serving():
            await scenario(l4lb)

    asyncio.run(run())


def test_interfaces_and_vips_as_the_config_says(tmp_path):
    async def scenario(l4lb):
        assert l4lb.datapath.attached == [("eth1",)]
        assert l4lb.vips.kept[0] == {packed("10.1.0.100"): "eth0", packed("2001:db8:1::64"): "eth0"}

    with_daemon(tmp_path, scenario, '[gateway]\ninterfaces = ["eth1"]\nvip_interface = "eth0"\n' + CONFIG)


def test_vips_that_others_manage_are_left_to_them(tmp_path):
    async def scenario(l4lb):
        assert not any(l4lb.vips.kept)

    with_daemon(tmp_path, scenario, "[gateway]\nmanage_vips = false\n" + CONFIG)


def test_a_stop_by_the_api_removes_everything_before_it_answers(tmp_path):
    async def scenario(l4lb):
        assert await l4lb.change("POST", "/v1/stop") == {}
        assert l4lb.datapath.held is False
        assert l4lb.vips.kept[-1] == {}
        assert not l4lb.socket.exists()
        assert not l4lb.watch.running
        assert l4lb.health.closed
        assert l4lb.vips.closed

    with_daemon(tmp_path, scenario)


def test_a_stop_begins_when_the_whole_request_has_come(tmp_path):
    """The client may be slow to send the rest, and would send it to nobody."""

    async def scenario(l4lb):
        reader, writer = await asyncio.open_unix_connection(l4lb.socket)
        writer.write(b"POST /v1/stop HTTP/1.1\r\nHost: l4lb\r\nContent-Length: 2\r\n\r\n")
        for _ in range(5):  # a stop would be over by then
            assert (await l4lb.get("/v1/status"))["pid"] == os.getpid()
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()

    with_daemon(tmp_path, scenario)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("hold", "held"), [("30", True), ("0", False)])
def test_a_stop_by_signal_keeps_what_a_restart_needs(tmp_path, number, hold, held):
    async def scenario(l4lb):
        os.kill(os.getpid(), number)
        await l4lb.ended()

    l4lb = with_daemon(tmp_path, scenario, f"[gateway]\nhold = {hold}\n" + CONFIG)
    assert l4lb.datapath.held is held
    assert l4lb.vips.kept[-1] == {}
    assert not l4lb.socket.exists()


@pytest.mark.parametrize(("hold", "other", "held"), [("30", "0", True), ("0", "30", False)])
def test_a_stop_holds_as_the_config_said_at_the_start(tmp_path, hold, other, held):
    async def scenario(l4lb):
        l4lb.config.write_text(f"[gateway]\nhold = {other}\n" + CONFIG)
        changes = [f"gateway: hold {hold} -> {other} (at the next start)"]
        assert await l4lb.change("POST", "/v1/reload") == {"changes": changes}
        os.kill(os.getpid(), signal.SIGTERM)
        await l4lb.ended()

    l4lb = with_daemon(tmp_path, scenario, f"[gateway]\nhold = {hold}\n" + CONFIG)
    assert l4lb.datapath.held is held


@pytest.mark.parametrize("hold", ["30", "0"])
def test_a_stop_by_signal_leaves_all_to_a_datapath_that_goes_on_by_itself(tmp_path, hold):
    async def scenario(l4lb):
        l4lb.datapath.capabilities = replace(l4lb.datapath.capabilities, survives_daemon=True)
        os.kill(os.getpid(), signal.SIGTERM)
        await l4lb.ended()

    l4lb = with_daemon(tmp_path, scenario, f"[gateway]\nhold = {hold}\n" + CONFIG)
    assert l4lb.datapath.held is True
    assert l4lb.vips.kept[-1] != {}
    assert l4lb.vips.closed


def test_a_signal_during_the_start_ends_it_and_leaves_nothing(tmp_path):
    l4lb = Running(tmp_path)

    async def attach(interfaces):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    l4lb.datapath.attach = attach

    serve(l4lb)
    assert l4lb.datapath.held is False
    assert not l4lb.watch.running
    assert not l4lb.socket.exists()


@pytest.mark.parametrize("survives", [False, True])
def test_a_signal_while_connections_are_taken_over_leaves_them(tmp_path, survives):
    l4lb = Running(tmp_path)
    l4lb.datapath.took_over = True
    l4lb.attached_before = {2, 3} if survives else set()

    async def apply(plan):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    l4lb.datapath.apply = apply

    serve(l4lb)
    assert l4lb.datapath.held is True
    assert l4lb.vips.kept == ([] if survives else [{}])
    assert l4lb.vips.closed


def test_vips_of_before_stay_if_no_datapath_can_be_made(tmp_path):
    l4lb = Running(tmp_path)
    edges = l4lb.edges()

    def make(config):
        raise DatapathError("the verifier refuses it")

    l4lb.edges = lambda: replace(edges, make_datapath=make)
    with pytest.raises(DatapathError, match="the verifier refuses it"):
        serve(l4lb)
    assert l4lb.vips.kept == []


def test_what_a_stop_cannot_remove_is_answered(tmp_path):
    async def scenario(l4lb):
        l4lb.datapath.left = "the programs could not be removed: no permission"
        l4lb.vips.refusals = ("VIP 10.1.0.100 cannot be removed from eth0: no permission",)
        status, answer = await l4lb.call("POST", "/v1/stop")
        assert (status, answer["errors"]) == (
            500,
            [
                "the datapath did not stop cleanly: the programs could not be removed: no permission; "
                "VIP 10.1.0.100 cannot be removed from eth0: no permission"
            ],
        )

    with_daemon(tmp_path, scenario)


def test_a_stop_that_joins_one_which_keeps_things_says_so(tmp_path):
    async def scenario(l4lb):
        closing, may_close = asyncio.Event(), asyncio.Event()
        close = l4lb.datapath.close

        async def slowly(*, hold):
            closing.set()
            await may_close.wait()
            await close(hold=hold)

        l4lb.datapath.close = slowly
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(closing.wait(), DEADLINE)
        stop = asyncio.create_task(l4lb.call("POST", "/v1/stop"))
        await asyncio.sleep(0.05)  # for the request to arrive
        may_close.set()
        status, answer = await stop
        assert status == 500
        assert "'l4lb stop' once more removes it" in answer["errors"][0]

    with_daemon(tmp_path, scenario)


def test_a_signal_when_the_datapath_runs_but_the_start_does_not_end(tmp_path):
    l4lb = Running(tmp_path)

    async def keep(vips):
        if not l4lb.vips.kept:
            l4lb.vips.kept.append(dict(vips))
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        l4lb.vips.kept.append(dict(vips))

    l4lb.vips.keep = keep

    serve(l4lb)
    assert l4lb.datapath.held is False
    assert l4lb.vips.kept[-1] == {}


def test_a_start_that_fails_leaves_nothing(tmp_path):
    l4lb = Running(tmp_path)
    l4lb.datapath.refusal = "no packet sockets here"
    with pytest.raises(DatapathError, match="no packet sockets here"):
        asyncio.run(l4lb.daemon().serve())
    assert l4lb.datapath.held is False
    assert l4lb.health.closed
    assert not l4lb.watch.running
    assert not l4lb.socket.exists()


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_start_that_fails_leaves_the_vips_of_programs_that_go_on(tmp_path, goes_on):
    """Those of another datapath, which this one was to take the place of."""
    l4lb = Running(tmp_path)
    l4lb.attached_before = {2, 3}
    l4lb.datapath.refusal = "eth0 has an ingress qdisc"
    close = l4lb.datapath.close

    async def closed(*, hold):
        if not goes_on:  # it had taken their place
            l4lb.attached_before = set()
        await close(hold=hold)

    l4lb.datapath.close = closed
    with pytest.raises(DatapathError, match="eth0 has an ingress qdisc"):
        serve(l4lb)
    assert l4lb.datapath.held is False
    assert l4lb.vips.kept == ([] if goes_on else [{}])


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_service_manager_is_told(tmp_path, monkeypatch, caplog, fails):
    """A reload ends for it also where a bug keeps it from ending: or it waits for ever."""

    async def broken(self):
        raise RuntimeError("a bug")

    async def scenario(l4lb):
        os.kill(os.getpid(), signal.SIGHUP)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while len(told) < 3:
                told.append((await loop.sock_recv(manager, 1000)).decode().split("=")[0])

    told = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        if fails:
            monkeypatch.setattr(ControlPlane, "reload", broken)
        with_daemon(tmp_path, scenario)
        assert told == ["READY", "RELOADING", "READY"]
        assert ("a bug" in caplog.text) is fails
        assert manager.recv(1000) == b"STOPPING=1"


def test_changes_that_come_during_a_stop_are_refused(tmp_path):
    async def run():
        l4lb = Running(tmp_path)
        plane = ControlPlane(DesiredState(l4lb.config), l4lb.edges())
        await plane.start()
        await plane.stop(hold=False)
        with pytest.raises(DatapathError, match="the daemon is stopping"):
            await plane.reload()
        assert len(l4lb.datapath.plans) == 1

    asyncio.run(run())


class TestRun:
    """``run`` as the command line calls it, on fakes."""

    @pytest.fixture(autouse=True)
    def surroundings(self, monkeypatch, tmp_path):
        self.l4lb = Running(tmp_path)
        monkeypatch.setattr("l4lb.control.lock._DIRECTORY", tmp_path / "locks")
        monkeypatch.setattr(daemon.logs, "configure", lambda level: None)
        monkeypatch.setattr(daemon, "host_edges", lambda path: self.l4lb.edges())
        monkeypatch.setattr(daemon, "mount_for", lambda config: self.order.append("mount"))
        monkeypatch.setattr(daemon.privileges, "held", lambda: self.has)
        monkeypatch.setattr(daemon.privileges, "keep_only", self.keep_only)
        monkeypatch.setattr(daemon.units, "out_of_reach", lambda *_: self.shut)
        self.shut = []
        self.order = []
        self.has = frozenset(Capability)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        yield
        for number, action in before.items():
            signal.signal(number, action)

    def keep_only(self, kept):
        self.order.append(set(kept))

    def run(self):
        return daemon.run(self.l4lb.config, self.l4lb.socket)

    def stop_when_ready(self):
        async def attach(interfaces):
            os.kill(os.getpid(), signal.SIGTERM)

        self.l4lb.datapath.attach = attach

    def test_a_stop_is_success(self):
        self.stop_when_ready()
        assert self.run() == 0

    def test_it_gives_up_capabilities_when_all_is_mounted_and_nothing_begun(self, monkeypatch):
        """No thread, above all: each has its own."""
        lock = daemon.lock_namespace

        def noted_lock():
            self.order.append(f"lock, threads: {threading.active_count() - before}")
            return lock()

        before = threading.active_count()
        monkeypatch.setattr(daemon, "lock_namespace", noted_lock)
        self.stop_when_ready()
        assert self.run() == 0
        assert self.order == ["mount", set(DAEMON), "lock, threads: 0"]

    @pytest.mark.parametrize("has", [True, False])
    def test_where_root_may_not_enter_without_it_stays_what_lets_it_in(self, caplog, has):
        self.shut = [Path("/home/ann")]
        if not has:
            self.has -= {Capability.DAC_READ_SEARCH}
        self.stop_when_ready()
        assert self.run() == 0
        assert self.order[1] == DAEMON | ({Capability.DAC_READ_SEARCH} if has else set())
        line = (
            "CAP_DAC_READ_SEARCH is kept, as root may not enter /home/ann without it: install l4lb "
            "elsewhere, in /opt for instance"
        )
        assert caplog.messages.count(line) == has

    def test_a_config_that_a_reload_could_not_read_is_refused_at_the_start(self, monkeypatch, capsys):
        monkeypatch.setattr(daemon.privileges, "keep_only", lambda kept: self.l4lb.config.unlink())
        assert self.run() == 1
        assert capsys.readouterr().err.startswith(f"{self.l4lb.config}: no such file")

    def test_a_kernel_that_lets_it_give_up_nothing_is_one_line(self, monkeypatch, capsys):
        def refuse(kept):
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(daemon.privileges, "keep_only", refuse)
        assert self.run() == 1
        assert capsys.readouterr().err == (
            "l4lb: capabilities cannot be given up: Operation not permitted\n"
        )

    def test_with_another_l4lb_installed_it_ends_as_a_failure_that_its_unit_restarts(self, capsys):
        async def attach(interfaces):
            self.l4lb.code_has_changed = True
            self.l4lb.datapath.die("the packet process ended with status -9")

        self.l4lb.datapath.attach = attach
        assert self.run() == 1
        assert capsys.readouterr().err == (
            "l4lb: another l4lb was installed since this daemon began, whose datapath has died: it ends, "
            "for its unit to start the new one; without a unit, start it again\n"
        )
        assert self.l4lb.datapath.held is True  # as for any restart
        assert not self.l4lb.socket.exists()

    def test_more_signals_while_it_ends_are_ignored(self):
        self.stop_when_ready()
        self.run()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)

    def test_all_errors_of_the_config_are_on_stderr(self, capsys):
        self.l4lb.config.write_text(CONFIG.replace("10.2.0.11", "10.2.0.300").replace("udp", "icmp"))
        assert self.run() == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(f"{self.l4lb.config}:7:1: services[web].backends[0].address: ")

    def test_a_datapath_that_cannot_run_is_one_line(self, capsys):
        self.l4lb.datapath.refusal = "no packet sockets here"
        assert self.run() == 1
        assert capsys.readouterr().err == "l4lb: no packet sockets here\n"

    def test_a_second_daemon_on_the_socket_is_refused(self, capsys):
        with socket.socket(socket.AF_UNIX) as other:
            self.l4lb.socket.parent.mkdir()
            other.bind(str(self.l4lb.socket))
            other.listen()
            assert self.run() == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"l4lb: another l4lb daemon answers on {self.l4lb.socket}")

    def test_a_second_daemon_in_the_namespace_is_refused(self, capsys):
        with contextlib.closing(daemon.lock_namespace()):
            assert self.run() == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("l4lb: another l4lb daemon is running in this network namespace")

    def test_a_killed_daemons_socket_is_replaced(self):
        with socket.socket(socket.AF_UNIX) as dead:
            self.l4lb.socket.parent.mkdir()
            dead.bind(str(self.l4lb.socket))
        self.stop_when_ready()
        assert self.run() == 0

    def test_a_kernel_without_netlink_is_one_line(self, capsys):
        async def start():
            raise OSError(93, "Protocol not supported")

        self.l4lb.watch.start = start
        assert self.run() == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("l4lb: the kernel's links and routes cannot be read:")

"""What the daemon follows: its file, the health of the backends, the host, the datapath's death."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
from dataclasses import replace

import pytest

from l4lb.backoff import Backoff
from l4lb.control import convergence
from l4lb.control.datapath_choice import choose_datapath
from l4lb.control.host_checks import Sysctls
from l4lb.datapath.base import DatapathError
from l4lb.health.rise_fall import HealthState
from l4lb.model import Counters, Traffic
from l4lb.netlink.state import Change, KernelState, Link, Route
from tests.unit.control.fake_datapath import DEADLINE, FakeDatapath
from tests.unit.control.fake_host import ADDRESSES, GATEWAY, LINKS, ROUTES, packed
from tests.unit.control.harness import CONFIG, WEB1, Running, with_daemon


def alive(plan, service="web"):
    return {
        str(backend.address)
        for each in plan.services
        if each.name == service
        for backend in each.backends
        if backend.alive
    }


def test_sighup_reloads(tmp_path):
    async def scenario(l4lb):
        l4lb.config.write_text(CONFIG.replace("weight = 2", "weight = 3"))
        os.kill(os.getpid(), signal.SIGHUP)
        await l4lb.datapath.plan_where(lambda plan: plan.services[0].selection.slots.count(1) == 3)

    with_daemon(tmp_path, scenario)


def test_a_sighup_that_came_before_there_was_a_handler_reloads(tmp_path):
    """'l4lb run' blocks it first of all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))

    async def run():
        l4lb = Running(tmp_path)
        made = l4lb.daemon()
        l4lb.config.write_text(CONFIG.replace("weight = 2", "weight = 3"))
        os.kill(os.getpid(), signal.SIGHUP)
        l4lb.daemon = lambda: made
        async with l4lb.serving():
            await l4lb.datapath.plan_where(lambda plan: plan.services[0].selection.slots.count(1) == 3)

    try:
        asyncio.run(run())
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # forgets one that still waits
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_bad_file_is_refused_whole_and_everything_stays(tmp_path, caplog):
    async def scenario(l4lb):
        await l4lb.change("POST", "/v1/services/web/backends", {"address": "10.2.0.13:80", "runtime": True})
        plans = list(l4lb.datapath.plans)
        l4lb.config.write_text(CONFIG.replace("10.2.0.11", "10.2.0.300").replace("udp", "icmp"))
        status, lines = await l4lb.refused("POST", "/v1/reload")
        assert status == 400
        assert [line.split(": ")[1] for line in lines[:-1]] == [
            "services[web].backends[0].address",
            "services[dns].protocol",
        ]
        assert lines[-1].startswith("nothing was changed: ")
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(refused.wait(), DEADLINE)
        assert l4lb.datapath.plans == plans
        assert len((await l4lb.get("/v1/backends", service="web"))["backends"]) == 3

    refused = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("not reloaded"):
                refused.set()

    logger, listener = logging.getLogger("l4lb.control.daemon"), Listener()
    logger.addHandler(listener)
    try:
        with_daemon(tmp_path, scenario)
    finally:
        logger.removeHandler(listener)
    assert "'10.2.0.300' is not an IP address" in caplog.text


def test_a_reload_says_what_comes_into_force_later(tmp_path):
    async def scenario(l4lb):
        l4lb.config.write_text("[gateway]\nhold = 5\nsnat_ports = [2000, 2999]\n" + CONFIG)
        assert (await l4lb.change("POST", "/v1/reload"))["changes"] == [
            "gateway: snat_ports [10240, 32767] -> [2000, 2999]",
            "gateway: hold 30 -> 5 (at the next start)",
        ]
        assert l4lb.datapath.plan.snat_ports == (2000, 2999)
        waits = ["gateway.hold is 5, but l4lb was started with 30: a restart changes it"]
        assert (await l4lb.get("/v1/status"))["warnings"] == waits
        l4lb.config.write_text(CONFIG)
        await l4lb.change("POST", "/v1/reload")
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    with_daemon(tmp_path, scenario)


def test_a_backend_that_goes_down_and_comes_up(tmp_path, caplog):
    async def scenario(l4lb):
        l4lb.datapath.count = Counters({("web", WEB1): Traffic(established=12)}, {}, {})
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "connection refused")
        plan = await l4lb.datapath.plan_where(lambda plan: alive(plan) == {"10.2.0.12:80"})
        assert set(plan.services[0].selection.slots) == {1}
        l4lb.health.become("web", "10.2.0.11:80", HealthState.UP)
        await l4lb.datapath.plan_where(lambda plan: len(alive(plan)) == 2)

    with caplog.at_level(logging.INFO):
        with_daemon(tmp_path, scenario)
    assert "backend web 10.2.0.11:80 is down: connection refused; no check has passed yet" in caplog.text
    assert "(held 12 connections)" in caplog.text
    assert "backend web 10.2.0.11:80 is up" in caplog.text


@pytest.mark.parametrize("scheduler", ["round_robin", "adaptive"])
def test_a_backend_whose_first_check_fails_gets_no_new_connections_and_keeps_its_own(tmp_path, scheduler):
    async def scenario(l4lb):
        l4lb.health.become("web", "10.2.0.11:80", HealthState.UNKNOWN, "timeout", streak=1)
        plan = await l4lb.datapath.plan_where(lambda plan: set(plan.services[0].selection.chosen) == {1})
        assert alive(plan) == {"10.2.0.11:80", "10.2.0.12:80"}
        backend = (await l4lb.get("/v1/backends", service="web"))["backends"][0]
        why = "no check has passed yet: timeout"
        assert (backend["state"], backend["reason"]) == ("unknown", why)
        explained = await l4lb.get("/v1/explain", service="web", client="10.1.0.10:40000")
        assert explained["away"] == {"10.2.0.11:80": why}
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "timeout")
        await l4lb.datapath.plan_where(lambda plan: alive(plan) == {"10.2.0.12:80"})

    with_scheduler = f'name = "web"\nscheduler = "{scheduler}"\n'
    with_daemon(tmp_path, scenario, CONFIG.replace('name = "web"\n', with_scheduler))


@pytest.mark.parametrize("end", ["signal", "stop"])
def test_a_backend_that_is_down_is_so_after_a_restart_but_not_after_a_stop(tmp_path, end):
    async def goes_down(l4lb):
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "connection refused")
        await l4lb.datapath.plan_where(lambda plan: alive(plan) == {"10.2.0.12:80"})
        await l4lb.change("POST", "/v1/reload")  # answers after the pass
        if end == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
            await l4lb.ended()

    async def is_down(l4lb):
        backend = (await l4lb.get("/v1/backends", service="web"))["backends"][0]
        if end == "signal":
            assert alive(l4lb.datapath.plans[0]) == {"10.2.0.12:80"}
            assert (backend["state"], backend["reason"]) == ("down", "connection refused")
        else:
            assert backend["state"] == "unknown"

    with_daemon(tmp_path, goes_down)
    assert (tmp_path / "run" / "l4lb.down").exists() is (end == "signal")
    with_daemon(tmp_path, is_down)


def test_many_that_go_down_together_are_one_plan(tmp_path):
    backends = [f"10.2.1.{number}:80" for number in range(1, 101)]
    tables = "".join(f'[[services.backends]]\naddress = "{backend}"\n' for backend in backends)

    async def scenario(l4lb):
        for backend in backends:
            l4lb.health.become("web", backend, HealthState.DOWN, "timeout")
        await l4lb.datapath.plan_where(lambda plan: not alive(plan))
        assert len(l4lb.datapath.plans) == 2
        line = "service web has no backend that takes new connections: its clients are refused"
        assert line in (await l4lb.get("/v1/status"))["warnings"]

    with_daemon(tmp_path, scenario, '[[services]]\nname = "web"\naddress = "10.1.0.100:80"\n' + tables)


def test_an_interface_that_appears_is_attached_to(tmp_path):
    async def scenario(l4lb):
        assert l4lb.datapath.attached == [("eth0",)]
        assert (await l4lb.get("/v1/status"))["warnings"] == [
            "service web: 2 backends (10.2.0.11:80, 10.2.0.12:80) have no route: add one, or bring their "
            "interface up",
            "service dns: backend [2001:db8:2::b]:53 has no route: add one, or bring its interface up",
            "service dns has no backend that takes new connections: its clients are refused",
        ]
        assert l4lb.datapath.plan.services[1].selection.slots == ()  # full NAT without a source
        l4lb.watch.become(GATEWAY, Change(links=True, routes=True))
        await l4lb.datapath.interfaces_where(lambda names: names == ("eth0", "eth1"))
        await l4lb.datapath.plan_where(lambda plan: plan.services[1].selection.slots == (0,))
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    l4lb = Running(tmp_path)
    l4lb.watch.state = KernelState(LINKS[:2], ADDRESSES, tuple(r for r in ROUTES if r.index == 2))

    async def run():
        async with l4lb.serving():
            await scenario(l4lb)

    asyncio.run(run())


def test_an_interface_that_is_down_at_the_start_is_kept_if_a_daemon_before_was_on_it(tmp_path):
    """Also when it is up again and leads nowhere."""
    lo, eth0, eth1 = LINKS
    routes = tuple(route for route in ROUTES if route.index != eth1.index)

    async def run():
        async with l4lb.serving():
            assert l4lb.datapath.attached == [("eth0", "eth1")]
            lan9 = replace(eth1, index=9, name="lan9")
            routes_too = (*routes, Route(packed("10.2.0.0"), 24, lan9.index))
            l4lb.watch.become(KernelState((*LINKS, lan9), ADDRESSES, routes_too), Change(links=True))
            await l4lb.datapath.interfaces_where(lambda names: names == ("eth0", "eth1", "lan9"))

    l4lb = Running(tmp_path)
    l4lb.watch.state = KernelState((lo, eth0, replace(eth1, up=False)), ADDRESSES, routes)
    l4lb.attached_before = {eth0.index, eth1.index}
    asyncio.run(run())


def test_without_any_interface_the_daemon_waits_for_one(tmp_path):
    l4lb = Running(tmp_path)
    l4lb.watch.state = KernelState(LINKS[:1])

    async def run():
        async with l4lb.serving():
            assert l4lb.datapath.attached == [()]
            warnings = (await l4lb.get("/v1/status"))["warnings"]
            assert (
                "no interface has a route to a VIP or a backend: nothing is balanced until one does"
                in warnings
            )
            l4lb.watch.become(GATEWAY, Change(links=True, addresses=True, routes=True))
            await l4lb.datapath.interfaces_where(lambda names: names == ("eth0", "eth1"))

    asyncio.run(run())


def test_neighbours_and_unrelated_links_change_nothing(tmp_path):
    async def scenario(l4lb):
        async with asyncio.timeout(DEADLINE):
            while len(l4lb.vips.kept) < 2:  # the start's, and that of the pass that a start asks for
                await asyncio.sleep(0)
        passes = len(l4lb.vips.kept)
        l4lb.watch.become(GATEWAY, Change(neighbours=()))
        await asyncio.sleep(3 * convergence._SETTLE)
        assert len(l4lb.vips.kept) == passes
        more = replace(GATEWAY, links=(*LINKS, Link(9, "eth9", b"", 1500, True)))
        l4lb.watch.become(more, Change(links=True))
        routes = (*ROUTES, Route(packed("10.7.0.0"), 16, 9))
        l4lb.watch.become(replace(more, routes=routes), Change(routes=True))
        async with asyncio.timeout(DEADLINE):
            while len(l4lb.vips.kept) == passes:
                await asyncio.sleep(0)
        assert len(l4lb.vips.kept) == passes + 1  # one pass, which found nothing to do
        assert len(l4lb.datapath.plans) == 1
        assert len(l4lb.datapath.attached) == 1

    with_daemon(tmp_path, scenario)


def test_vips_that_cannot_be_put_on_are_a_warning_each_until_they_can(tmp_path, caplog):
    l4lb = Running(tmp_path)
    first = "VIP 10.1.0.100: there is no interface eth7; create it or name another one"
    second = "VIP 2001:db8:1::64 cannot be put on eth7: IPv6 is disabled on this device"
    l4lb.vips.refusals = (first, second)

    async def run():
        async with l4lb.serving():
            assert (await l4lb.get("/v1/status"))["warnings"] == [first, second]
            await l4lb.change("POST", "/v1/reload")
            l4lb.vips.refusals = (second,)
            await l4lb.change("POST", "/v1/reload")
            l4lb.vips.refusals = ()
            await l4lb.change("POST", "/v1/reload")
            assert (await l4lb.get("/v1/status"))["warnings"] == []
            assert len(l4lb.vips.kept[-1]) == 2

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records if "eth7" in record.getMessage()]
    assert lines == [first, second, f"no longer: {first}", f"no longer: {second}"]


def test_a_vip_that_others_took_away_is_a_warning_until_it_is_back(tmp_path):
    async def scenario(l4lb):
        l4lb.vips.withdrawn = frozenset({packed("10.1.0.100")})
        (line,) = (await l4lb.get("/v1/status"))["warnings"]
        assert line.startswith("VIP 10.1.0.100 is on no interface: ")
        l4lb.vips.withdrawn = frozenset()
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    with_daemon(tmp_path, scenario)


def test_a_sysctl_that_was_put_right_is_no_warning_any_more(tmp_path):
    async def scenario(l4lb):
        everywhere = frozenset((4, link.name) for link in GATEWAY.links)
        l4lb.sysctls = Sysctls(ip_forward=False, not_forwarding=everywhere)
        (line,) = (await l4lb.get("/v1/status"))["warnings"]
        assert line.startswith("net.ipv4.ip_forward is 0")
        l4lb.sysctls = Sysctls()
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    with_daemon(tmp_path, scenario)


def test_a_datapath_that_dies_is_replaced(tmp_path):
    async def scenario(l4lb):
        second = l4lb.add_datapath()
        l4lb.datapath.die("killed by signal 9")
        assert await second.plan_where(lambda plan: True) == l4lb.datapath.plan
        assert second.attached == l4lb.datapath.attached

    with_daemon(tmp_path, scenario)


def test_a_datapath_that_dies_is_followed_by_one_of_the_same_kind(tmp_path):
    """That is what auto chose. Another one, that the config names by now, is for the next start: it may not
    run here."""
    asked = []
    l4lb = Running(tmp_path)
    l4lb.datapath.capabilities = replace(l4lb.datapath.capabilities, name="tc")
    edges = l4lb.edges()

    def make(config):
        asked.append((config.gateway.datapath, config.gateway.hold, config.gateway.limits.fragments))
        return edges.make_datapath(config)

    l4lb.edges = lambda: replace(edges, make_datapath=make)

    async def run():
        async with l4lb.serving():
            new = '[gateway]\ndatapath = "xdp"\nhold = 0\nlimits.fragments = 100\n'
            l4lb.config.write_text(new + CONFIG)
            await l4lb.change("POST", "/v1/reload")
            second = l4lb.add_datapath()
            l4lb.datapath.die("killed by signal 9")
            await second.plan_where(lambda plan: True)

    asyncio.run(run())
    assert asked == [("auto", 30, 4096), ("tc", 30, 100)]


def test_a_load_that_fails_once_makes_auto_take_no_other_kind(tmp_path, monkeypatch, caplog):
    """The programs go on forwarding meanwhile, so nothing of them may be removed."""
    loads, removed, made, loaded_again = [], [], [], asyncio.Event()
    failures = [None, "load tc.bpf.o: Cannot allocate memory", None]

    class Tc(FakeDatapath):
        def __init__(self, watch, kind, limits, *, remove_others):
            super().__init__()
            del self.load  # of backends; a datapath of eBPF has it for its programs
            self.capabilities = replace(self.capabilities, name=kind, survives_daemon=True)
            made.append(self)

        def load(self):
            loads.append(self.capabilities.name)
            if failure := failures.pop(0):
                raise DatapathError(failure)
            if not failures:
                loaded_again.set()

        @staticmethod
        def clean_up():
            removed.append("eBPF")
            return []

    monkeypatch.setattr("l4lb.datapath.ebpf.datapath.EbpfDatapath", Tc)
    monkeypatch.setattr("l4lb.control.supervisor.Backoff", lambda: Backoff(first=0.0, longest=0.0))
    l4lb = Running(tmp_path)
    edges = l4lb.edges()
    l4lb.edges = lambda: replace(
        edges, make_datapath=lambda config: choose_datapath(config, l4lb.watch, tmp_path / "l4lb")
    )

    async def run():
        async with l4lb.serving():
            made[0].die("sweep: Too many open files")
            await asyncio.wait_for(loaded_again.wait(), DEADLINE)
            await made[2].plan_where(lambda plan: True)

    asyncio.run(run())
    assert (loads, removed) == (["tc"] * 3, [])
    assert made[0].held is True
    assert "the datapath died: load tc.bpf.o: Cannot allocate memory" in caplog.text


def test_while_the_datapath_is_away_the_api_says_so_and_takes_changes(tmp_path):
    async def scenario(l4lb):
        second = l4lb.add_datapath()
        attach = second.attach
        trying, may_start = asyncio.Event(), asyncio.Event()

        async def slow_attach(interfaces):
            trying.set()
            await may_start.wait()
            await attach(interfaces)

        second.attach = slow_attach
        l4lb.datapath.die("killed by signal 9")
        await asyncio.wait_for(trying.wait(), DEADLINE)
        status = await l4lb.get("/v1/status")
        assert status["warnings"] == ["the datapath is being restarted: killed by signal 9"]
        assert not status["datapath"]["running"]
        backends = (await l4lb.get("/v1/backends"))["backends"]
        assert [backend["counted"] for backend in backends] == [False] * 3
        assert await l4lb.refused("GET", "/v1/connections") == (
            500,
            ["the datapath is not running and is being restarted: killed by signal 9"],
        )
        change = asyncio.create_task(
            l4lb.change("POST", "/v1/services/web/backends", {"address": "10.2.0.13:80"})
        )
        may_start.set()
        await change
        await second.plan_where(lambda plan: len(plan.services[0].backends) == 3)
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    with_daemon(tmp_path, scenario)


def test_a_change_the_datapath_does_not_take_is_told_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(convergence, "_FIRST_RETRY", 0.01)

    async def scenario(l4lb):
        l4lb.datapath.refusal = "out of memory"
        body = {"address": "10.2.0.13:80"}
        answer = await l4lb.refused("POST", "/v1/services/web/backends", body)
        not_yet = "in force, but the datapath has not taken it yet, and is asked again: out of memory"
        assert answer == (500, [not_yet, "service web: backend 10.2.0.13:80 added (weight 1)"])
        l4lb.config.write_text(l4lb.config.read_text().replace("weight = 2", "weight = 3"))
        answer = await l4lb.refused("POST", "/v1/reload")
        assert answer == (500, [not_yet, "service web: backend 10.2.0.12:80 weight 2 -> 3"])
        l4lb.datapath.refusal = None
        await l4lb.datapath.plan_where(lambda plan: len(plan.services[0].backends) == 3)

    with_daemon(tmp_path, scenario)


def test_what_the_datapath_has_not_taken_is_a_warning_until_it_has(tmp_path, monkeypatch, caplog):
    """Logged once, however often it is asked again."""
    monkeypatch.setattr(convergence, "_FIRST_RETRY", 0.01)
    monkeypatch.setattr(convergence, "_LONGEST_RETRY", 0.01)
    line = "the datapath has not taken what is in force, and is asked again: out of memory"
    tries, tried_often = itertools.count(), asyncio.Event()

    async def apply(plan):
        if next(tries) == 3:
            tried_often.set()
        raise DatapathError("out of memory")

    async def scenario(l4lb):
        takes, l4lb.datapath.apply = l4lb.datapath.apply, apply
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "connection refused")
        await asyncio.wait_for(tried_often.wait(), DEADLINE)
        assert (await l4lb.get("/v1/status"))["warnings"] == [line]
        assert (await l4lb.metrics.snapshot()).warnings == 1
        l4lb.datapath.apply = takes
        await l4lb.datapath.plan_where(lambda plan: alive(plan) == {"10.2.0.12:80"})
        await l4lb.change("POST", "/v1/reload")
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    with caplog.at_level(logging.INFO):
        with_daemon(tmp_path, scenario)
    lines = [record.getMessage() for record in caplog.records if "not taken" in record.getMessage()]
    assert lines == [line, f"no longer: {line}"]


def test_an_interface_that_appears_during_the_start_is_attached_to(tmp_path):
    """Nobody else asks for a pass where backends are not checked."""

    async def appears(vips):
        await keep(vips)
        l4lb.watch.become(GATEWAY, Change(links=True, routes=True))

    l4lb = Running(tmp_path)
    l4lb.watch.state = KernelState(LINKS[:2], ADDRESSES, tuple(r for r in ROUTES if r.index == 2))
    keep, l4lb.vips.keep = l4lb.vips.keep, appears

    async def run():
        async with l4lb.serving():
            await l4lb.datapath.interfaces_where(lambda names: names == ("eth0", "eth1"))

    asyncio.run(run())

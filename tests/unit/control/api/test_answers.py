"""What the control API answers."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import pytest

from l4lb import turns
from l4lb.agent.protocol import Refusal
from l4lb.control import control_plane
from l4lb.datapath.base import ConnectionFilter
from l4lb.health.probes.result import Outcome, ProbeKind, ProbeResult
from l4lb.health.probing import LastProbe, ProbeCounters
from l4lb.health.rise_fall import Health, HealthState
from l4lb.model import (
    ConnectionInfo,
    Counters,
    Decision,
    DropReason,
    Endpoint,
    Limits,
    Metrics,
    Offer,
    Protocol,
    Recalled,
    Rule,
    State,
    Traffic,
    Verdict,
)
from l4lb.times import Stopwatch
from tests.unit.control.fake_host import packed
from tests.unit.control.harness import (
    CONFIG,
    DNS1,
    WEB1,
    WEB1_PATH,
    WEB2,
    with_daemon,
)
from tests.unit.test_turns import turns_of_others_during


def test_status(tmp_path):
    async def scenario(l4lb):
        l4lb.datapath.count = Counters(
            {},
            {Verdict.PASS: 5, Verdict.FORWARD: 7},
            {DropReason.NO_ROUTE: 2, DropReason.TRUNCATED: 0},
            half_open=3,
            established=4,
        )
        l4lb.prober.counted = ProbeCounters(
            sent=20, answered=17, lost=3, packets=54, forwarded_packets=60_000
        )
        l4lb.health.made, l4lb.health.packets = 50, 200
        l4lb.health.refused[Refusal.LATE] = 2
        l4lb.asking.refused.update({Refusal.LATE: 1, Refusal.UNAUTHENTICATED: 4, Refusal.UNASKED: 0})
        status = await l4lb.get("/v1/status")
        assert status.pop("uptime") >= 0
        assert status.pop("version")
        assert status == {
            "pid": os.getpid(),
            "config": str(l4lb.config),
            "socket": str(l4lb.socket),
            "datapath": {
                "name": "fake",
                "running": True,
                "capabilities": {
                    "name": "fake",
                    "survives_daemon": False,
                    "restores_connections": True,
                    "needs_forwarding": False,
                    "most_compared": None,
                    "made_for": None,
                },
                "details": {"interfaces": "eth0, eth1"},
            },
            "connections": {"half_open": 3, "established": 4},
            "verdicts": {"pass": 5, "forward": 7},
            "drops": {"no_route": 2},
            "probes": {
                "sent": 20,
                "answered": 17,
                "refused": 0,
                "wrong": 0,
                "lost": 3,
                "unsent": 0,
                "late": 0,
                "forged": 0,
                "withheld": 0,
                "packets": 54,
                "forwarded_packets": 60_000,
                "part": 0.0009,
                "agents": {"asked": 0, "answered": 0, "withheld": 0, "packets": 0},
                "limits": {"enabled": True, "share": 0.001, "floor": 1.0, "ceiling": 1000.0, "burst": 24.0},
            },
            "checks": {"made": 50, "packets": 200},
            "agents": {"refused": {"late": 3, "unauthenticated": 4}},
            "services": 2,
            "vips": [
                {"address": "10.1.0.100", "interface": None, "ours": True},
                {"address": "2001:db8:1::64", "interface": None, "ours": True},
            ],
            "warnings": [],
        }

    with_daemon(tmp_path, scenario)


UNTIMED = {"count": 0, "total": 0.0, "average": None, "p50": None, "p90": None, "p99": None, "buckets": {}}


def timed(*seconds):
    watch = Stopwatch()
    for each in seconds:
        watch.took(each)
    return watch.read()


def test_the_overview_is_status_and_services_from_one_look(tmp_path):
    async def scenario(l4lb):
        looks, counters = [], l4lb.datapath.counters

        async def counted():
            looks.append(Counters({("web", WEB1): Traffic(len(looks) + 7)}, {}, {}, established=len(looks)))
            return looks[-1]

        l4lb.datapath.counters = counted
        overview = await l4lb.get("/v1/overview")
        assert len(looks) == 1
        assert overview["status"]["connections"]["established"] == 0
        assert [service["name"] for service in overview["services"]] == ["web", "dns"]
        assert overview["services"][0]["backends"][0]["connections_total"] == 7

        l4lb.datapath.counters = counters
        assert overview["status"].keys() == (await l4lb.get("/v1/status")).keys()

    with_daemon(tmp_path, scenario)


def test_explain(tmp_path):
    async def scenario(l4lb):
        await l4lb.datapath.plan_where(lambda plan: bool(plan.services))
        answer = await l4lb.get("/v1/explain", service="web", client="10.1.0.7:40000")
        assert (answer["service"], answer["scheduler"], answer["backend"]) == ("web", "round_robin", None)
        assert str(WEB1) in {each["address"] for each in answer["candidates"]}
        l4lb.datapath.recalled["web", Endpoint.parse("10.1.0.7:40000")] = Recalled(last=WEB2, left=5.0)
        answer = await l4lb.get("/v1/explain", service="web", client="10.1.0.7:40000")
        assert (answer["backend"], answer["otherwise"]["backend"]) == (str(WEB2), None)
        answer = await l4lb.get("/v1/explain", service="web", client="10.1.0.7:40001")
        assert answer["backend"] is None

    with_daemon(tmp_path, scenario)


def test_explain_says_that_all_are_down(tmp_path):
    async def scenario(l4lb):
        await l4lb.datapath.plan_where(lambda plan: bool(plan.services))
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "connection refused")
        await l4lb.datapath.plan_where(lambda plan: not plan.services[0].backends[0].alive)
        answer = await l4lb.get("/v1/explain", service="web", client="10.1.0.7:40000")
        assert answer["away"] == {"10.2.0.11:80": "down: connection refused"}
        assert answer["but"] is None
        l4lb.health.become("web", "10.2.0.12:80", HealthState.DOWN, "connection refused")
        await l4lb.datapath.plan_where(lambda plan: plan.services[0].backends[0].alive)
        answer = await l4lb.get("/v1/explain", service="web", client="10.1.0.7:40000")
        assert answer["but"].startswith("all are down")

    with_daemon(
        tmp_path, scenario, CONFIG.replace('name = "web"', 'name = "web"\nwhen_all_down = "use_all"')
    )


def test_decisions(tmp_path):
    async def scenario(l4lb):
        now, one = time.monotonic(), Endpoint.parse("10.1.0.7:40000")
        best, second = Offer(WEB1, False, 512, 1, 1, 0), Offer(WEB2, True, 768, 1, 2, 3)
        l4lb.datapath.decided = [
            Decision(now - 2.0, "web", one, WEB1, Rule.COSTS, 5, best, second),
            Decision(now - 1.0, "dns", Endpoint.parse("10.1.0.8:5000"), WEB2, Rule.TURN),
        ]
        newest, oldest = (await l4lb.get("/v1/decisions"))["decisions"]
        assert (newest["rule"], newest["best"], newest["runner_up"]) == ("turn", None, None)
        assert 2.0 <= oldest.pop("age") < 60.0
        offer = {"hot": False, "price": 512, "cost": 1, "in_flight": 1, "idle": 0}
        assert oldest == {
            "service": "web",
            "client": "10.1.0.7:40000",
            "backend": str(WEB1),
            "rule": "costs",
            "compared": 5,
            "best": {"backend": str(WEB1), **offer},
            "runner_up": {
                "backend": str(WEB2),
                "hot": True,
                "price": 768,
                "cost": 1,
                "in_flight": 2,
                "idle": 3,
            },
        }
        for query, count in (
            ({"service": "web"}, 1),
            ({"client": "10.1.0.8"}, 1),
            ({"client": "10.1.0.9"}, 0),
            ({"limit": "1"}, 1),
        ):
            assert len((await l4lb.get("/v1/decisions", **query))["decisions"]) == count

    with_daemon(tmp_path, scenario)


def test_probes_that_cannot_be_sent_are_a_warning(tmp_path):
    async def scenario(l4lb):
        assert (await l4lb.get("/v1/status"))["probes"]["part"] is None
        l4lb.prober.problem = "backends are not probed: no permission"
        assert (await l4lb.get("/v1/status"))["warnings"] == ["backends are not probed: no permission"]

    with_daemon(tmp_path, scenario)


def test_the_last_probe_of_a_backend(tmp_path):
    async def scenario(l4lb):
        ended = time.monotonic() - 3.0
        result = ProbeResult(Outcome.ANSWERED, 0.0002, 3)
        l4lb.prober.results["web", WEB1] = LastProbe(ProbeKind.SYN, result, ended)
        first, second = (await l4lb.get("/v1/backends", service="web"))["backends"]
        assert 3.0 <= first["probe"].pop("age") < 60.0
        assert first["probe"] == {"kind": "syn", "outcome": "answered", "round_trip": 0.0002, "reason": ""}
        assert second["probe"] is None

    with_daemon(tmp_path, scenario)


def test_the_last_check_of_a_backend(tmp_path):
    async def scenario(l4lb):
        now = time.monotonic()
        passed = Health(HealthState.UP, now - 60.0, last_check=now - 3.0, latency=0.0004)
        l4lb.health._known["web", WEB1] = passed
        l4lb.health._known["web", WEB2] = replace(passed, latency=None)
        first, second = (await l4lb.get("/v1/backends", service="web"))["backends"]
        assert 3.0 <= first["check"].pop("age") < 60.0
        assert first["check"] == {"latency": 0.0004}
        assert second["check"]["latency"] is None

    with_daemon(tmp_path, scenario)


def test_services_and_backends(tmp_path):
    async def scenario(l4lb):
        l4lb.datapath.count = Counters(
            {
                ("web", WEB1): Traffic(9, 1, 2, 30, 40, 500, 600, responses=timed(0.1, 0.1)),
                ("dns", DNS1): Traffic(4),
            },
            {},
            {},
        )
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "connection refused")
        l4lb.health.become("web", "10.2.0.12:80", HealthState.UP)
        web, dns = (await l4lb.get("/v1/services"))["services"]
        first, second = web.pop("backends")
        assert web == {
            "name": "web",
            "address": "10.1.0.100:80",
            "protocol": "tcp",
            "scheduler": "round_robin",
            "nat": "destination",
            "affinity": "none",
            "affinity_timeout": 300.0,
            "when_all_down": "refuse",
            "when_backend_down": "reset",
            "health": {
                "check": "tcp",
                "interval": 2.0,
                "timeout": 1.0,
                "rise": 2,
                "fall": 3,
                "port": None,
                "path": "/",
                "host": None,
                "status": ["200-399"],
            },
            "agent": None,
        }
        assert first.pop("since") > 0
        assert first == {
            "service": "web",
            "address": "10.2.0.11:80",
            "weight": 1,
            "state": "down",
            "reason": "connection refused",
            "counted": True,
            "connections_total": 9,
            "half_open": 1,
            "established": 2,
            "packets_in": 30,
            "packets_out": 40,
            "bytes_in": 500,
            "bytes_out": 600,
            "outstanding": 0,
            "waiting": 0.0,
            "resets": 0,
            "retransmissions": 0,
            "unanswered": 0,
            "confirmed": 0,
            "handshakes": UNTIMED,
            "responses": {
                "count": 2,
                "total": 0.2,
                "average": 0.1,
                "p50": 0.100663,
                "p90": 0.100663,
                "p99": 0.100663,
                "buckets": {"0.100663": 2},
            },
            "check": None,
            "agent": None,
            "probe": None,
            "source": "file",
        }
        assert (second["state"], second["connections_total"]) == ("up", 0)
        assert second["reason"].startswith("since 2")
        assert dns["backends"][0]["state"] == "unknown"
        assert dns["backends"][0]["address"] == "[2001:db8:2::b]:53"

        alone = await l4lb.get("/v1/services/dns")
        for service in (alone, dns):
            service["backends"][0].pop("since")
        assert alone == dns
        everything = (await l4lb.get("/v1/backends"))["backends"]
        assert [backend["service"] for backend in everything] == ["web", "web", "dns"]
        of_dns = (await l4lb.get("/v1/backends", service="dns"))["backends"]
        assert of_dns[0]["connections_total"] == 4

    with_daemon(tmp_path, scenario)


def test_a_drained_backend_whose_check_fails_says_both(tmp_path):
    async def scenario(l4lb):
        await l4lb.change("PATCH", WEB1_PATH, {"action": "drain"})
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "timeout")
        backend = (await l4lb.get("/v1/backends"))["backends"][0]
        assert (backend["state"], backend["reason"]) == ("drain", "down: timeout")

    with_daemon(tmp_path, scenario)


def connection(client: str, backend: Endpoint = WEB1) -> ConnectionInfo:
    endpoint = Endpoint.parse(client)
    vip = Endpoint.parse("10.1.0.100:80")
    return ConnectionInfo(
        "web", Protocol.TCP, endpoint, vip, endpoint, backend, State.ESTABLISHED, 1.23456, 7000.0
    )


def test_connections(tmp_path):
    async def scenario(l4lb):
        l4lb.datapath.known = [connection("10.1.0.2:4000"), connection("10.1.0.2:4001", WEB2)]
        answer = await l4lb.get("/v1/connections", limit="1")
        assert answer == {
            "connections": [
                {
                    "service": "web",
                    "protocol": "tcp",
                    "client": "10.1.0.2:4000",
                    "vip": "10.1.0.100:80",
                    "source": "10.1.0.2:4000",
                    "backend": "10.2.0.11:80",
                    "state": "established",
                    "idle": 1.235,
                    "expires": 7000.0,
                }
            ],
            "total": 2,
        }
        assert l4lb.datapath.asked[-1] == (ConnectionFilter(), 1)
        one = await l4lb.get("/v1/connections", service="web", backend="10.2.0.11:80")
        assert one["total"] == 2
        assert l4lb.datapath.asked[-1] == (ConnectionFilter("web", WEB1), 1000)
        of_client = await l4lb.get("/v1/connections", client="10.1.0.2", limit="1")
        assert (len(of_client["connections"]), of_client["total"]) == (1, 2)
        assert l4lb.datapath.asked[-1][0] == ConnectionFilter(client=packed("10.1.0.2"))

    with_daemon(tmp_path, scenario)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_connections_of_a_backend_that_is_in_no_service_and_has_none_are_refused(tmp_path, method):
    async def scenario(l4lb):
        async def none(which):
            return 0

        gone = "10.2.0.99:80"
        l4lb.datapath.known = [connection("10.1.0.2:4000")]  # it was removed from the config
        assert (await l4lb.call(method, "/v1/connections", backend=gone))[0] == 200
        l4lb.datapath.known, l4lb.datapath.flush = [], none
        assert await l4lb.refused(method, "/v1/connections", backend=gone) == (
            404,
            [f"no service has a backend {gone}"],
        )
        assert await l4lb.refused(method, "/v1/connections", backend="10.2.0.11:80", service="dns") == (
            404,
            ["service 'dns' has no backend 10.2.0.11:80"],
        )
        assert (await l4lb.call(method, "/v1/connections", backend="10.2.0.11:80"))[0] == 200

    with_daemon(tmp_path, scenario)


def test_where_metrics_cannot_listen_yet_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(control_plane, "_METRICS_AGAIN", 0.01)

    async def scenario(l4lb):
        async with asyncio.timeout(5):
            while l4lb.metrics.followed < 3:
                await asyncio.sleep(0.01)
        assert l4lb.metrics.settings == Metrics()

    with_daemon(tmp_path, scenario)


def test_metrics_are_of_what_is_in_force(tmp_path):
    async def scenario(l4lb):
        assert l4lb.metrics.settings == Metrics()
        l4lb.datapath.count = Counters({("web", WEB1): Traffic(9)}, {Verdict.FORWARD: 7}, {})
        l4lb.health.become("web", "10.2.0.12:80", HealthState.DOWN, "connection refused")
        await l4lb.datapath.plan_where(lambda plan: len(plan.services[0].selection.slots) == 1)
        snapshot = await l4lb.metrics.snapshot()
        assert (snapshot.datapath, snapshot.running) == ("fake", True)
        assert snapshot.limits == Limits()
        made_for = Limits(half_open=1000)
        l4lb.datapath.capabilities = replace(l4lb.datapath.capabilities, made_for=made_for)
        assert (await l4lb.metrics.snapshot()).limits == made_for
        l4lb.datapath.capabilities = replace(l4lb.datapath.capabilities, made_for=None)
        (web, backends), (dns, _) = snapshot.services
        assert (web.name, dns.name) == ("web", "dns")
        assert [(each.up, each.choice is not None) for each in backends] == [(True, True), (False, False)]
        assert backends[0].traffic.connections_total == 9
        l4lb.metrics.problem = "no metrics"
        assert (await l4lb.get("/v1/status"))["warnings"] == ["no metrics"]
        l4lb.config.write_text("[gateway.metrics]\nenabled = false\n" + CONFIG)
        changes = (await l4lb.change("POST", "/v1/reload"))["changes"]
        assert changes == ["gateway: metrics.enabled true -> false"]
        assert not l4lb.metrics.settings.enabled

    with_daemon(tmp_path, scenario)


@pytest.mark.parametrize("path", ["/v1/backends", "/v1/overview", "/v1/connections"])
def test_others_have_turns_while_a_long_answer_is_made(tmp_path, monkeypatch, path):
    one = ConnectionInfo(
        "web", Protocol.TCP, Endpoint.parse("10.1.0.2:5"), WEB1, WEB1, WEB1, State.ESTABLISHED, 0.1, 5.0
    )
    had = {}

    async def scenario(l4lb):
        l4lb.datapath.known = [one] * 500
        for turn in (60.0, 0.0):  # seconds
            monkeypatch.setattr(turns, "TURN", turn)
            monkeypatch.setattr(turns, "LONGEST", 0.0)
            had[turn] = await turns_of_others_during(l4lb.get(path))

    backends = "".join(
        f'[[services.backends]]\naddress = "10.2.1.{number}:80"\n' for number in range(1, 251)
    )
    text = f'[[services]]\nname = "many"\naddress = "10.1.0.102:80"\n{backends}'
    with_daemon(tmp_path, scenario, f"{CONFIG}\n{text}")
    assert had[0.0] - had[60.0] > 400  # for each of 250 when it is looked at, and when it is written


def test_the_snapshot_of_the_metrics_leaves_others_their_turns(tmp_path, monkeypatch):
    async def scenario(l4lb):
        monkeypatch.setattr(turns, "TURN", 0.0)
        monkeypatch.setattr(turns, "LONGEST", 0.0)
        had = await turns_of_others_during(l4lb.metrics.snapshot())
        assert had >= 3  # a service has two backends, the other one

    with_daemon(tmp_path, scenario)


def test_figures_of_traffic_are_not_copied_one_by_one(tmp_path, monkeypatch):
    copied = []

    async def scenario(l4lb):
        watch = Stopwatch()
        watch.took(0.25)
        l4lb.datapath.count = Counters({("web", WEB1): Traffic(responses=watch.read())}, {}, {})
        monkeypatch.setattr("copy.deepcopy", copied.append)  # dataclasses.asdict does it to each bucket
        one, *_ = (await l4lb.get("/v1/backends"))["backends"]
        monkeypatch.undo()
        assert one["responses"]["count"] == 1
        assert len(copied) < len(watch.buckets)  # of a service's check, a few

    with_daemon(tmp_path, scenario)

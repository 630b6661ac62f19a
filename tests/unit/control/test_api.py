"""The control API: what it answers, what it changes, how it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time

import pytest

from l4lb.datapath.base import ConnectionFilter
from l4lb.health.probes.result import Outcome, ProbeKind, ProbeResult
from l4lb.health.probing import LastProbe, ProbeCounters
from l4lb.health.rise_fall import HealthState
from l4lb.metrics.times import Stopwatch
from l4lb.model import (
    ConnectionInfo,
    Counters,
    Decision,
    DropReason,
    Endpoint,
    Offer,
    Protocol,
    Rule,
    State,
    Traffic,
    Verdict,
)
from tests.unit.control.fake_host import packed
from tests.unit.control.harness import CONFIG, DNS1, WEB1, WEB2, backend_path, with_daemon

WEB1_PATH = backend_path("web", "10.2.0.11:80")
NEW_PATH = backend_path("web", "10.2.0.13:80")


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
        status = await l4lb.get("/v1/status")
        assert status.pop("uptime") >= 0
        assert status.pop("version")
        assert status == {
            "pid": os.getpid(),
            "config": str(l4lb.config),
            "socket": str(l4lb.socket),
            "datapath": {
                "name": "fake",
                "capabilities": {
                    "name": "fake",
                    "survives_daemon": False,
                    "restores_connections": True,
                    "needs_forwarding": False,
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


def test_explain(tmp_path):
    async def scenario(l4lb):
        await l4lb.datapath.plan_where(lambda plan: bool(plan.services))
        answer = await l4lb.get("/v1/explain", service="web", client="10.1.0.7:40000")
        assert (answer["service"], answer["scheduler"], answer["backend"]) == ("web", "round_robin", None)
        assert str(WEB1) in {each["address"] for each in answer["candidates"]}

    with_daemon(tmp_path, scenario)


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


def test_probes_follow_the_config_from_start_to_stop(tmp_path):
    async def scenario(l4lb):
        assert l4lb.prober.running
        assert l4lb.prober.updates[-1][1]
        l4lb.config.write_text("[gateway.probes]\nenabled = false\nshare = 0.01\n" + CONFIG)
        changes = (await l4lb.change("POST", "/v1/reload"))["changes"]
        assert changes == [
            "gateway: probes.enabled true -> false",
            "gateway: probes.share 0.001 -> 0.01",
        ]
        services, enabled = l4lb.prober.updates[-1]
        assert [service.name for service in services] == ["web", "dns"]
        assert not enabled
        limits = (await l4lb.get("/v1/status"))["probes"]["limits"]
        assert (limits["enabled"], limits["share"]) == (False, 0.01)

    assert not with_daemon(tmp_path, scenario).prober.running


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


def test_a_backend_is_added_changed_and_removed(tmp_path):
    async def scenario(l4lb):
        body = {"address": "10.2.0.13:80", "weight": 3}
        added = await l4lb.change("POST", "/v1/services/web/backends", body)
        assert (added["address"], added["weight"], added["source"]) == ("10.2.0.13:80", 3, "file")
        assert l4lb.weights()["10.2.0.13:80"] == 3  # in force when the answer comes
        changed = await l4lb.change("PATCH", NEW_PATH, {"weight": 5})
        assert changed["weight"] == 5
        assert l4lb.weights()["10.2.0.13:80"] == 5
        assert "weight = 5" in l4lb.config.read_text()
        assert await l4lb.change("DELETE", NEW_PATH) == {}
        assert "10.2.0.13:80" not in l4lb.weights()
        assert l4lb.config.read_text() == CONFIG

    with_daemon(tmp_path, scenario)


def test_a_backend_without_weight_gets_one(tmp_path):
    async def scenario(l4lb):
        added = await l4lb.change("POST", "/v1/services/web/backends", {"address": "10.2.0.13:80"})
        assert added["weight"] == 1

    with_daemon(tmp_path, scenario)


def test_ipv6_addresses_in_a_path(tmp_path):
    async def scenario(l4lb):
        path = backend_path("dns", "[2001:db8:2::b]:53")
        assert "%5B2001%3Adb8%3A2%3A%3Ab%5D%3A53" in path
        assert (await l4lb.change("PATCH", path, {"weight": 9}))["weight"] == 9
        unencoded = "/v1/services/dns/backends/[2001:db8:2::b]:53"
        assert (await l4lb.change("PATCH", unencoded, {"weight": 8}))["weight"] == 8

    with_daemon(tmp_path, scenario)


def test_drain_and_enable_restore_the_weight(tmp_path):
    async def scenario(l4lb):
        path = backend_path("web", "10.2.0.12:80")
        drained = await l4lb.change("PATCH", path, {"action": "drain"})
        assert (drained["state"], drained["weight"]) == ("drain", 0)
        assert "weight = 0" in l4lb.config.read_text()
        assert l4lb.weights()["10.2.0.12:80"] == 0
        assert l4lb.datapath.plan.services[0].backends[1].alive
        enabled = await l4lb.change("PATCH", path, {"action": "enable"})
        assert (enabled["state"], enabled["weight"]) == ("unknown", 2)
        assert (await l4lb.change("PATCH", path, {"action": "enable"}))["weight"] == 2
        assert l4lb.config.read_text() == CONFIG

    with_daemon(tmp_path, scenario)


def test_a_drained_backend_whose_check_fails_says_both(tmp_path):
    async def scenario(l4lb):
        await l4lb.change("PATCH", WEB1_PATH, {"action": "drain"})
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "timeout")
        backend = (await l4lb.get("/v1/backends"))["backends"][0]
        assert (backend["state"], backend["reason"]) == ("drain", "down: timeout")

    with_daemon(tmp_path, scenario)


def test_runtime_changes_leave_the_file_and_end_with_a_reload(tmp_path):
    async def scenario(l4lb):
        body = {"address": "10.2.0.13:80", "runtime": True}
        added = await l4lb.change("POST", "/v1/services/web/backends", body)
        assert added["source"] == "runtime"
        drained = await l4lb.change("PATCH", WEB1_PATH, {"action": "drain", "runtime": True})
        assert drained["source"] == "runtime"
        await l4lb.change("DELETE", "/v1/services/dns", runtime="1")
        assert l4lb.config.read_text() == CONFIG
        assert (await l4lb.get("/v1/status"))["services"] == 1
        assert (await l4lb.change("POST", "/v1/reload"))["changes"] == [
            "service web: backend 10.2.0.13:80 removed",
            "service web: backend 10.2.0.11:80 takes connections again (weight 1)",
            "service dns: added ([2001:db8:1::64]:53 udp, 1 backend)",
        ]
        assert (await l4lb.get("/v1/status"))["services"] == 2

    with_daemon(tmp_path, scenario)


def test_a_service_is_added_and_removed(tmp_path):
    async def scenario(l4lb):
        fields = {
            "name": "shop",
            "address": "10.1.0.101:443",
            "scheduler": "maglev",
            "health": {"check": "http", "path": "/up"},
            "backends": [{"address": "10.2.0.14:443", "weight": 2}],
        }
        added = await l4lb.change("POST", "/v1/services", {"service": fields})
        assert (added["scheduler"], added["health"]["path"]) == ("maglev", "/up")
        assert added["backends"][0]["weight"] == 2
        assert packed("10.1.0.101") in l4lb.vips.kept[-1]
        assert len(l4lb.datapath.plan.services) == 3
        assert await l4lb.change("DELETE", "/v1/services/shop") == {}
        assert packed("10.1.0.101") not in l4lb.vips.kept[-1]
        assert l4lb.config.read_text() == CONFIG

    with_daemon(tmp_path, scenario)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "line"),
    [
        (
            "GET",
            "/v1/explain?service=web&client=[::1]:1",
            None,
            400,
            "[::1]:1 is IPv6, service 'web' is IPv4",
        ),
        ("GET", "/v1/explain?service=web", None, 400, "'address' must be text, ADDRESS:PORT"),
        ("GET", "/v1/services/shop", None, 404, "there is no service 'shop' (services: web, dns)"),
        ("GET", "/v1/backends?service=shop", None, 404, "there is no service 'shop' (services: web, dns)"),
        (
            "GET",
            "/v1/connections?service=shop",
            None,
            404,
            "there is no service 'shop' (services: web, dns)",
        ),
        ("GET", "/v1/services/", None, 404, "there is no service '' (services: web, dns)"),
        ("GET", "/v1/services/a%0ab", None, 404, r"there is no service 'a\nb' (services: web, dns)"),
        (
            "POST",
            "/v1/services//backends",
            {"address": "10.2.0.13:80"},
            404,
            "there is no service '' (services: web, dns)",
        ),
        (
            "DELETE",
            "/v1/connections?service=shop",
            None,
            404,
            "there is no service 'shop' (services: web, dns)",
        ),
        ("GET", "/v1/connections?client=me", None, 400, "'me' is not an IP address"),
        ("GET", "/v1/connections?limit=0", None, 400, "limit must be a whole number, 1 or more"),
        (
            "GET",
            "/v1/connections?backend=10.2.0.11",
            None,
            400,
            "'10.2.0.11' has no port: write ADDRESS:PORT",
        ),
        ("DELETE", "/v1/connections", None, 400, "name a service, a backend or a client, or say all=1"),
        ("DELETE", "/v1/connections?all=yes", None, 400, "all must be 0 or 1"),
        ("DELETE", NEW_PATH, None, 404, "service 'web' has no backend 10.2.0.13:80"),
        ("PATCH", NEW_PATH, {"weight": 1}, 404, "service 'web' has no backend 10.2.0.13:80"),
        ("PATCH", NEW_PATH, {"action": "enable"}, 404, "service 'web' has no backend 10.2.0.13:80"),
        ("PATCH", WEB1_PATH, {}, 400, "give 'weight', or 'action' as drain or enable"),
        ("PATCH", WEB1_PATH, {"action": "stop"}, 400, "give 'weight', or 'action' as drain or enable"),
        ("PATCH", WEB1_PATH, {"action": "drain", "weight": 1}, 400, "give 'weight' or 'action', not both"),
        ("PATCH", WEB1_PATH, {"weight": True}, 400, "'weight' must be a whole number, 0 or more"),
        ("PATCH", WEB1_PATH, {"weight": -1}, 400, "'weight' must be a whole number, 0 or more"),
        ("PATCH", WEB1_PATH, {"weight": 1, "runtime": 1}, 400, "'runtime' must be true or false"),
        ("PATCH", WEB1_PATH, {"wieght": 1}, 400, "unknown: wieght (known: weight, action, runtime)"),
        ("PATCH", WEB1_PATH, [1], 400, "the body must be a JSON object"),
        ("POST", "/v1/services/web/backends", {}, 400, "'address' must be text, ADDRESS:PORT"),
        (
            "POST",
            "/v1/services/web/backends",
            {"address": "10.2.0.300:80"},
            400,
            "'10.2.0.300' is not an IP address",
        ),
        (
            "POST",
            "/v1/services/web/backends",
            {"address": "10.2.0.11:80"},
            409,
            "service 'web' already has backend 10.2.0.11:80",
        ),
        ("POST", "/v1/services", {"service": {"name": "web"}}, 409, "there already is a service 'web'"),
        (
            "POST",
            "/v1/services",
            {},
            400,
            "'service' must be an object with the keys of [[services]] in the config file",
        ),
        ("DELETE", "/v1/services/web?runtime=true", None, 400, "runtime must be 0 or 1"),
        ("GET", "/v2/status", None, 404, "GET /v2/status: Not Found"),
        ("PUT", "/v1/status", None, 405, "PUT /v1/status: Method Not Allowed"),
    ],
)
def test_refusals(tmp_path, method, path, body, status, line):
    async def scenario(l4lb):
        plans = len(l4lb.datapath.plans)
        assert await l4lb.refused(method, path, body) == (status, [line])
        assert l4lb.config.read_text() == CONFIG
        assert len(l4lb.datapath.plans) == plans

    with_daemon(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "header", "line"),
    [
        (b"{", b"", "the body is not JSON"),
        (b"\xff", b"", "the body is not JSON"),
        (b"[" * 100_000, b"", "the body is nested too deeply"),
        (
            b'{"service": {"name": "x", "a": %b}}' % (b"[" * 900 + b"]" * 900),
            b"",
            "cannot add the service: nested too deeply",
        ),
        (b"not gzip", b"Content-Encoding: gzip\r\n", "the body is not encoded as its headers say"),
        (b"x" * 2_000_000, b"", "POST /v1/services: Request Entity Too Large"),
    ],
    ids=["cut short", "bytes", "deep", "deep in a service", "not gzip", "huge"],
)
def test_a_body_that_is_no_request(tmp_path, caplog, body, header, line):
    request = b"POST /v1/services HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b"

    async def scenario(l4lb):
        head, _, answer = (await said_to(l4lb, request % (header, len(body), body))).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 4")
        assert json.loads(answer) == {"errors": [line]}

    with_daemon(tmp_path, scenario)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("said", [b"GET /v1/status HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0\r\n\r\n"])
def test_what_is_not_http_is_refused_and_no_more_than_a_line_of_the_log(tmp_path, caplog, said):
    async def scenario(l4lb):
        assert b" 400 Bad Request" in await said_to(l4lb, said)
        assert (await l4lb.get("/v1/status"))["services"] == 2

    with_daemon(tmp_path, scenario)
    assert "Traceback" not in caplog.text
    assert all(message.count("\n") == 0 for message in caplog.messages)


async def said_to(l4lb, request):
    """What the daemon answers to bytes, until it has answered whole."""
    reader, writer = await asyncio.open_unix_connection(l4lb.socket)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        return head + await reader.readexactly(length)
    finally:
        writer.transport.abort()


def test_every_error_of_a_service_is_told(tmp_path):
    async def scenario(l4lb):
        fields = {"name": "shop", "address": "nowhere", "scheduler": "best"}
        status, lines = await l4lb.refused("POST", "/v1/services", {"service": fields})
        assert status == 400
        assert len(lines) == 2
        assert "services[shop].address" in lines[0]
        assert "services[shop].scheduler" in lines[1]

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


def test_flush(tmp_path):
    async def scenario(l4lb):
        query = {"service": "web", "backend": "10.2.0.11:80", "client": "2001:db8::1"}
        assert await l4lb.change("DELETE", "/v1/connections", **query) == {"flushed": 3}
        assert await l4lb.change("DELETE", "/v1/connections", all="1") == {"flushed": 3}
        assert l4lb.datapath.flushed == [
            ConnectionFilter("web", WEB1, packed("2001:db8::1")),
            ConnectionFilter(),
        ]

    with_daemon(tmp_path, scenario)


def test_changes_at_the_same_time_are_all_made(tmp_path):
    async def scenario(l4lb):
        await asyncio.gather(
            *(
                l4lb.change("POST", "/v1/services/web/backends", {"address": f"10.2.0.{last}:80"})
                for last in range(20, 40)
            )
        )
        assert len((await l4lb.get("/v1/backends", service="web"))["backends"]) == 22
        assert l4lb.config.read_text().count("10.2.0.") == 22
        assert len(l4lb.weights()) == 23

    with_daemon(tmp_path, scenario)


def test_a_datapath_that_fails_is_told_and_the_daemon_goes_on(tmp_path):
    async def scenario(l4lb):
        l4lb.datapath.refusal = "the packet process did not answer"
        for path in ("/v1/status", "/v1/overview", "/v1/services", "/v1/connections"):
            assert await l4lb.refused("GET", path) == (500, ["the packet process did not answer"])
        l4lb.datapath.refusal = None
        assert (await l4lb.get("/v1/status"))["services"] == 2

    with_daemon(tmp_path, scenario)


def test_a_bug_is_an_error_with_a_line_and_a_traceback_in_the_log(tmp_path, caplog):
    async def scenario(l4lb):
        async def broken():
            raise RuntimeError("a bug")

        l4lb.datapath.counters = broken
        status, lines = await l4lb.refused("GET", "/v1/status")
        assert (status, lines) == (
            500,
            ["internal error: RuntimeError('a bug'); the daemon's log has more"],
        )

    with_daemon(tmp_path, scenario)
    assert "RuntimeError: a bug" in caplog.text

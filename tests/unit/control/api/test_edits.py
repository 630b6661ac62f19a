"""What the control API changes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import pytest

from l4lb import files
from l4lb.datapath.base import ConnectionFilter
from tests.unit.control.fake_host import packed
from tests.unit.control.harness import (
    CONFIG,
    NEW_PATH,
    WEB1,
    WEB1_PATH,
    backend_path,
    with_daemon,
)


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
        assert enabled["restored"]
        assert (await l4lb.change("PATCH", path, {"action": "enable"}))["weight"] == 2
        assert l4lb.config.read_text() == CONFIG

    with_daemon(tmp_path, scenario)


def test_who_drains_the_last_backend_is_told(tmp_path, caplog):
    line = "service web has no backend that takes new connections: its clients are refused"

    async def scenario(l4lb):
        other = backend_path("web", "10.2.0.12:80")
        assert (await l4lb.change("PATCH", WEB1_PATH, {"action": "drain"}))["warning"] is None
        assert (await l4lb.get("/v1/status"))["warnings"] == []
        assert (await l4lb.change("PATCH", other, {"weight": 0}))["warning"] == line
        assert (await l4lb.get("/v1/status"))["warnings"] == [line]
        assert (await l4lb.change("PATCH", WEB1_PATH, {"action": "enable"}))["warning"] is None
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    with caplog.at_level(logging.INFO):
        with_daemon(tmp_path, scenario)
    lines = [record.getMessage() for record in caplog.records if line in record.getMessage()]
    assert lines == [line, f"no longer: {line}"]


@pytest.mark.parametrize(("end", "weight"), [("signal", 2), ("stop", 1)])
def test_enable_restores_the_weight_after_a_restart_but_not_after_a_stop(tmp_path, end, weight):
    path = backend_path("web", "10.2.0.12:80")

    async def drain(l4lb):
        await l4lb.change("PATCH", path, {"action": "drain"})
        if end == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
            await l4lb.ended()

    async def enable(l4lb):
        enabled = await l4lb.change("PATCH", path, {"action": "enable"})
        assert (enabled["weight"], enabled["restored"]) == (weight, end == "signal")

    drained = with_daemon(tmp_path, drain)
    assert (drained.socket.with_name("l4lb.drains")).exists() is (end == "signal")
    with_daemon(tmp_path, enable, drained.config.read_text())


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


@pytest.mark.parametrize("times", [1, 3])
def test_an_edit_during_which_the_file_is_saved_by_hand_begins_anew(tmp_path, monkeypatch, times):
    rewrite, saved = files.rewrite, []

    def met(path, before, text):
        if len(saved) < times:
            saved.append(path.write_text(before + f"# by hand {len(saved)}\n"))
        rewrite(path, before, text)

    monkeypatch.setattr(files, "rewrite", met)

    async def scenario(l4lb):
        if times == 1:
            await l4lb.change("PATCH", WEB1_PATH, {"weight": 5})
        else:
            status, (line,) = await l4lb.refused("PATCH", WEB1_PATH, {"weight": 5})
            assert (status, line.partition(": ")[2]) == (
                400,
                "somebody else changed it at the same time: repeat the command",
            )
        text = l4lb.config.read_text()
        assert text.count("# by hand") == times
        assert ("weight = 5" in text) is (times == 1)

    with_daemon(tmp_path, scenario)

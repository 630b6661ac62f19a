"""What is said of a running director, and what is flushed from it."""

from dataclasses import replace

import pytest

from l4lb.datapath.base import ConnectionFilter
from l4lb.datapath.raw import reports
from l4lb.datapath.raw.reports import connection_infos, counters, flush, loads
from l4lb.model import DropReason, Endpoint, Limits, Nat, Protocol, State, Traffic, Verdict
from tests.unit.director.gateway import (
    BACKEND,
    BACKEND6,
    CLIENT,
    CLIENT6,
    OTHER,
    SNAT,
    VIP,
    VIP6,
    Gateway,
    service,
)
from tests.unit.director.packets import ACK, FIN, RST, UDP, Sent

FULL = replace(VIP, port=81)


def answer(job):
    """Run a job to its end: the end of its answer, and the parts, one for each step."""
    parts = []
    while True:
        try:
            parts.append(next(job))
        except StopIteration as end:
            return end.value, parts


def shown(gateway, which=ConnectionFilter(), limit=100):  # noqa: B008 - frozen
    total, parts = answer(connection_infos(gateway.director, which, limit, gateway.now))
    return [info for part in parts for info in part], total


class TestLoads:
    def test_what_the_counters_have_too_for_the_services_asked_for(self):
        gateway = Gateway(service(BACKEND), service(OTHER, name="other", vip=replace(VIP, port=81)))
        ours, _ = gateway.open()
        gateway.forwarded(replace(ours, payload=b"12345"))
        counted = counters(gateway.director, 0, gateway.now + 2.0).backends["web", BACKEND]
        found = loads(gateway.director, {"web"}, gateway.now + 2.0)
        assert list(found) == [("web", BACKEND)]
        load = found["web", BACKEND]
        for name in ("half_open", "established", "outstanding", "waiting"):
            assert getattr(load, name) == getattr(counted, name)
        assert (load.confirmed, load.answers, load.answer_time) == (1, 0, 0.0)


class TestCounters:
    def test_traffic_is_counted_by_backend_and_direction(self):
        gateway = Gateway(service(BACKEND, OTHER))
        ours, _ = gateway.open()
        gateway.forwarded(replace(ours, payload=b"12345"))
        gateway.forwarded(Sent(replace(CLIENT, port=1), VIP))
        snapshot = counters(gateway.director, 0, gateway.now + 2.0)
        counted = snapshot.backends["web", BACKEND]
        assert (counted.handshakes.count, counted.waiting) == (1, 2.0)
        assert snapshot.backends == {
            ("web", BACKEND): Traffic(
                connections_total=1,
                established=1,
                packets_in=3,
                packets_out=1,
                bytes_in=125,
                bytes_out=40,
                outstanding=1,
                waiting=2.0,
                handshakes=counted.handshakes,
                confirmed=1,
            ),
            ("web", OTHER): Traffic(connections_total=1, half_open=1, packets_in=1, bytes_in=40),
        }
        assert (snapshot.half_open, snapshot.established) == (1, 1)
        assert snapshot.verdicts[Verdict.FORWARD] == 5

    def test_connections_that_are_over_are_not_established(self):
        gateway = Gateway(service())
        ours, theirs = gateway.open()
        gateway.forwarded(replace(ours, flags=FIN | ACK))
        assert counters(gateway.director, 0, 0.0).established == 1
        gateway.forwarded(replace(theirs, flags=FIN | ACK))
        snapshot = counters(gateway.director, 0, 0.0)
        assert (snapshot.established, snapshot.backends["web", BACKEND].established) == (0, 0)

    def test_a_removed_backend_leaves_its_forwarded_packets_in_the_total(self):
        gateway = Gateway(service(BACKEND, OTHER))
        gateway.open()
        gateway.configure(service(OTHER))
        snapshot = counters(gateway.director, 0, 0.0)
        assert snapshot.verdicts[Verdict.FORWARD] == 3
        assert list(snapshot.backends) == [("web", OTHER)]

    def test_drops_come_from_everywhere(self):
        gateway = Gateway(service(), limits=Limits(half_open=1))
        gateway.forwarded(Sent(CLIENT, VIP))
        gateway.now += 5
        gateway.forwarded(Sent(replace(CLIENT, port=1), VIP))
        gateway.send(Sent(replace(CLIENT, port=2), VIP))
        assert counters(gateway.director, 7, 0.0).drops == {
            DropReason.HALF_OPEN_EVICTED: 1,
            DropReason.HALF_OPEN_FULL: 1,
            DropReason.RECEIVE_OVERRUN: 7,
        }

    def test_nothing_dropped_is_not_mentioned(self):
        gateway = Gateway(service())
        gateway.tick()
        assert counters(gateway.director, 0, 0.0).drops == {}


@pytest.fixture
def busy():
    gateway = Gateway(
        service(BACKEND, OTHER),
        service(BACKEND6, name="six"),
        service(name="full", vip=FULL, nat=Nat.FULL),
        service(name="dns", protocol=Protocol.UDP),
    )
    gateway.open()
    gateway.open(replace(CLIENT, port=41_000))
    gateway.open(CLIENT6)
    gateway.open(CLIENT, FULL)
    gateway.forwarded(Sent(CLIENT, VIP, protocol=UDP))
    return gateway


class TestConnections:
    def test_everything_about_one(self, busy):
        busy.now += 40
        infos, total = shown(busy, ConnectionFilter(service="full"))
        assert total == 1
        (info,) = infos
        assert (info.client, info.vip, info.backend) == (CLIENT, FULL, BACKEND)
        assert info.source.ip == SNAT
        assert info.source.port in range(20_000, 30_000)
        assert (info.state, info.idle, info.expires) == (State.ESTABLISHED, 40.0, 7400.0)

    def test_what_is_overdue_expires_in_no_time(self, busy):
        busy.now += 10_000
        infos, _ = shown(busy)
        assert {info.expires for info in infos} == {0.0}

    @pytest.mark.parametrize(
        ("which", "count"),
        [
            (ConnectionFilter(), 5),
            (ConnectionFilter(service="web"), 2),
            (ConnectionFilter(service="none"), 0),
            (ConnectionFilter(backend=BACKEND), 3),
            (ConnectionFilter(service="web", backend=BACKEND), 1),
            (ConnectionFilter(backend=BACKEND, client=CLIENT.ip), 3),
            (ConnectionFilter(client=CLIENT.ip), 4),
            (ConnectionFilter(client=CLIENT6.ip), 1),
            (ConnectionFilter(client=Endpoint.parse("10.1.0.8:1").ip), 0),
        ],
        ids=str,
    )
    def test_filters_narrow(self, busy, which, count):
        infos, total = shown(busy, which)
        assert len(infos) == total == count

    def test_an_ipv4_client_is_not_the_start_of_an_ipv6_one(self, busy):
        """32.1.13.184 is 2001:db8:: cut short."""
        which = ConnectionFilter(client=CLIENT6.ip[:4])
        assert shown(busy, which) == ([], 0)
        assert answer(flush(busy.director, which))[0] == 0

    def test_the_limit_cuts_the_list_and_not_the_number(self, busy):
        infos, total = shown(busy, limit=2)
        assert (len(infos), total) == (2, 5)

    @pytest.mark.parametrize("limit", [1, 2, 3, 4])
    def test_the_limit_leaves_those_with_the_latest_packet(self, limit):
        gateway = Gateway(service(BACKEND))
        opened = {}
        for port in (1, 2, 3, 4):
            gateway.now += 10
            opened[port], _ = gateway.open(replace(CLIENT, port=port))
        gateway.now += 10
        gateway.forwarded(replace(opened[1], payload=b"x"))
        infos, total = shown(gateway, limit=limit)
        assert total == 4
        assert {info.client.port for info in infos} == set([1, 4, 3, 2][:limit])


class TestFlush:
    def test_both_ends_of_tcp_are_told(self, busy):
        busy.director.out.clear()
        assert answer(flush(busy.director, ConnectionFilter(client=CLIENT6.ip)))[0] == 1
        assert [(index, seen.source, seen.destination, seen.flags) for index, seen in busy.seen] == [
            (1, VIP6, CLIENT6, RST),
            (2, CLIENT6, BACKEND6, RST),
        ]
        assert all(seen.right for _, seen in busy.seen)

    def test_the_others_stay(self, busy):
        assert answer(flush(busy.director, ConnectionFilter(service="web")))[0] == 2
        assert {info.service for info in shown(busy)[0]} == {"six", "full", "dns"}

    def test_all(self, busy):
        assert answer(flush(busy.director, ConnectionFilter()))[0] == 5
        assert len(busy.director.table) == 0


class TestSteps:
    """Packets go on between the steps, and connections come and go."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr(reports, "_STEP", 2)

    def test_a_long_list_takes_many(self, busy):
        total, parts = answer(connection_infos(busy.director, ConnectionFilter(), 100, busy.now))
        assert (total, list(map(len, parts))) == (5, [0, 0, 0, 2, 2, 1])

    def test_what_ends_meanwhile_is_not_shown(self, busy):
        job = connection_infos(busy.director, ConnectionFilter(), 100, busy.now)
        next(job)
        for connection in list(busy.director.table)[:3]:
            busy.director.reset(connection)
        total, parts = answer(job)
        assert (total, sum(map(len, parts))) == (2, 2)

    def test_of_the_latest_none_that_has_ended_meanwhile_is_shown(self, busy):
        job = connection_infos(busy.director, ConnectionFilter(), 4, busy.now)
        next(job)
        next(job)
        for connection in list(busy.director.table):
            busy.director.reset(connection)
        total, parts = answer(job)
        assert (total, sum(map(len, parts))) == (2, 0)

    def test_what_ends_meanwhile_is_not_reset_twice(self, busy):
        job = flush(busy.director, ConnectionFilter())
        next(job)
        for connection in list(busy.director.table):
            busy.director.reset(connection)
        assert answer(job)[0] == 0

    def test_what_begins_meanwhile_does_no_harm(self, busy):
        job = flush(busy.director, ConnectionFilter())
        next(job)
        busy.forwarded(Sent(replace(CLIENT, port=9), VIP))
        assert answer(job)[0] == 5
        assert len(busy.director.table) == 1

"""Connections between a stop and a start, and files that are not what they should be."""

import os
import time
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from l4lb.datapath.raw import saved
from l4lb.model import Limits, Nat, Protocol, State, Timeouts
from tests.unit.director.gateway import BACKEND, BACKEND6, CLIENT, CLIENT6, OTHER, VIP, Gateway, service
from tests.unit.director.packets import FIN, RST, UDP, Sent

FULL = replace(VIP, port=81)
SERVICES = (
    service(),
    service(BACKEND6, name="six"),
    service(name="full", vip=FULL, nat=Nat.FULL),
    service(name="udp", protocol=Protocol.UDP),
)
_KEPT = ("original", "reply", "state", "acked_by_client", "acked_by_backend", "shifts")


@pytest.fixture
def clock(monkeypatch):
    """The clock that goes on while the machine sleeps, in the hands of the test."""

    class Clock:
        seconds = 5_000.0

    monkeypatch.setattr(time, "clock_gettime", lambda _: Clock.seconds)
    return Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raw.connections"


def busy() -> Gateway:
    """One connection of every kind that is worth saving."""
    gateway = Gateway(*SERVICES)
    gateway.open()
    gateway.open(CLIENT6)
    gateway.open(CLIENT, FULL)
    ours, _ = gateway.open(replace(CLIENT, port=41_000))
    gateway.forwarded(replace(ours, flags=FIN | 0x10))
    ours, _ = gateway.open(replace(CLIENT, port=42_000))
    gateway.forwarded(replace(ours, flags=RST))
    seen = gateway.forwarded(Sent(CLIENT, VIP, protocol=UDP))
    gateway.forwarded(Sent(seen.destination, seen.source, protocol=UDP))
    gateway.forwarded(Sent(CLIENT, VIP, protocol=UDP))
    return gateway


def kept(gateway: Gateway) -> set[tuple[object, ...]]:
    return {
        (c.path.service, c.path.address, *(getattr(c, name) for name in _KEPT))
        for c in gateway.director.table
    }


def save(gateway: Gateway, path: Path) -> bytes:
    saved.save(gateway.director, path, gateway.now)
    return path.read_bytes()


def restored(content: bytes, path: Path, *services) -> tuple[Gateway, int, int]:
    path.write_bytes(content)
    gateway = Gateway(*(services or SERVICES))
    good, left_out = saved.restore(gateway.director, path, gateway.now)
    return gateway, good, left_out


def usable(gateway: Gateway) -> None:
    """Whatever was restored can be used, shown, reset and forgotten."""
    for connection in list(gateway.director.table)[::2]:
        gateway.director.reset(connection)
    gateway.run_out(max(getattr(Timeouts(), name) for name in Timeouts.__dataclass_fields__) + 2)
    assert len(gateway.director.table) == 0


def test_everything_comes_back(path):
    before = busy()
    after, good, left_out = restored(save(before, path), path)
    assert (good, left_out) == (6, 0)
    assert kept(after) == kept(before)
    for connection in before.director.table:
        protocol = connection.path.protocol
        mine, theirs = (
            gateway.director.table.by_protocol[protocol][connection.original] for gateway in (before, after)
        )
        assert mine.forward.addresses == theirs.forward.addresses
        assert mine.backward.ports == theirs.backward.ports
        assert theirs.path.established or theirs.path.closed
    assert not path.exists()
    usable(after)


def test_a_transfer_goes_on(path):
    before = Gateway(*SERVICES)
    ours, theirs = before.open(CLIENT, FULL)
    after, *_ = restored(save(before, path), path)
    assert after.forwarded(ours).packet == before.forwarded(ours).packet
    assert after.forwarded(theirs).packet == before.forwarded(theirs).packet


def test_half_open_ones_are_not_saved(path):
    gateway = Gateway(*SERVICES)
    gateway.forwarded(Sent(CLIENT, VIP))
    gateway.forwarded(Sent(CLIENT, VIP, protocol=UDP))
    assert restored(save(gateway, path), path)[1:] == (0, 0)


def test_time_goes_on_while_nobody_runs(path, clock):
    before = Gateway(*SERVICES)
    before.open()
    before.now += 100
    content = save(before, path)
    clock.seconds += 50
    after, *_ = restored(content, path)
    assert after.connection().seen == after.now - 150


def test_what_has_expired_meanwhile_is_left_out(path, clock):
    content = save(busy(), path)
    clock.seconds += Timeouts().udp + 1
    assert restored(content, path)[1:] == (3, 3)


def test_what_no_longer_is_configured_or_up_is_left_out(path):
    content = save(busy(), path)
    after, good, left_out = restored(content, path, service(down=[SERVICES[0].backends[0].address]))
    assert (good, left_out) == (0, 6)
    after, good, left_out = restored(content, path, service(OTHER))
    assert (good, left_out) == (0, 6)
    after, good, left_out = restored(content, path, service())
    assert (good, left_out) == (3, 3)
    usable(after)


def test_what_the_nat_of_today_would_not_bring_back_is_left_out(path):
    """Its backend's packets would go past us."""
    content = save(busy(), path)
    others = service(nat=Nat.FULL), service(name="full", vip=FULL)
    assert restored(content, path, *others)[1:] == (0, 6)
    path.write_bytes(content)
    gateway = Gateway(*SERVICES, snat_ports=(40_000, 50_000))
    assert saved.restore(gateway.director, path, gateway.now) == (5, 1)


class TestAffinity:
    """A client that comes back after a restart goes where it went before."""

    STICKY = service(OTHER, BACKEND, affinity_timeout=300.0)

    def come_back(self, path, *services, later=0.0, clock=None):
        before = Gateway(self.STICKY)
        before.open(replace(CLIENT, ip=CLIENT.ip[:3] + b"\x77"))  # the other one's turn
        before.open()
        content = save(before, path)
        if clock is not None:
            clock.seconds += later
        after, *_ = restored(content, path, *services)
        return after.forwarded(Sent(replace(CLIENT, port=50_000), VIP)).destination

    def test_it_goes_to_its_backend(self, path):
        assert self.come_back(path, self.STICKY) == BACKEND

    def test_not_for_longer_than_it_is_remembered(self, path, clock):
        assert self.come_back(path, self.STICKY, later=299, clock=clock) == BACKEND
        assert self.come_back(path, self.STICKY, later=301, clock=clock) == OTHER

    def test_a_shorter_timeout_holds(self, path):
        shorter = service(OTHER, BACKEND, affinity_timeout=1.0)
        gateway = Gateway(self.STICKY)
        gateway.open()
        after, *_ = restored(save(gateway, path), path, shorter)
        ((_, _, left),) = after.director.services.clients[4].remembered(after.now)
        assert left == pytest.approx(1.0)

    def test_nobody_is_sent_where_there_is_no_backend_any_more_or_no_affinity(self, path):
        assert self.come_back(path, service(OTHER, affinity_timeout=300.0)) == OTHER
        assert self.come_back(path, service(OTHER, BACKEND)) == OTHER

    @pytest.mark.parametrize(
        ("field", "value"),
        [(0, 99), (1, b""), (2, 1 << 20), (3, b"x" * 5), (4, -1), (5, b"x" * 16), (6, float("nan"))],
    )
    def test_with_an_impossible_value_it_is_left_out(self, path, field, value):
        gateway = Gateway(self.STICKY)
        gateway.open()
        unpacker = msgpack.Unpacker()
        unpacker.feed(save(gateway, path))
        *rest, client = unpacker
        client[field] = value
        after, *_ = restored(b"".join(map(msgpack.packb, (*rest, client))), path, self.STICKY)
        assert not any(map(len, after.director.services.clients.values()))


def test_no_more_than_the_table_holds(path):
    path.write_bytes(save(busy(), path))
    gateway = Gateway(*SERVICES, limits=Limits(established=2))
    assert saved.restore(gateway.director, path, gateway.now) == (2, 4)


def test_connections_that_came_first_stay(path):
    content = save(busy(), path)
    path.write_bytes(content)
    gateway = busy()
    before = kept(gateway)
    assert saved.restore(gateway.director, path, gateway.now) == (0, 6)
    assert kept(gateway) == before


class TestTheFile:
    def test_only_root_can_read_it(self, path):
        save(busy(), path)
        assert path.stat().st_mode & 0o777 == 0o600

    def test_one_that_cannot_be_written_leaves_nothing(self, path):
        path.mkdir()
        gateway = busy()
        with pytest.raises(IsADirectoryError):
            saved.save(gateway.director, path, gateway.now)
        assert list(path.parent.iterdir()) == [path]
        path.rmdir()
        assert saved.live(gateway.director) == saved.save(gateway.director, path, gateway.now) > 0

    def test_none_is_no_connections(self, path):
        gateway = Gateway(*SERVICES)
        assert saved.restore(gateway.director, path, gateway.now) == (0, 0)

    def test_of_another_boot_it_is_worth_nothing(self, path, monkeypatch, tmp_path):
        content = save(busy(), path)
        other = tmp_path / "boot_id"
        other.write_text("another boot\n")
        monkeypatch.setattr(saved, "_BOOT_ID", other)
        assert restored(content, path)[1:] == (0, 0)
        assert not path.exists()

    def test_cut_off_anywhere_the_rest_is_used(self, path):
        content = save(busy(), path)
        counts = set()
        for end in range(len(content)):
            gateway, good, left_out = restored(content[:end], path)
            assert left_out == 0
            counts.add(good)
            usable(gateway)
        assert counts == {0, 1, 2, 3, 4, 5}

    @pytest.mark.parametrize("value", [0x00, 0x7F, 0x80, 0xC0, 0xC1, 0xCB, 0xDF, 0xFF], ids=hex)
    def test_damaged_anywhere_nothing_breaks(self, path, value):
        content = save(busy(), path)
        for at in range(len(content)):
            gateway, *_ = restored(content[:at] + bytes([value]) + content[at + 1 :], path)
            usable(gateway)

    def test_any_bytes_are_no_connections(self, path):
        for size in (0, 1, 100, 10_000):
            assert restored(os.urandom(size), path)[1] == 0


class TestRecords:
    """Values that msgpack can carry and a connection cannot have."""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (0, int(Protocol.UDP)),
            (0, 99),
            (1, b""),
            (1, b"x" * 12),
            (2, b"x" * 36),
            (3, int(State.SYN_SENT)),
            (3, 99),
            (3, -1),
            (4, float("nan")),
            (4, float("inf")),
            (4, -1.0),
            (4, 1e300),
            (5, -1),
            (5, 1 << 32),
            (6, -1),
            (6, 1 << 40),
            (7, -1),
            (7, 1 << 60),
        ],
    )
    def test_with_an_impossible_value_it_is_left_out(self, path, field, value):
        header, record = self.unpacked(path)
        record[field] = value
        assert self.read(path, header, record)[1:] == (0, 1)

    @pytest.mark.parametrize("record", [7, None, "text", [], {}, [1, 2, 3], [None] * 8], ids=str)
    def test_of_another_shape_it_is_left_out(self, path, record):
        header, _ = self.unpacked(path)
        assert self.read(path, header, record)[1:] == (0, 1)

    @pytest.mark.parametrize("saved_at", [None, "now", float("nan"), float("inf"), -1e300, 1e300])
    def test_without_a_time_none_is_used(self, path, saved_at):
        header, record = self.unpacked(path)
        header[2] = saved_at
        assert self.read(path, header, record)[1] == 0

    def test_a_tuple_that_is_its_own_reply_is_left_out(self, path):
        """A client that is the backend, seen as the VIP: the table cannot hold it."""
        header, record = self.unpacked(path)
        ends = record[2][:4] + record[1][4:8] + record[2][8:10] + record[1][10:12]
        record[1] = record[2] = ends
        assert self.read(path, header, record)[1:] == (0, 1)

    @staticmethod
    def unpacked(path):
        gateway = Gateway(*SERVICES)
        gateway.open()
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(save(gateway, path))
        return list(unpacker)

    @staticmethod
    def read(path, *values):
        gateway, good, left_out = restored(b"".join(map(msgpack.packb, values)), path)
        usable(gateway)
        return gateway, good, left_out

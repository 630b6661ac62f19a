"""Fragments follow their first one, wait for it within bounds, and push each other out, oldest first."""

from dataclasses import replace

import pytest

from l4lb.director import fragments
from l4lb.director.fragments import LIFETIME, WAITING_EACH
from l4lb.model import DropReason, Endpoint, Limits, Protocol, Verdict
from tests.unit.director.gateway import (
    BACKEND,
    BACKEND6,
    CLIENT,
    CLIENT6,
    VIP,
    VIP6,
    Gateway,
    service,
)
from tests.unit.director.packets import ICMP, TCP, UDP, Sent, framed

QUERY = Sent(CLIENT, VIP, protocol=UDP, payload=bytes(4000), identification=7)


@pytest.fixture
def gateway():
    return Gateway(service(protocol=Protocol.UDP), limits=Limits(fragments=4))


def with_id(number: int, sent: Sent = QUERY) -> list[bytearray]:
    return replace(sent, identification=number).fragments(1400)


def lost(gateway: Gateway, reason: DropReason) -> int:
    gateway.tick()
    return gateway.director.drops[reason]


def test_whoever_comes_first_all_leave_to_the_same_backend(gateway):
    for number, order in enumerate([(0, 1, 2), (2, 1, 0), (1, 0, 2)]):
        pieces = with_id(number)
        gateway.director.out.clear()
        for index in order:
            gateway.process(pieces[index])
        ends = {(hop.index, bytes(frame[40:44])) for hop, frame, _ in gateway.director.out}
        assert ends == {(2, BACKEND.ip)}
        assert len(gateway.director.out) == 3


def test_one_of_another_datagram_does_not(gateway):
    gateway.send(with_id(1)[0])
    for other in (
        with_id(2)[1],
        with_id(1, replace(QUERY, source=replace(CLIENT, ip=bytes([10, 1, 0, 9]))))[1],
    ):
        assert gateway.send(other) is Verdict.HOLD


def test_what_waited_too_long_is_counted(gateway):
    gateway.send(with_id(1)[1])
    gateway.tick(LIFETIME - 1)
    gateway.send(with_id(2)[1])
    assert lost(gateway, DropReason.FRAGMENT_UNKNOWN) == 0
    gateway.now += 1
    gateway.send(with_id(3)[1])  # forgets the first one itself, before the next tick
    assert lost(gateway, DropReason.FRAGMENT_UNKNOWN) == 1
    assert gateway.send(with_id(1)[0]) is Verdict.FORWARD
    assert len(gateway.director.out) == 1


def test_a_datagram_is_remembered_for_its_lifetime(gateway):
    pieces = with_id(1)
    gateway.send(pieces[0])
    gateway.tick(LIFETIME - 0.1)
    assert gateway.send(pieces[1]) is Verdict.FORWARD
    gateway.tick(0.1)
    assert gateway.send(pieces[2]) is Verdict.HOLD


def test_only_so_many_wait_for_one(gateway):
    piece = with_id(1)[1]
    for _ in range(WAITING_EACH):
        assert gateway.send(bytearray(piece)) is Verdict.HOLD
    assert gateway.send(bytearray(piece)) is Verdict.DROP
    assert gateway.director.drops == {DropReason.FRAGMENTS_FULL: 1}


class TestFlood:
    """Forged fragments must not keep honest ones out for half a minute (LIFETIME)."""

    def test_later_fragments_push_out_older_ones_that_wait(self, gateway):
        for number in range(100, 106):
            assert gateway.send(with_id(number)[1]) is Verdict.HOLD
        assert len(gateway.director._fragments) == 4
        assert lost(gateway, DropReason.FRAGMENTS_FULL) == 2

    def test_later_fragments_do_not_push_out_datagrams_under_way(self, gateway):
        honest = with_id(1)
        gateway.send(honest[0])
        for number in range(100, 120):
            gateway.send(with_id(number)[1])
        assert gateway.send(honest[1]) is Verdict.FORWARD

    def test_first_fragments_push_out_the_oldest(self, gateway):
        for number in range(6):
            assert gateway.send(with_id(number)[0]) is Verdict.FORWARD
        assert len(gateway.director._fragments) == 4
        assert gateway.send(with_id(5)[1]) is Verdict.FORWARD
        assert gateway.send(with_id(0)[1]) is Verdict.HOLD

    def test_waiting_bytes_are_bounded(self, gateway, monkeypatch):
        monkeypatch.setattr(fragments, "WAITING_BYTES", 5000)
        for number in range(3):
            for _ in range(3):
                assert gateway.send(with_id(number)[1]) is Verdict.HOLD
            assert gateway.director._fragments._bytes <= 5000
        assert lost(gateway, DropReason.FRAGMENTS_FULL) == 6
        gateway.process(with_id(2)[1])
        assert lost(gateway, DropReason.FRAGMENTS_FULL) == 7, "no older one to push out"

    def test_whole_packets_with_a_fragment_header_take_no_place(self):
        """They are not fragments of anything (RFC 6946)."""
        gateway = Gateway(service(BACKEND6, protocol=Protocol.UDP))
        atomic = Sent(CLIENT6, VIP6, protocol=UDP, extensions=((44, bytes(7)),), payload=b"whole")
        assert gateway.forwarded(atomic).destination == BACKEND6
        assert len(gateway.director._fragments) == 0

    def test_fragments_of_others_take_no_place(self, gateway):
        """The packet filter may let some through."""
        stranger = replace(QUERY, destination=Endpoint.parse("10.1.0.200:80"))
        for piece in with_id(1, stranger):
            assert gateway.send(piece) is Verdict.PASS
        assert len(gateway.director._fragments) == 0


def test_a_long_ping_of_the_vip_is_the_hosts(gateway):
    ping = Sent(replace(CLIENT, port=0), replace(VIP, port=0), protocol=ICMP, identification=9)
    message = b"\x08\0\0\0" + bytes(2000)
    first = framed(ping.around(message[:1400], 0x2000))
    second = framed(ping.around(message[1400:], 1400 // 8))
    assert gateway.send(bytearray(second)) is Verdict.HOLD
    assert gateway.send(first) is Verdict.PASS
    assert [(hop, frame) for hop, frame, _ in gateway.director.out] == [(None, second)]
    assert gateway.send(second) is Verdict.PASS


def test_the_host_gets_its_own_fragments_back_in_any_order(gateway):
    pieces = with_id(1, replace(QUERY, destination=replace(VIP, port=53)))
    assert gateway.send(pieces[2]) is Verdict.HOLD
    assert gateway.send(pieces[0]) is Verdict.PASS
    assert [(hop, frame) for hop, frame, _ in gateway.director.out] == [(None, pieces[2])]
    assert gateway.send(pieces[1]) is Verdict.PASS


def test_fragments_of_a_connection_that_is_gone_are_dropped(gateway):
    pieces = with_id(1)
    gateway.send(pieces[0])
    gateway.director.reset(gateway.connection())
    assert gateway.send(pieces[1]) is Verdict.DROP
    assert gateway.director.drops == {DropReason.NO_CONNECTION: 1}


def test_a_segment_is_told_apart_from_a_datagram_of_the_same_number():
    gateway = Gateway(service(protocol=Protocol.UDP), service(name="tcp"))
    gateway.send(with_id(1)[0])
    assert gateway.send(with_id(1, replace(QUERY, protocol=TCP))[1]) is Verdict.HOLD


def test_the_first_one_again_is_a_new_datagram(gateway):
    """Sixteen bits of identification are used again soon."""
    pieces = with_id(1)
    gateway.send(bytearray(pieces[0]))
    gateway.tick(LIFETIME - 1)
    gateway.send(bytearray(pieces[0]))
    gateway.tick(2)
    assert gateway.send(bytearray(pieces[1])) is Verdict.FORWARD


def test_the_first_one_again_is_no_longer_the_oldest(gateway):
    for number in (1, 2, 3, 4, 1, 5):
        gateway.send(with_id(number)[0])
    verdicts = [gateway.send(with_id(number)[1]) for number in (1, 2)]
    assert verdicts == [Verdict.FORWARD, Verdict.HOLD]

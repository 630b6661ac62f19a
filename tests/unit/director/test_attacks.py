"""What a hostile network tries: nothing grows without bound, nobody else is hurt, little is answered.

Floods of SYNs, fragments and forged segments are in test_conntrack, test_ports, test_fragments and
test_pickup; forged errors in test_related; numbers out of the window in test_track.
"""

from dataclasses import replace

import pytest

from l4lb.director import direct
from l4lb.model import DropReason, Endpoint, Limits, Nat, Protocol, State, Verdict
from tests.unit.director.gateway import (
    BACKEND,
    BACKENDS,
    CLIENT,
    OTHER,
    VIP,
    Gateway,
    service,
)
from tests.unit.director.packets import ACK, FIN, PSH, RST, SYN, UDP, Sent


def clients(count, port=40_000):
    return [Endpoint(bytes([10, 1, 1 + number // 250, number % 250]), port) for number in range(count)]


class TestMemory:
    def test_of_direct_connections_is_bounded(self, monkeypatch):
        """Whoever can forge a backend's address can make up as many as it likes."""
        monkeypatch.setattr(direct, "LIMIT", 10)
        gateway = Gateway(service())
        kept = Sent(BACKEND, CLIENT, flags=ACK | PSH, payload=b"data")
        gateway.send(replace(kept, flags=SYN | ACK))
        for client in clients(50):
            assert gateway.send(Sent(BACKEND, client, flags=SYN | ACK)) is Verdict.PASS
            assert gateway.send(kept) is Verdict.PASS
            assert not gateway.director.out, "in use, so it is not forgotten"
            assert len(gateway.director._direct) <= 10

    def test_of_clients_is_bounded(self):
        """Forged ones, and those that were answered and have gone on."""
        gateway = Gateway(service(affinity_timeout=300.0), limits=Limits(affinity=5, half_open=7))
        for client in clients(20):
            gateway.open(client)
        remembered = gateway.director.services.clients[4]
        assert len(remembered) == 5
        for client in clients(40)[20:]:
            gateway.now += 1.1
            gateway.forwarded(Sent(client, VIP))
        assert len(remembered) == 5 + 7

    def test_what_is_dropped_leaves_nothing(self):
        """Too old to be forwarded, too large, or for nobody who could be reached."""
        gateway = Gateway(
            service(Endpoint.parse("192.0.2.7:80"), name="lost", vip=replace(VIP, port=81)), service()
        )
        for client in clients(20):
            gateway.send(Sent(client, VIP, ttl=1))
            gateway.send(Sent(client, VIP, payload=bytes(1500)))
            gateway.send(Sent(client, replace(VIP, port=81)))
        assert len(gateway.director.table) == 0
        paths = gateway.director.services.paths()
        assert all(path.connections_total == path.half_open == 0 for path in paths)

    def test_a_full_table_is_not_emptied_by_what_is_dropped(self):
        """A SYN that could not go on anyway pushes nobody out."""
        gateway = Gateway(service(), limits=Limits(half_open=2))
        for client in clients(2):
            gateway.forwarded(Sent(client, VIP))
        gateway.now += 5
        gateway.send(Sent(CLIENT, VIP, ttl=1))
        assert len(gateway.director.table) == 2


class TestAnswers:
    """An answer is never larger than what it answers, but for the little that an ICMP header takes."""

    @pytest.mark.parametrize("flags", [SYN, ACK, FIN | ACK, SYN | ACK, RST, 0, SYN | FIN])
    @pytest.mark.parametrize("size", [0, 1000])
    def test_to_tcp_are_one_small_segment_at_most(self, flags, size):
        gateway = Gateway(service(down=[BACKEND]))
        gateway.send(Sent(CLIENT, VIP, flags=flags, payload=bytes(size)))
        assert sum(end - 24 for _, _, end in gateway.director.out) in (0, 40)

    @pytest.mark.parametrize("size", [0, 100, 1000, 1400])
    def test_to_udp_are_no_longer_than_an_error_may_be(self, size):
        gateway = Gateway(service(down=[BACKEND], protocol=Protocol.UDP))
        asked = Sent(CLIENT, VIP, protocol=UDP, payload=bytes(size))
        gateway.send(asked)
        ((_, _, end),) = gateway.director.out
        assert end - 24 <= min(576, len(asked.packet()) + 28)

    def test_come_at_a_bounded_rate_whatever_asks_for_them(self):
        gateway = Gateway(service())
        answered = 0
        for number in range(25_000):
            client = Endpoint(bytes([10, 1, number >> 8, number & 0xFF]), 9)
            kind = number % 3
            if kind == 0:
                frame = Sent(client, VIP, flags=ACK)
            elif kind == 1:
                frame = Sent(client, VIP, ttl=1)
            else:
                frame = Sent(BACKEND, client, flags=ACK)
            gateway.send(frame)
            answered += bool(gateway.director.out)
        assert answered == 20_000

    def test_do_not_go_where_nothing_leads(self):
        gateway = Gateway(service())
        assert gateway.send(Sent(Endpoint.parse("192.0.2.1:1"), VIP, flags=ACK)) is Verdict.DROP
        assert not gateway.director.out


class TestOthers:
    """Forged packets must not change what others have."""

    def test_a_forged_syn_does_not_move_a_client_to_another_backend(self):
        gateway = Gateway(service(BACKEND, OTHER, affinity_timeout=300.0))
        first = gateway.forwarded(Sent(CLIENT, VIP)).destination
        for port in range(1, 10):
            gateway.forwarded(Sent(replace(CLIENT, port=port), VIP))
        assert gateway.forwarded(Sent(replace(CLIENT, port=99), VIP)).destination == first

    def test_a_forged_syn_does_not_restart_an_established_connection(self):
        gateway = Gateway(service(BACKEND, OTHER))
        ours, theirs = gateway.open()
        assert gateway.forwarded(replace(ours, flags=SYN, sequence=77)).destination == BACKEND
        assert gateway.connection(ours).state is State.ESTABLISHED
        assert gateway.forwarded(theirs).destination == CLIENT

    def test_a_backend_cannot_take_a_connection_of_another_over(self):
        gateway = Gateway(service(BACKEND, OTHER))
        ours, theirs = gateway.open()
        assert gateway.send(replace(theirs, source=OTHER, flags=RST)) is Verdict.PASS
        assert gateway.connection(ours).state is State.ESTABLISHED

    def test_two_clients_behind_one_tuple_are_told_apart(self):
        """One client uses one port for two services that share a backend."""
        gateway = Gateway(service(), service(name="more", vip=replace(VIP, port=81)))
        one = gateway.forwarded(Sent(CLIENT, VIP))
        two = gateway.forwarded(Sent(CLIENT, replace(VIP, port=81)))
        assert one.destination == two.destination == BACKEND
        assert one.source == CLIENT
        assert two.source.ip == CLIENT.ip
        assert two.source.port != CLIENT.port
        for seen, vip in ((one, VIP), (two, replace(VIP, port=81))):
            reply = gateway.forwarded(Sent(BACKEND, seen.source, flags=SYN | ACK, acknowledgement=1001))
            assert (reply.source, reply.destination) == (vip, CLIENT)

    def test_a_backend_as_client_of_its_own_service_is_not_sent_to_itself_by_its_own_tuple(self):
        gateway = Gateway(service(nat=Nat.FULL))
        seen = gateway.forwarded(Sent(BACKEND, VIP))
        assert seen.destination == BACKEND
        assert seen.source != BACKEND

    def test_fragments_that_overlap_go_on_as_they_came(self):
        """Putting them together, and judging them, is the receiver's (RFC 5722, RFC 1858)."""
        gateway = Gateway(service(protocol=Protocol.UDP))
        sent = Sent(CLIENT, VIP, protocol=UDP, payload=bytes(range(200)), identification=3)
        first, second, third = sent.fragments(72)
        later = [second, third, second, third]
        for piece in (first, *later):
            assert gateway.send(bytearray(piece)) is Verdict.FORWARD
            ((_, frame, end),) = gateway.director.out
            assert frame[40:44] == BACKEND.ip
            assert end == len(piece)


class TestDamage:
    def test_a_drop_names_one_reason(self):
        gateway = Gateway(service())
        frame = Sent(CLIENT, VIP, flags=SYN | FIN | RST, ttl=0).frame()
        assert gateway.send(frame) is Verdict.DROP
        assert gateway.director.drops == {DropReason.BAD_TCP_FLAGS: 1}

    def test_the_hop_decides_the_interface_and_not_the_packet(self):
        gateway = Gateway(service())
        gateway.send(Sent(CLIENT, VIP))
        assert [hop.index for hop, _, _ in gateway.director.out] == [BACKENDS]

"""What the packets of a connection make of it."""

from dataclasses import replace

import pytest

from l4lb.model import Limits, Protocol, State, Verdict
from tests.unit.director.gateway import BACKEND_ISN, CLIENT, CLIENT_ISN, VIP, Gateway, service
from tests.unit.director.packets import ACK, FIN, PSH, RST, SYN, UDP, Sent

SYN_OF_CLIENT = Sent(CLIENT, VIP, sequence=CLIENT_ISN)


@pytest.fixture
def gateway():
    return Gateway(service())


def syn_received(gateway: Gateway) -> tuple[Sent, Sent]:
    """The client's ACK that would complete the handshake, and the SYN/ACK that went before."""
    seen = gateway.forwarded(SYN_OF_CLIENT)
    syn_ack = Sent(
        seen.destination,
        seen.source,
        flags=SYN | ACK,
        sequence=BACKEND_ISN,
        acknowledgement=CLIENT_ISN + 1,
    )
    gateway.forwarded(syn_ack)
    assert gateway.connection().state is State.SYN_RECEIVED
    ack = replace(SYN_OF_CLIENT, flags=ACK, sequence=CLIENT_ISN + 1, acknowledgement=BACKEND_ISN + 1)
    return ack, syn_ack


class TestHandshake:
    def test_the_ack_of_the_syn_ack_completes_it(self, gateway):
        ack, _ = syn_received(gateway)
        gateway.forwarded(ack)
        assert gateway.connection().state is State.ESTABLISHED

    @pytest.mark.parametrize("off", [-1, 1 << 16, 1 << 31, BACKEND_ISN], ids=str)
    @pytest.mark.parametrize("flags", [ACK, ACK | PSH, FIN | ACK], ids=str)
    def test_an_ack_of_something_never_sent_does_not(self, gateway, off, flags):
        """Who forges a client's address sees no SYN/ACK. Its ACK must not take a place among the
        established for two hours: the backend may answer it with an ACK and not an RST (RFC 9293
        3.10.7.4, the sequence number is checked first), which would confirm nothing."""
        ack, _ = syn_received(gateway)
        number = (BACKEND_ISN + 1 + off) & 0xFFFF_FFFF
        gateway.forwarded(replace(ack, flags=flags, acknowledgement=number, sequence=7))
        assert gateway.connection().state is State.SYN_RECEIVED
        gateway.forwarded(ack)
        assert gateway.connection().state is State.ESTABLISHED

    def test_an_ack_of_early_data_completes_it(self, gateway):
        """TCP Fast Open lets the backend send a window of data before the first ACK (RFC 7413)."""
        ack, _ = syn_received(gateway)
        gateway.forwarded(replace(ack, acknowledgement=BACKEND_ISN + 1 + 65_535))
        assert gateway.connection().state is State.ESTABLISHED

    def test_sequence_numbers_wrap(self, gateway):
        _, syn_ack = syn_received(gateway)
        gateway.forwarded(replace(syn_ack, sequence=0xFFFF_FFFF))
        gateway.forwarded(replace(SYN_OF_CLIENT, flags=ACK, acknowledgement=0))
        assert gateway.connection().state is State.ESTABLISHED

    def test_the_last_syn_ack_counts(self, gateway):
        """With SYN cookies a backend may choose another number for the next one."""
        ack, syn_ack = syn_received(gateway)
        gateway.forwarded(replace(syn_ack, sequence=77))
        gateway.forwarded(ack)
        assert gateway.connection().state is State.SYN_RECEIVED
        gateway.forwarded(replace(ack, acknowledgement=78))
        assert gateway.connection().state is State.ESTABLISHED


class TestReset:
    """An RST counts only with a sequence number that its receiver may believe (RFC 5961 3.2)."""

    @pytest.mark.parametrize("of_client", [True, False], ids=["client", "backend"])
    @pytest.mark.parametrize(
        ("off", "state"),
        [
            (0, State.CLOSED),
            (1, State.ESTABLISHED),
            (0xFFFF, State.ESTABLISHED),
            (0x1_0000, State.ESTABLISHED),
            (-1, State.ESTABLISHED),
        ],
    )
    def test_with_the_very_number_it_closes(self, gateway, of_client, off, state):
        ours, theirs = gateway.open()
        sent = ours if of_client else theirs
        gateway.forwarded(replace(sent, flags=RST, sequence=sent.sequence + off))
        assert gateway.connection().state is state

    @pytest.mark.parametrize("of_client", [True, False], ids=["client", "backend"])
    @pytest.mark.parametrize(("off", "ends"), [(1, True), (0xFFFF, True), (0x1_0000, False), (-1, False)])
    def test_within_the_window_it_is_the_end_if_nobody_goes_on(self, gateway, of_client, off, ends):
        ours, theirs = gateway.open()
        sent = ours if of_client else theirs
        gateway.forwarded(replace(sent, flags=RST, sequence=sent.sequence + off))
        gateway.run_out(gateway.director.table.timeouts[State.CLOSED] + 1)
        assert len(gateway.director.table) == (not ends)

    @pytest.mark.parametrize("goes_on", ["client", "backend"])
    def test_a_forged_one_ends_nothing(self, gateway, goes_on):
        """Who gets it asks back with an ACK, as it is not the number it waits for."""
        ours, theirs = gateway.open()
        gateway.forwarded(replace(theirs, flags=RST, sequence=theirs.sequence + 1000))
        gateway.forwarded(replace(ours if goes_on == "client" else theirs, flags=ACK))
        gateway.run_out(2 * gateway.director.table.timeouts[State.CLOSED])
        assert gateway.connection().state is State.ESTABLISHED

    def test_a_scaled_window_is_as_large_as_both_ends_agreed(self, gateway):
        scale = {"options": bytes([1, 3, 3, 7])}
        seen = gateway.forwarded(replace(SYN_OF_CLIENT, **scale))
        theirs = Sent(
            seen.destination, seen.source, flags=SYN | ACK, sequence=BACKEND_ISN, acknowledgement=1001
        )
        gateway.forwarded(replace(theirs, **scale))
        ours = replace(SYN_OF_CLIENT, sequence=1001, acknowledgement=BACKEND_ISN + 1)
        gateway.forwarded(replace(ours, flags=ACK))
        gateway.forwarded(replace(ours, flags=RST, sequence=1001 + (0xFFFF << 7) + 1))
        assert gateway.connection().state is State.ESTABLISHED
        doubted = gateway.connection().seen
        gateway.forwarded(replace(ours, flags=RST, sequence=1001 + (0xFFFF << 7)))
        assert gateway.connection().seen < doubted

    def test_what_one_end_offers_alone_scales_nothing(self, gateway):
        """RFC 7323 1.3."""
        gateway.forwarded(replace(SYN_OF_CLIENT, options=bytes([1, 3, 3, 7])))
        seen = gateway.forwarded(SYN_OF_CLIENT)
        gateway.forwarded(replace(SYN_OF_CLIENT, options=bytes([1, 3, 3, 7])))
        theirs = Sent(
            seen.destination, seen.source, flags=SYN | ACK, sequence=BACKEND_ISN, acknowledgement=1001
        )
        gateway.forwarded(theirs)
        assert gateway.connection().shifts == 0

    def test_what_the_other_end_forged_changes_nothing(self, gateway):
        """Who can send as the client cannot choose the number that a client's RST is held against."""
        ours, _ = gateway.open()
        gateway.forwarded(replace(ours, acknowledgement=0x4000_0000, sequence=0x4000_0000))
        gateway.forwarded(replace(ours, flags=RST, sequence=0x4000_0000))
        assert gateway.connection().state is State.ESTABLISHED

    def test_the_answer_to_a_refused_syn_closes(self, gateway):
        seen = gateway.forwarded(SYN_OF_CLIENT)
        refusal = Sent(seen.destination, seen.source, flags=RST | ACK, sequence=0, acknowledgement=1001)
        gateway.forwarded(refusal)
        assert gateway.connection().state is State.CLOSED


def test_every_packet_counts_as_seen(gateway):
    ours, theirs = gateway.open()
    for sent in (ours, theirs):
        gateway.now += 10
        gateway.forwarded(sent)
        assert gateway.connection().seen == gateway.now


def test_udp_is_a_flow_once_the_client_goes_on_after_an_answer():
    gateway = Gateway(service(protocol=Protocol.UDP))
    query = Sent(CLIENT, VIP, protocol=UDP)
    seen = gateway.forwarded(query)
    gateway.forwarded(query)
    assert gateway.connection().state is State.UDP_NEW
    gateway.forwarded(Sent(seen.destination, seen.source, protocol=UDP))
    gateway.forwarded(Sent(seen.destination, seen.source, protocol=UDP))
    assert gateway.connection().state is State.UDP_ANSWERED
    gateway.forwarded(query)
    assert gateway.connection().state is State.UDP


def test_a_segment_with_impossible_flags_is_dropped_and_tracked_not_at_all(gateway):
    ours, _ = gateway.open()
    gateway.now += 10
    assert gateway.send(replace(ours, flags=SYN | FIN)) is Verdict.DROP
    assert gateway.connection().seen == gateway.now - 10


class TestClose:
    """A FIN counts if it can be the next: a forged one would take an hour off an idle connection, and
    the fast path from a busy one."""

    @pytest.mark.parametrize("of_client", [True, False], ids=["client", "backend"])
    @pytest.mark.parametrize(
        ("off", "payload", "closes"),
        [
            (0, b"", True),
            (0, b"data", True),
            (0xFFFF, b"", True),
            (-4, b"data", True),  # all of it but the FIN was acknowledged
            (-1, b"", False),
            (0x1_0000, b"", False),
            (1 << 31, b"", False),
        ],
    )
    def test_within_the_window(self, gateway, of_client, off, payload, closes):
        ours, theirs = gateway.open()
        sent = ours if of_client else theirs
        gateway.forwarded(replace(sent, flags=FIN | ACK, sequence=sent.sequence + off, payload=payload))
        closing = State.CLIENT_FIN if of_client else State.BACKEND_FIN
        assert gateway.connection().state is (closing if closes else State.ESTABLISHED)


def test_a_forged_syn_does_not_change_the_windows_of_an_established_connection(gateway):
    scale = {"options": bytes([1, 3, 3, 7])}
    seen = gateway.forwarded(replace(SYN_OF_CLIENT, **scale))
    theirs = Sent(
        seen.destination, seen.source, flags=SYN | ACK, sequence=BACKEND_ISN, acknowledgement=1001
    )
    gateway.forwarded(replace(theirs, **scale))
    ours = replace(SYN_OF_CLIENT, sequence=1001, acknowledgement=BACKEND_ISN + 1, flags=ACK)
    gateway.forwarded(ours)
    gateway.forwarded(SYN_OF_CLIENT)
    gateway.forwarded(theirs)
    gateway.forwarded(replace(theirs, flags=RST, sequence=BACKEND_ISN + 1 + (0xFFFF << 7)))
    gateway.run_out(11.0)
    assert len(gateway.director.table) == 0


def test_a_stream_that_nobody_answers_is_not_pushed_out_while_it_goes_on():
    """syslog and the like, beside questions that are over: those go first."""
    gateway = Gateway(service(protocol=Protocol.UDP), limits=Limits(half_open=10))
    stream = Sent(CLIENT, VIP, protocol=UDP)
    gateway.forwarded(stream)
    for number in range(60):
        gateway.now += 0.5
        gateway.forwarded(Sent(replace(CLIENT, port=50_000 + number), VIP, protocol=UDP))
        gateway.forwarded(stream)
    assert gateway.director.table.evicted
    assert gateway.connection(stream).path.connections_total == 61

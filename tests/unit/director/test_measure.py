"""What is learnt of backends from the packets that pass: requests and answers, handshakes, resets."""

from dataclasses import replace

import pytest

from l4lb.director.director import Director
from l4lb.director.fastpath import fast_path
from l4lb.model import Protocol, Verdict
from tests.unit.director.gateway import (
    BACKEND,
    BACKEND_ISN,
    CLIENT,
    CLIENT_ISN,
    VIP,
    Gateway,
    service,
)
from tests.unit.director.packets import ACK, FIN, PSH, RST, SYN, UDP, Sent


class Conversation:
    """One TCP connection through a gateway, whose packets have the right numbers."""

    def __init__(self, *, fast=False, gateway=None):
        self.gateway = gateway or Gateway(service(BACKEND))
        self.ours, self.theirs = self.gateway.open()
        self._fast = fast_path(self.gateway.director.table) if fast else None

    def pass_on(self, packet):
        frame = packet.frame()
        if self._fast is not None:
            assert self._fast(frame, len(frame), self.gateway.now) is not None
        else:
            assert self.gateway.send(packet) is Verdict.FORWARD

    def client(self, data=b"", flags=ACK):
        packet = replace(self.ours, payload=data, flags=flags)
        self.pass_on(packet)
        after = packet.sequence + len(data)
        self.ours = replace(self.ours, sequence=after)
        self.theirs = replace(self.theirs, acknowledgement=after)
        return packet

    def backend(self, data=b"", flags=ACK):
        packet = replace(self.theirs, payload=data, flags=flags)
        self.pass_on(packet)
        after = packet.sequence + len(data)
        self.theirs = replace(self.theirs, sequence=after)
        self.ours = replace(self.ours, acknowledgement=after)
        return packet

    def later(self, seconds):
        self.gateway.now += seconds

    @property
    def path(self):
        (path,) = self.gateway.director.services.paths()
        return path


@pytest.fixture(params=[False, True], ids=["clear", "fast"])
def talk(request):
    return Conversation(fast=request.param)


def path_of(director: Director):
    (path,) = director.services.paths()
    return path


class TestARequest:
    def test_waits_from_its_first_packet_to_the_first_of_its_answer(self, talk):
        talk.client(b"GET /")
        assert talk.path.outstanding == 1
        talk.later(0.2)
        talk.client(b"rest of it")
        talk.backend()  # a bare ACK is no answer
        assert talk.path.outstanding == 1
        talk.later(0.3)
        talk.backend(b"200 OK")
        talk.later(9.0)
        talk.backend(b"more of it")
        assert talk.path.outstanding == 0
        assert talk.path.responses.count == 1
        assert talk.path.responses.total == pytest.approx(0.5)

    def test_each_of_a_kept_connection_is_measured(self, talk):
        for seconds in (0.1, 0.2, 0.3):
            talk.client(b"GET /")
            talk.later(seconds)
            talk.backend(b"200 OK")
            talk.later(5.0)
        assert talk.path.responses.count == 3
        assert talk.path.responses.total == pytest.approx(0.6)

    def test_a_server_that_speaks_first_answers_nothing(self, talk):
        talk.backend(b"220 ready")
        talk.later(1.0)
        talk.client(b"EHLO")
        talk.later(0.1)
        talk.backend(b"250")
        assert talk.path.responses.count == 1
        assert talk.path.responses.total == pytest.approx(0.1)

    def test_data_that_is_sent_again_is_neither(self, talk):
        request = talk.client(b"GET /")
        talk.later(0.1)
        answer = talk.backend(b"200 OK")
        talk.pass_on(request)  # the backend's ACK was lost
        assert talk.path.outstanding == 0
        talk.client(b"GET /2")
        talk.later(0.4)
        talk.pass_on(answer)  # the client's ACK was lost
        assert talk.path.outstanding == 1
        talk.backend(b"200 OK")
        assert talk.path.responses.total == pytest.approx(0.5)

    def test_a_keepalive_probe_with_a_byte_asks_nothing(self, talk):
        talk.client(b"GET /")
        talk.backend(b"200 OK")
        talk.pass_on(replace(talk.ours, sequence=talk.ours.sequence - 1, payload=b"\0"))
        assert talk.path.outstanding == 0

    def test_numbers_that_wrap(self):
        talk = Conversation()
        connection = talk.gateway.connection()
        connection.acked_by_backend = 0xFFFF_FFFE
        talk.ours = replace(talk.ours, sequence=0xFFFF_FFFE)
        talk.pass_on(replace(talk.ours, payload=b"GET /"))
        assert talk.path.outstanding == 1

    def test_a_stream_that_nobody_answers_waits_and_is_not_measured(self, talk):
        for _ in range(5):
            talk.client(b"log line")
            talk.later(1.0)
            talk.backend()
        assert talk.path.outstanding == 1
        assert talk.path.responses.count == 0
        talk.gateway.run_out(8_000)
        assert talk.path.outstanding == 0


class TestAnEndWhileSomethingWaits:
    @pytest.fixture
    def talk(self):
        talk = Conversation()
        talk.client(b"GET /")
        return talk

    @pytest.mark.parametrize("side", ["client", "backend"])
    def test_reset(self, talk, side):
        getattr(talk, side)(flags=RST | ACK)
        assert talk.path.outstanding == 0
        assert talk.path.responses.count == 0
        assert talk.path.resets == (side == "backend")
        talk.gateway.run_out(8_000)
        assert talk.path.outstanding == 0

    def test_a_reset_counts_once(self, talk):
        talk.backend(flags=RST | ACK)
        talk.backend(flags=RST | ACK)
        assert talk.path.resets == 1

    def test_a_backend_that_closes_without_an_answer(self, talk):
        talk.backend(flags=FIN | ACK)
        assert talk.path.outstanding == 0
        assert talk.path.responses.count == 0

    def test_a_client_that_has_said_all_it_has_to_say_still_waits(self, talk):
        talk.client(flags=FIN | ACK)
        assert talk.path.outstanding == 1
        talk.later(0.5)
        talk.backend(b"200 OK", flags=FIN | ACK)
        assert talk.path.outstanding == 0
        assert talk.path.responses.count == 1

    def test_expiry(self, talk):
        talk.gateway.run_out(8_000)
        assert talk.path.outstanding == 0
        assert talk.path.asked == 0.0

    def test_a_flush(self, talk):
        talk.gateway.director.reset(talk.gateway.connection())
        assert talk.path.outstanding == 0

    def test_its_backend_goes_down(self, talk):
        path = talk.path
        talk.gateway.configure(service(BACKEND, down=[BACKEND]))
        talk.gateway.tick()
        assert path.outstanding == 0


class TestAHandshake:
    def gateway(self):
        return Gateway(service(BACKEND))

    def test_is_timed_from_the_syn_to_the_syn_ack(self):
        gateway = self.gateway()
        gateway.forwarded(Sent(CLIENT, VIP, sequence=CLIENT_ISN))
        gateway.now += 0.025
        gateway.forwarded(
            Sent(BACKEND, CLIENT, flags=SYN | ACK, sequence=BACKEND_ISN, acknowledgement=CLIENT_ISN + 1)
        )
        path = path_of(gateway.director)
        assert path.handshakes.count == 1
        assert path.handshakes.total == pytest.approx(0.025)
        assert path.in_flight == 1
        assert path.outstanding == 0

    def test_a_syn_sent_again_is_counted_and_its_handshake_not_timed(self):
        gateway = self.gateway()
        syn = Sent(CLIENT, VIP, sequence=CLIENT_ISN)
        gateway.forwarded(syn)
        gateway.now += 1.0
        gateway.forwarded(syn)
        gateway.forwarded(
            Sent(BACKEND, CLIENT, flags=SYN | ACK, sequence=BACKEND_ISN, acknowledgement=CLIENT_ISN + 1)
        )
        path = path_of(gateway.director)
        assert path.retransmissions == 1
        assert path.handshakes.count == 0

    def test_one_without_an_answer(self):
        gateway = self.gateway()
        gateway.forwarded(Sent(CLIENT, VIP, sequence=CLIENT_ISN))
        gateway.run_out(100)
        assert path_of(gateway.director).unanswered == 1

    def test_a_refusal_is_a_reset_and_an_answer(self):
        gateway = self.gateway()
        gateway.forwarded(Sent(CLIENT, VIP, sequence=CLIENT_ISN))
        gateway.forwarded(
            Sent(BACKEND, CLIENT, flags=RST | ACK, sequence=0, acknowledgement=CLIENT_ISN + 1)
        )
        gateway.run_out(100)
        path = path_of(gateway.director)
        assert (path.resets, path.unanswered, path.outstanding) == (1, 0, 0)

    def test_the_ack_that_ends_it_may_ask_at_once(self):
        gateway = self.gateway()
        gateway.forwarded(Sent(CLIENT, VIP, sequence=CLIENT_ISN))
        gateway.forwarded(
            Sent(BACKEND, CLIENT, flags=SYN | ACK, sequence=BACKEND_ISN, acknowledgement=CLIENT_ISN + 1)
        )
        gateway.forwarded(
            Sent(
                CLIENT,
                VIP,
                flags=ACK | PSH,
                sequence=CLIENT_ISN + 1,
                acknowledgement=BACKEND_ISN + 1,
                payload=b"GET /",
            )
        )
        path = path_of(gateway.director)
        assert (path.half_open, path.outstanding, path.in_flight) == (0, 1, 1)

    def test_a_backend_that_knows_another_connection_ends_it_without_a_time(self):
        """A challenge ACK (RFC 5961 4) makes the entry established; its SYN was never answered."""
        gateway = self.gateway()
        gateway.forwarded(Sent(CLIENT, VIP, sequence=CLIENT_ISN))
        gateway.forwarded(Sent(BACKEND, CLIENT, flags=ACK, sequence=5, acknowledgement=6))
        path = path_of(gateway.director)
        assert (path.handshakes.count, path.outstanding) == (0, 0)
        gateway.run_out(8_000)
        assert path.outstanding == 0


class TestUdp:
    def test_a_question_and_its_answer(self):
        gateway = Gateway(service(BACKEND, protocol=Protocol.UDP))
        question = Sent(CLIENT, VIP, protocol=UDP, payload=b"?")
        gateway.forwarded(question)
        path = path_of(gateway.director)
        assert path.in_flight == path.outstanding == 1
        gateway.now += 0.01
        gateway.forwarded(Sent(BACKEND, CLIENT, protocol=UDP, payload=b"!"))
        assert path.in_flight == 0
        assert path.load == 1
        assert path.responses.total == pytest.approx(0.01)

    def test_a_question_without_an_answer_is_forgotten(self):
        gateway = Gateway(service(BACKEND, protocol=Protocol.UDP))
        gateway.forwarded(Sent(CLIENT, VIP, protocol=UDP, payload=b"?"))
        gateway.run_out(400)
        path = path_of(gateway.director)
        assert (path.outstanding, path.unanswered) == (0, 1)

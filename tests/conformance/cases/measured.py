"""What is learnt of backends in passing: requests and their answers, handshakes, resets."""

from l4lb.model import State
from tests.conformance.case import Row, forward, measured, packet_case, table, wait
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    answered,
    asked,
    from_backend,
    from_client,
    handshake,
    syn,
    syn_ack,
)
from tests.conformance.packets import tcp
from tests.conformance.plans import UDP, plan, service

LONGEST = (2**29 - 1) * 4_096e-9  # seconds: of so many units eight times as many fit into 32 bits


@packet_case()
def a_request_and_its_answer(net):
    """In several packets each: from the first of the one to the first of the other."""
    ask, answer = {"data": b"question"}, {"data": b"answer"}
    more = CLIENT_NEXT + 8
    return plan(service(net)), [
        handshake(net, net.web1),
        measured(net.web1, handshakes=1),
        from_client(net, net.web1, "PA", **ask),
        from_client(net, net.web1, "PA", seq=more, **ask),
        from_backend(net, net.web1, ack=more),
        measured(net.web1, handshakes=1, outstanding=1),
        from_backend(net, net.web1, "PA", ack=more + 8, **answer),
        from_backend(net, net.web1, "PA", seq=BACKEND_NEXT + 6, ack=more + 8, **answer),
        measured(net.web1, handshakes=1, responses=1),
        from_client(net, net.web1, "PA", seq=more + 8, ack=BACKEND_NEXT + 12, **ask),
        measured(net.web1, handshakes=1, responses=1, outstanding=1),
    ]


@packet_case()
def a_server_that_speaks_first(net):
    """Its greeting answers nothing."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1, "PA", data=b"220 ready"),
        measured(net.web1, handshakes=1),
        from_client(net, net.web1, "PA", ack=BACKEND_NEXT + 9, data=b"EHLO"),
        measured(net.web1, handshakes=1, outstanding=1),
    ]


@packet_case()
def data_that_is_sent_again(net):
    """What was acknowledged, and a keep-alive probe's byte of it, ask nothing and answer nothing."""
    answer = {"ack": CLIENT_NEXT + 8, "data": b"answer"}
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        from_backend(net, net.web1, "PA", **answer),
        from_client(net, net.web1, "PA", data=b"question"),
        from_client(net, net.web1, "A", seq=CLIENT_NEXT + 7, ack=BACKEND_NEXT + 6, data=b"n"),
        measured(net.web1, handshakes=1, responses=1),
        from_client(net, net.web1, "PA", seq=CLIENT_NEXT + 8, ack=BACKEND_NEXT + 6, data=b"question"),
        from_backend(net, net.web1, "PA", **answer),
        measured(net.web1, handshakes=1, responses=1, outstanding=1),
    ]


@packet_case()
def the_last_ack_asks_at_once(net):
    """The ACK that ends the handshake carries the request."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        measured(net.web1, handshakes=1, outstanding=1),
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 8, data=b"answer"),
        measured(net.web1, handshakes=1, responses=1),
    ]


@packet_case()
def an_answer_that_ends_the_connection(net):
    """The client has said all it has to say, and the answer comes with the backend's FIN."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FPA", data=b"question"),
        measured(net.web1, handshakes=1, outstanding=1),
        from_backend(net, net.web1, "FPA", ack=CLIENT_NEXT + 9, data=b"answer"),
        measured(net.web1, handshakes=1, responses=1),
    ]


@packet_case()
def a_backend_that_closes_without_an_answer(net):
    """Nothing is outstanding any more, and no time was taken."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 8),
        measured(net.web1, handshakes=1),
    ]


@packet_case()
def resets_while_something_is_outstanding(net):
    """By the backend, which counts once, however often it says so."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        from_backend(net, net.web1, "RA", ack=CLIENT_NEXT + 8),
        from_backend(net, net.web1, "RA", ack=CLIENT_NEXT + 8),
        measured(net.web1, handshakes=1, resets=1),
    ]


@packet_case()
def a_reset_after_both_have_closed(net):
    """Healthy servers do so where a client's last words came too late to be read."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1, "FA"),
        from_client(net, net.web1, "FA", ack=BACKEND_NEXT + 1),
        from_backend(net, net.web1, "R", seq=BACKEND_NEXT + 1),
        table(Row(net.client, net.web1, State.CLOSED)),
        measured(net.web1, handshakes=1),
    ]


@packet_case()
def a_reset_in_time_wait(net):
    """As after the last ACK."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        from_client(net, net.web1, "A", seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 1),
        from_backend(net, net.web1, "RA", seq=BACKEND_NEXT + 1, ack=CLIENT_NEXT + 1),
        table(Row(net.client, net.web1, State.CLOSED)),
        measured(net.web1, handshakes=1),
    ]


@packet_case()
def a_reset_after_one_has_closed(net):
    """The client that closes may still wait for its answer, and the server that closes gives up."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FPA", data=b"question"),
        from_backend(net, net.web1, "RA", ack=CLIENT_NEXT + 9),
        measured(net.web1, handshakes=1, resets=1),
    ]


@packet_case()
def a_reset_by_the_client(net):
    """It ends the request; the backend has done nothing."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        from_client(net, net.web1, "RA", seq=CLIENT_NEXT + 8),
        measured(net.web1, handshakes=1),
    ]


@packet_case()
def a_syn_that_is_sent_again(net):
    """It counts, and nobody knows which one was answered (Karn and Partridge, SIGCOMM 1987)."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn(net, net.web1),
        syn_ack(net, net.web1),
        measured(net.web1, retransmissions=1),
        syn(net, net.web1),
        measured(net.web1, retransmissions=1),
    ]


@packet_case()
def a_syn_that_is_refused(net):
    """A reset is an answer, and a handshake that came to nothing takes no time."""
    refusal = {"seq": 0, "ack": CLIENT_NEXT}
    return plan(service(net)), [
        syn(net, net.web1),
        forward(
            tcp(net.web1, net.client, "RA", **refusal), tcp(net.vip, net.client, "RA", **refusal, ttl=HOP)
        ),
        measured(net.web1, resets=1),
    ]


@packet_case()
def nobody_answers(net):
    """The connection is forgotten, and the backend is known not to have said a word."""
    return plan(service(net)), [
        syn(net, net.web1),
        wait(61),
        measured(net.web1, unanswered=1),
    ]


@packet_case()
def a_request_of_a_connection_that_expires(net):
    """The count of what is outstanding never leaks."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        wait(7_500),
        measured(net.web1, handshakes=1),
    ]


@packet_case()
def an_answer_after_forty_minutes(net):
    """In the average it counts as the longest time that has room there, and the next one as what it is."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        wait(2_400),
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 8, data=b"answer"),
        measured(net.web1, handshakes=1, responses=1, average=LONGEST),
        from_client(net, net.web1, "PA", seq=CLIENT_NEXT + 8, ack=BACKEND_NEXT + 6, data=b"question"),
        wait(8),
        from_backend(net, net.web1, "PA", seq=BACKEND_NEXT + 6, ack=CLIENT_NEXT + 16, data=b"answer"),
        measured(net.web1, handshakes=1, responses=2, average=LONGEST * 7 / 8 + 1),
    ]


@packet_case()
def questions_over_udp(net):
    """Each datagram of the client asks, unless something is outstanding."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        asked(net, net.web1),
        measured(net.web1, outstanding=1),
        answered(net, net.web1),
        answered(net, net.web1),
        measured(net.web1, responses=1),
        asked(net, net.web1),
        answered(net, net.web1),
        measured(net.web1, responses=2),
    ]


@packet_case()
def a_forged_segment_asks_nothing(net):
    """In the handshake, with an acknowledgement that no SYN/ACK asked for."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        from_client(net, net.web1, "PA", ack=BACKEND_NEXT + 100_000, data=b"question"),
        table(Row(net.client, net.web1, State.SYN_RECEIVED)),
        measured(net.web1, handshakes=1),
        from_client(net, net.web1, "RA", seq=CLIENT_SEQ + 1),
        measured(net.web1, handshakes=1),
    ]


@packet_case()
def data_behind_the_end_of_the_backend(net):
    """What the backend has closed it does not answer on, so nobody waits for it."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1, "FA"),
        from_client(net, net.web1, "PA", ack=BACKEND_NEXT + 1, data=b"too late"),
        measured(net.web1, handshakes=1),
    ]


@packet_case()
def data_in_the_answer_to_another_syn(net):
    """TCP Fast Open on a port that is used again: it is no answer to what the old connection waited for."""
    new, numbers = {"seq": 5_000}, {"seq": 6_000, "ack": 5_001, "data": b"early"}
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        forward(tcp(net.client, net.vip, "S", **new), tcp(net.client, net.web1, "S", **new, ttl=HOP)),
        forward(
            tcp(net.web1, net.client, "SA", **numbers), tcp(net.vip, net.client, "SA", **numbers, ttl=HOP)
        ),
        measured(net.web1, handshakes=1, confirmed=2),
    ]

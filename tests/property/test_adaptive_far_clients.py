"""Adaptive on what the director counts of real packets, where the clients are far away or forged: what it
waits for of them says nothing of the backends."""

import heapq
import itertools
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from l4lb.datapath.raw.reports import loads
from l4lb.model import Costs, Endpoint, Protocol
from l4lb.schedulers import adaptive
from l4lb.schedulers.measured import between
from l4lb.schedulers.scheduler import Candidate
from tests.unit.director.gateway import BACKEND, CLIENT, OTHER, VIP, Gateway, service
from tests.unit.director.packets import ACK, FIN, PSH, SYN, UDP, Sent

LOOK = 0.05
RATE = 100
SECONDS = 20
TAKES = {BACKEND: 0.002, OTHER: 0.02}  # seconds for an answer


class Run:
    """Clients with one request each, at fixed times, and a scheduler that looks on."""

    def __init__(self, protocol, takes=TAKES):
        self.takes = takes
        self.gateway = Gateway(
            service(BACKEND, OTHER, protocol=protocol, selection=Costs(((0, 1), (1, 1))))
        )
        self.candidates = [Candidate(index, address, 1) for index, address in enumerate(TAKES)]
        self.pool, self.before = adaptive.Pool(), {}
        self.begun = self.gateway.now
        self.chosen = Counter()
        self._due, self._order = [], itertools.count()
        self.random = Random(1)

    def at(self, after, what, *arguments):
        heapq.heappush(self._due, (self.gateway.now + after, next(self._order), what, arguments))

    def run(self):
        self.at(0.0, self.look)
        while self._due[0][0] < self.begun + SECONDS:
            self.gateway.now, _, what, arguments = heapq.heappop(self._due)
            what(*arguments)
        return self.chosen

    def look(self):
        self.gateway.tick()
        now = self.gateway.now
        found = {backend: load for (_, backend), load in loads(self.gateway.director, {"web"}, now).items()}
        seen = {each: between(self.before.get(each, load), load) for each, load in found.items()}
        self.before = found
        self.pool = adaptive.observe(self.pool, seen, now)
        self.gateway.director.services.reweigh({"web": adaptive.costs(self.candidates, self.pool, now)})
        self.at(LOOK, self.look)

    def begins(self, packet):
        backend = self.gateway.forwarded(packet).destination
        if self.gateway.now > self.begun + SECONDS / 2:
            self.chosen[backend] += 1
        return backend


def client(number):
    return Endpoint(
        CLIENT.ip[:2] + bytes([1 + number // 250 % 250, 1 + number % 250]), 1024 + number % 60_000
    )


def tcp_clients(run, trip, rate=RATE):
    """``trip``: seconds from the gateway to a client and back."""

    def syn(number):
        run.at(1 / rate, syn, number + 1)
        sent = Sent(client(number), VIP)
        backend = run.begins(sent)
        answer = Sent(backend, sent.source, flags=SYN | ACK, sequence=7, acknowledgement=sent.sequence + 1)
        run.gateway.forwarded(answer)
        run.at(trip, ask, sent, backend)

    def ask(sent, backend):
        numbers = {"sequence": sent.sequence + 1, "acknowledgement": 8}
        run.gateway.forwarded(replace(sent, flags=ACK | PSH, payload=b"?", **numbers))
        run.at(run.takes[backend], answer, sent, backend)

    def answer(sent, backend):
        numbers = {"sequence": 8, "acknowledgement": sent.sequence + 2}
        reply = Sent(backend, sent.source, flags=ACK | PSH | FIN, payload=b"!", **numbers)
        run.gateway.forwarded(reply)
        numbers = {"sequence": sent.sequence + 2, "acknowledgement": 10}
        run.gateway.forwarded(replace(sent, flags=ACK | FIN, **numbers))

    run.at(0.0, syn, 0)


def udp_clients(run):
    def ask(number):
        run.at(1 / RATE, ask, number + 1)
        sent = Sent(client(number), VIP, protocol=UDP, payload=b"?")
        backend = run.begins(sent)
        run.at(run.takes[backend], answer, sent, backend)

    def answer(sent, backend):
        run.gateway.forwarded(Sent(backend, sent.source, protocol=UDP, payload=b"!"))

    run.at(0.0, ask, 0)


def forged_syns(run):
    """Answered by the backends, and by nobody after that."""

    def syn(number):
        run.at(run.random.expovariate(2 * RATE), syn, number + 1)
        sent = Sent(client(40_000 + number % 20_000), VIP)
        backend = run.gateway.forwarded(sent).destination
        answer = Sent(backend, sent.source, flags=SYN | ACK, sequence=7, acknowledgement=sent.sequence + 1)
        run.gateway.forwarded(answer)

    run.at(0.0, syn, 0)


@pytest.mark.parametrize("trip", [0.0, 0.03, 0.1])
def test_round_trips_hide_no_slow_backend(trip):
    run = Run(Protocol.TCP)
    tcp_clients(run, trip)
    chosen = run.run()
    assert chosen[OTHER] < 0.2 * chosen.total()
    response = run.pool.backends[BACKEND].response_time
    assert response == pytest.approx(TAKES[BACKEND], rel=0.1)


def test_answered_datagrams_hide_none_either():
    run = Run(Protocol.UDP)
    udp_clients(run)
    chosen = run.run()
    assert chosen[OTHER] < 0.2 * chosen.total()


def test_nor_does_a_slow_flood():
    """What it leaves half-open counts as in flight, by which both become equally dear, but it makes nobody
    slow and hides nobody who is."""
    run = Run(Protocol.TCP)
    tcp_clients(run, 0.0)
    forged_syns(run)
    run.run()
    fast, slow = (run.pool.backends[each].price(run.gateway.now) for each in TAKES)
    assert fast < adaptive.ALIKE < 3 < slow


@pytest.mark.parametrize("takes", [0.01, 0.1])
def test_a_request_that_nobody_answers_keeps_nobody_from_a_backend(takes):
    """Any client can send one, and hold it for as long as it likes."""
    run = Run(Protocol.TCP, dict.fromkeys(TAKES, takes))
    tcp_clients(run, 0.0)
    run.at(2.0, hang, run)
    chosen = run.run()
    assert chosen[OTHER] > 0.25 * chosen.total()


def hang(run):
    """A request to OTHER for which there is no answer; it takes a try or two to get there."""
    for number in itertools.count(50_000):
        sent = Sent(client(number), VIP)
        backend = run.gateway.forwarded(sent).destination
        answer = Sent(backend, sent.source, flags=SYN | ACK, sequence=7, acknowledgement=sent.sequence + 1)
        run.gateway.forwarded(answer)
        asked = replace(sent, flags=ACK | PSH, payload=b"?", sequence=sent.sequence + 1, acknowledgement=8)
        if backend == OTHER:
            run.gateway.forwarded(asked)
            return


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_quick_backends_with_little_to_do_are_treated_alike(rate):
    """Some tens of microseconds more or less, as between caches that are warm and cold, mean nothing."""
    takes = {BACKEND: 50e-6, OTHER: 200e-6}
    run = Run(Protocol.TCP, takes)
    tcp_clients(run, 0.0, rate * RATE)
    chosen = run.run()
    assert 0.3 * chosen.total() < chosen[OTHER] < 0.7 * chosen.total()

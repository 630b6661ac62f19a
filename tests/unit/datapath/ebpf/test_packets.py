"""What the programs make of packets where a packet case cannot say so: on several CPUs, whose clocks are a
tick apart, and without a daemon that sweeps."""

import mmap
import os
from collections import Counter
from random import Random
from time import monotonic

import pytest

from l4lb.model import DropReason, State, Timeouts, Verdict
from tests.conformance import plans
from tests.conformance.packets import tcp
from tests.conformance.world import GATEWAY_MAC, V4, V6, route, side_of
from tests.differential.program import Program

CLIENT_SEQ, BACKEND_SEQ = 1_000, 5_000
TICK = 0.004  # seconds, at 250 Hz
WRAP = (1 << 32) * 4_096e-9  # seconds: when the times that connections remember begin anew


@pytest.fixture(scope="module")
def loaded(bpf_possible):
    program = Program("tc")
    try:
        with program.inside():
            yield program
    finally:
        program.close()


@pytest.fixture
def program(loaded):
    loaded.reset()
    return loaded


def framed(packet):
    """A packet as its sender's next hop hands it over, and where it comes."""
    side = side_of(packet.source)
    return packet.on_wire(route(packet.source).mac, GATEWAY_MAC[side]), side


def send(program, packet):
    return program.send(*framed(packet))


def handshake(net, client):
    return (
        tcp(client, net.vip, "S", seq=CLIENT_SEQ),
        tcp(net.web1, client, "SA", seq=BACKEND_SEQ, ack=CLIENT_SEQ + 1),
        tcp(client, net.vip, "A", seq=CLIENT_SEQ + 1, ack=BACKEND_SEQ + 1),
        tcp(net.web1, client, "A", seq=BACKEND_SEQ + 1, ack=CLIENT_SEQ + 1),
    )


def establish(program, net, client, *, packets=4):
    for packet in handshake(net, client)[:packets]:
        assert send(program, packet).verdict is Verdict.FORWARD


def both(test):
    return pytest.mark.parametrize("net", [V4, V6], ids=str)(test)


class TestClock:
    @both
    def test_a_handshake_is_young_to_a_cpu_whose_tick_is_the_one_before(self, program, net):
        program.configure(plans.full(net))
        program.wait(TICK)
        assert send(program, tcp(net.client, net.vip, "S")).verdict is Verdict.FORWARD
        program.wait(-TICK)
        refused = send(program, tcp(net.second, net.vip, "S"))
        assert refused.reasons == {DropReason.NO_FREE_PORT: 1}

    @both
    def test_what_is_doubted_soon_after_the_host_has_come_up_expires(self, program, net):
        """By its time it has been idle since before that, longer than a timeout that was made shorter."""
        program.configure(plans.plan(plans.service(net, net.web1)))
        establish(program, net, net.client)
        send(program, tcp(net.client, net.vip, "R", seq=CLIENT_SEQ + 100))
        assert [row.state for row in program.connections()] == [State.ESTABLISHED]
        shorter = Timeouts(established=3_600.0)
        program.configure(plans.plan(plans.service(net, net.web1), timeouts=shorter))
        assert program.connections() == []

    @both
    def test_requests_wait_as_long_as_they_do_also_from_before_a_wrap_to_behind_it(self, program, net):
        program.configure(plans.plan(plans.service(net, net.web1)))
        first, second, third = (net.client.at(port) for port in (41_000, 41_001, 41_002))
        program.wait(WRAP - 1_000.0 - 10.0)
        for client in (first, second, third):
            establish(program, net, client)
        ask = {"seq": CLIENT_SEQ + 1, "ack": BACKEND_SEQ + 1, "data": b"question"}
        answer = {"seq": BACKEND_SEQ + 1, "ack": CLIENT_SEQ + 9, "data": b"answer"}
        send(program, tcp(first, net.vip, "PA", **ask))
        send(program, tcp(second, net.vip, "PA", **ask))
        program.wait(12.0)
        send(program, tcp(third, net.vip, "PA", **ask))
        program.wait(1.0)
        assert waiting(program) == pytest.approx(27.0, abs=1e-4)
        send(program, tcp(net.web1, first, "PA", **answer))
        assert waiting(program) == pytest.approx(14.0, abs=1e-4)
        program.sweep(0.0, 0)
        assert waiting(program) == pytest.approx(14.0, abs=1e-4)
        send(program, tcp(second, net.vip, "R", seq=CLIENT_SEQ + 9))
        assert waiting(program) == pytest.approx(1.0, abs=1e-4)
        send(program, tcp(net.web1, third, "PA", **answer))
        assert waiting(program) == 0.0


def waiting(program):
    return sum(traffic.waiting for traffic in program.counters().backends.values())


@pytest.fixture
def cpus():
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:
        pytest.skip("needs two CPUs")
    return found[:2]


def race(cpus, program, ones, others):
    """Send packets by pairs, the one and the other at a time on two CPUs."""
    sent = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    deadline = monotonic() + 60
    pid = os.fork()
    me = 0 if pid else 1
    status = 1
    try:
        os.sched_setaffinity(0, {cpus[me]})
        delays = Random(me)
        for number, (frame, side) in enumerate((ones, others)[me], start=1):
            sent[me] = number
            while sent[1 - me] < number:
                assert monotonic() < deadline, "the other CPU has stopped"
            for _ in range(delays.randrange(12)):
                pass
            program.send_only(frame, side)
        status = 0
    finally:
        if not pid:
            os._exit(status)
        os.sched_setaffinity(0, cpus)
        assert os.waitpid(pid, 0)[1] == 0


class TestTwoCpus:
    """The packets of a connection's two ends usually come on two CPUs."""

    PAIRS = 1_000

    def raced(self, cpus, program, net, one, other, *, packets=4, established=0):
        """The states that connections have after a packet of each end at a time, and
        so many that are not over."""
        clients = [net.client.at(10_000 + number) for number in range(self.PAIRS)]
        frames = [[framed(make(client)) for client in clients] for make in (one, other)]
        program.configure(plans.plan(plans.service(net, net.web1)))
        for client in clients:
            establish(program, net, client, packets=packets)
        race(cpus, program, *frames)
        load, totals = program.load()
        assert (load.half_open, load.established, load.outstanding) == (0, established, 0)
        states = [row.state for row in program.connections()]
        assert len(states) == totals.established + totals.half_open == self.PAIRS
        return set(states)

    @both
    def test_both_ends_finish(self, cpus, program, net):
        def from_client(client):
            return tcp(client, net.vip, "FA", seq=CLIENT_SEQ + 1, ack=BACKEND_SEQ + 1)

        def from_backend(client):
            return tcp(net.web1, client, "FA", seq=BACKEND_SEQ + 1, ack=CLIENT_SEQ + 1)

        states = self.raced(cpus, program, net, from_client, from_backend)
        assert states == {State.LAST_ACK}

    @both
    def test_both_ends_reset(self, cpus, program, net):
        def from_client(client):
            return tcp(client, net.vip, "R", seq=CLIENT_SEQ + 1)

        def from_backend(client):
            return tcp(net.web1, client, "R", seq=BACKEND_SEQ + 1)

        assert self.raced(cpus, program, net, from_client, from_backend) == {State.CLOSED}

    @both
    def test_the_backend_resets_what_the_client_asks(self, cpus, program, net):
        def from_client(client):
            return tcp(client, net.vip, "PA", seq=CLIENT_SEQ + 1, ack=BACKEND_SEQ + 1, data=b"question")

        def from_backend(client):
            return tcp(net.web1, client, "R", seq=BACKEND_SEQ + 1)

        assert self.raced(cpus, program, net, from_client, from_backend) == {State.CLOSED}

    @both
    def test_the_backend_finishes_while_the_client_asks(self, cpus, program, net):
        def from_client(client):
            return tcp(client, net.vip, "PA", seq=CLIENT_SEQ + 1, ack=BACKEND_SEQ + 1, data=b"question")

        def from_backend(client):
            return tcp(net.web1, client, "FA", seq=BACKEND_SEQ + 1, ack=CLIENT_SEQ + 1)

        states = self.raced(cpus, program, net, from_client, from_backend, established=self.PAIRS)
        assert states == {State.BACKEND_FIN}

    @both
    def test_the_backend_resets_while_the_client_ends_the_handshake(self, cpus, program, net):
        def from_client(client):
            return tcp(client, net.vip, "A", seq=CLIENT_SEQ + 1, ack=BACKEND_SEQ + 1)

        def from_backend(client):
            return tcp(net.web1, client, "R", seq=BACKEND_SEQ + 1)

        assert self.raced(cpus, program, net, from_client, from_backend, packets=2) == {State.CLOSED}


class TestWithoutADaemon:
    @both
    def test_the_port_of_a_half_open_one_that_has_expired_is_free_and_nobody_was_pushed_out(
        self, program, net
    ):
        program.configure(plans.full(net))
        assert send(program, tcp(net.client, net.vip, "S")).verdict is Verdict.FORWARD
        program.wait(61.0)
        taken = send(program, tcp(net.second, net.vip, "S"))
        assert (taken.verdict, taken.reasons) == (Verdict.FORWARD, Counter())

"""What the programs make of packets where a packet case cannot say so: on several CPUs, whose clocks are a
tick apart, and without a daemon that sweeps."""

from collections import Counter

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


def send(program, packet):
    """A packet as its sender's next hop hands it over."""
    frame = packet.on_wire(route(packet.source).mac, GATEWAY_MAC[side_of(packet.source)])
    return program.send(frame, side_of(packet.source))


def establish(program, net, client):
    for packet in (
        tcp(client, net.vip, "S", seq=CLIENT_SEQ),
        tcp(net.web1, client, "SA", seq=BACKEND_SEQ, ack=CLIENT_SEQ + 1),
        tcp(client, net.vip, "A", seq=CLIENT_SEQ + 1, ack=BACKEND_SEQ + 1),
        tcp(net.web1, client, "A", seq=BACKEND_SEQ + 1, ack=CLIENT_SEQ + 1),
    ):
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

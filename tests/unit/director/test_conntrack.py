"""The connection table: limits, who gives way, gauges, expiry."""

import pytest

from l4lb.director.connection import Path, make_connection
from l4lb.director.conntrack import HANDSHAKE, ConnectionTable
from l4lb.model import BackendPlan, DropReason, Endpoint, Limits, Nat, Protocol, State, Timeouts

VIP = Endpoint.parse("192.0.2.1:80")
TIMEOUTS = Timeouts()


def path(protocol=Protocol.TCP, last=1):
    backend = BackendPlan(Endpoint.parse(f"10.0.0.{last}:80"))
    return Path("web", VIP, protocol, Nat.DESTINATION, backend)


WEB = path()


def client(port):
    return Endpoint.parse(f"203.0.113.1:{port}")


def connection(port, state=State.SYN_SENT, on=None, now=0.0):
    return make_connection(on or path(), client(port), client(port), state, now)


def table(half_open=3, established=3, timeouts=TIMEOUTS):
    return ConnectionTable(0.0, timeouts, Limits(half_open=half_open, established=established))


def add(to, port, state=State.SYN_SENT, now=0.0, on=None):
    assert to.refuses(state in (State.SYN_SENT, State.SYN_RECEIVED, State.UDP_NEW), now) is None
    made = connection(port, state, on, now)
    to.add(made, now)
    return made


class TestFinding:
    def test_by_either_tuple(self):
        connections = table()
        tcp = add(connections, 1)
        udp = add(connections, 1, State.UDP_NEW, on=path(Protocol.UDP))
        assert connections.tcp == {tcp.original: tcp, tcp.reply: tcp}
        assert connections.udp == {udp.original: udp, udp.reply: udp}
        assert connections.by_protocol[6] is connections.tcp
        assert connections.by_protocol[17] is connections.udp

    def test_each_once(self):
        connections = table()
        made = [add(connections, port, State.ESTABLISHED) for port in (1, 2, 3)]
        connections.remove(made[1])
        last = add(connections, 4, State.ESTABLISHED)
        assert list(connections) == [made[0], made[2], last]
        assert len(connections) == 3

    def test_walking_is_of_one_moment(self):
        connections = table()
        for port in (1, 2):
            add(connections, port)
        for one in connections:
            connections.remove(one)
        assert len(connections) == 0


class TestLimits:
    def test_established_full_refuses_all_that_is_new(self):
        connections = table(established=1)
        add(connections, 1, State.ESTABLISHED)
        assert connections.refuses(False, 100.0) is DropReason.ESTABLISHED_FULL
        assert connections.refuses(True, 100.0) is DropReason.ESTABLISHED_FULL

    def test_a_handshake_that_ends_in_a_full_table_changes_nothing(self):
        connections = table(established=1)
        add(connections, 1, State.ESTABLISHED)
        two = connection(2)
        connections.add(two, 0.0)
        assert not connections.set_state(two, State.ESTABLISHED)
        assert two.state is State.SYN_SENT
        assert two in connections.half_open
        assert (two.path.half_open, two.path.established) == (1, 0)

    def test_an_rst_needs_no_room(self):
        connections = table(established=1)
        two = add(connections, 2)
        add(connections, 1, State.ESTABLISHED)
        assert connections.set_state(two, State.CLOSED)
        assert connections.established == 1

    def test_established_ones_go_on_in_a_full_table(self):
        connections = table(established=1)
        one = add(connections, 1, State.ESTABLISHED)
        assert connections.set_state(one, State.CLIENT_FIN)
        assert connections.set_state(one, State.LAST_ACK)

    def test_a_lowered_limit_ends_nothing(self):
        connections = table()
        for port in (1, 2, 3):
            add(connections, port, State.ESTABLISHED)
        connections.set_policy(TIMEOUTS, Limits(established=1, half_open=1))
        assert len(connections) == 3
        assert connections.refuses(True, 0.0) is DropReason.ESTABLISHED_FULL

    def test_above_a_lowered_limit_each_new_one_takes_the_place_of_one(self):
        connections = table()
        for port in (1, 2, 3):
            add(connections, port, State.TIME_WAIT)
        last = add(connections, 4)
        last.seen = 60.0
        connections.set_policy(TIMEOUTS, Limits(established=1, half_open=1))
        assert connections.set_state(last, State.ESTABLISHED)
        assert connections.established == 3


class TestGivingPlace:
    def opened(self, connections, port, now):
        """Whether a handshake ends with a connection; if not it is given up."""
        connections.add(made := connection(port, now=now), now)
        if connections.set_state(made, State.ESTABLISHED):
            return True
        connections.remove(made)
        return False

    def test_of_those_that_are_over_the_one_that_ended_first(self):
        connections = table(established=3)
        one, two, three = (add(connections, port, State.ESTABLISHED) for port in (1, 2, 3))
        for ended in (two, one):
            connections.set_state(ended, State.LAST_ACK)
        connections.set_state(two, State.TIME_WAIT)
        assert self.opened(connections, 4, 5.0)
        assert list(connections)[:2] == [one, three]
        assert self.opened(connections, 5, 5.0)
        assert next(iter(connections)) is three
        assert not self.opened(connections, 6, 5.0)
        assert (connections.established, connections.evicted) == (3, 0)

    def test_not_of_one_that_has_just_ended(self):
        connections = table(established=2)
        one, _ = (add(connections, port, State.TIME_WAIT) for port in (1, 2))
        one.seen = 10.0
        assert self.opened(connections, 3, 10.5)
        assert next(iter(connections)) is one, "which ended first, but may have to send something again"
        assert not self.opened(connections, 4, 10.5)
        assert self.opened(connections, 5, 10.0 + HANDSHAKE)

    def test_no_packet_has_to_look_at_all_that_have_just_ended(self):
        connections = table(established=100)
        made = [add(connections, port, State.TIME_WAIT, now=5.0) for port in range(1, 100)]
        made.append(add(connections, 100, State.TIME_WAIT, now=0.0))
        tries = [self.opened(connections, 200 + number, 5.5) for number in range(13)]
        assert tries == [False] * 12 + [True], "eight at a time"
        assert made[-1] not in connections.over

    def test_to_one_that_is_picked_up(self):
        connections = table(established=1)
        one = add(connections, 1, State.TIME_WAIT)
        assert connections.refuses(False, 0.5) is None
        assert not connections.add(connection(2, State.ESTABLISHED), 0.5)
        assert list(connections) == [one]
        assert connections.add(two := connection(2, State.ESTABLISHED), 1.5)
        assert list(connections) == [two]

    def test_not_of_a_handshake_that_was_reset(self):
        connections = table(established=1)
        reset = add(connections, 1)
        connections.set_state(reset, State.CLOSED)
        add(connections, 2, State.ESTABLISHED)
        assert not connections.over
        assert connections.refuses(True, 0.0) is DropReason.ESTABLISHED_FULL


class TestConfirmed:
    def test_a_handshake_counts_when_its_client_ends_it(self):
        connections, on = table(), path()
        one = add(connections, 1, on=on)
        for state, confirmed in ((State.SYN_RECEIVED, 0), (State.ESTABLISHED, 1), (State.CLIENT_FIN, 1)):
            connections.set_state(one, state)
            assert on.confirmed == confirmed

    def test_a_question_when_its_backend_answers_it(self):
        connections, on = table(), path(Protocol.UDP)
        one = add(connections, 1, State.UDP_NEW, on=on)
        assert on.confirmed == 0
        for state, confirmed in ((State.UDP_ANSWERED, 1), (State.UDP, 1)):
            connections.set_state(one, state)
            assert on.confirmed == confirmed

    def test_one_that_was_picked_up_or_saved_at_once(self):
        on = path()
        add(table(), 1, State.ESTABLISHED, on=on)
        assert on.confirmed == 1


class TestGivingWay:
    def test_the_oldest_half_open_one_gives_way(self):
        connections = table()
        made = [add(connections, port, now=port * 0.1) for port in (1, 2, 3)]
        last = add(connections, 4, now=HANDSHAKE + 0.1)
        assert list(connections) == [*made[1:], last]
        assert connections.evicted == 1

    def test_to_be_asked_is_not_to_be_pushed_out(self):
        """The packet may be dropped for another reason."""
        connections = table()
        for port in (1, 2, 3):
            add(connections, port)
        assert connections.refuses(True, 100.0) is None
        assert len(connections) == 3

    def test_age_is_counted_from_its_beginning_whatever_comes(self):
        """SYNs sent again and answers that never end the handshake do not make it younger."""
        connections = table()
        made = [add(connections, port, now=port * 0.1) for port in (1, 2, 3)]
        made[0].seen = 1.0
        connections.set_state(made[0], State.SYN_RECEIVED)
        add(connections, 4, now=HANDSHAKE + 0.1)
        assert made[0] not in connections.half_open

    def test_young_ones_do_not(self):
        connections = table()
        for port in (1, 2, 3):
            add(connections, port)
        assert connections.refuses(True, HANDSHAKE - 0.01) is DropReason.HALF_OPEN_FULL
        assert len(connections) == 3
        assert connections.evicted == 0

    def test_one_that_was_reset_does_at_once(self):
        connections = table()
        made = [add(connections, port) for port in (1, 2, 3)]
        connections.set_state(made[0], State.CLOSED)
        last = add(connections, 4)
        assert list(connections) == [*made[1:], last]
        assert connections.evicted == 0

    def test_whoever_has_the_reply_tuple_does(self):
        """Under full NAT: it was found to give way before."""
        connections = table()
        on = path()
        made = [make_connection(on, client(port), client(1), State.TIME_WAIT, 0.0) for port in (1, 2)]
        for one in made:
            connections.add(one, 0.0)
        assert list(connections) == made[1:]
        assert connections.tcp[made[1].reply] is made[1]
        assert (on.established, on.closed, connections.established) == (1, 1, 1)

    def test_never_an_established_one(self):
        connections = table(half_open=1, established=10)
        kept = [add(connections, port, State.ESTABLISHED) for port in (1, 2)]
        for port in range(3, 9):
            add(connections, port, now=float(port * 10))
        assert set(kept) <= set(connections)
        assert len(connections) == 3

    def test_established_connections_find_room_in_a_flood(self):
        connections = table(half_open=1)
        add(connections, 1)
        assert connections.refuses(False, 0.0) is None

    def test_the_only_one_may_give_its_tuple_as_well_as_its_place(self):
        connections = table(half_open=1)
        one = add(connections, 1)
        connections.set_policy(TIMEOUTS, Limits(half_open=0, established=3))
        assert connections.refuses(True, 100.0) is None
        connections.add(
            two := make_connection(one.path, client(2), client(1), State.SYN_SENT, 100.0), 100.0
        )
        assert list(connections) == [two]

    def test_one_place_is_enough(self):
        """In a table above a lowered limit: the young one stays."""
        connections = table(half_open=2)
        old, young = add(connections, 1), add(connections, 2, now=100.0)
        connections.set_policy(TIMEOUTS, Limits(half_open=1, established=3))
        new = make_connection(old.path, client(3), client(1), State.SYN_SENT, 100.0)
        assert connections.refuses(True, 100.0) is None
        connections.add(new, 100.0)
        assert list(connections) == [young, new]

    def test_no_room_at_all(self):
        assert table(half_open=0).refuses(True, 0.0) is DropReason.HALF_OPEN_FULL


class TestGauges:
    @pytest.mark.parametrize("state", [State.SYN_SENT, State.ESTABLISHED, State.TIME_WAIT, State.UDP])
    def test_in_and_out(self, state):
        connections = table()
        on = path(Protocol.UDP if state is State.UDP else Protocol.TCP)
        one = add(connections, 1, state, on=on)
        assert on.connections_total == 1
        assert on.half_open + on.established == 1
        connections.remove(one)
        assert (on.half_open, on.established, on.closed, on.connections_total) == (0, 0, 0, 1)
        assert (len(connections.half_open), connections.established) == (0, 0)

    def test_through_a_life(self):
        connections = table()
        one = add(connections, 1, on=(on := path()))
        seen = []
        for state in (
            State.SYN_RECEIVED,
            State.ESTABLISHED,
            State.BACKEND_FIN,
            State.LAST_ACK,
            State.TIME_WAIT,
        ):
            connections.set_state(one, state)
            seen.append((on.half_open, on.established, on.closed, on.load))
        assert seen == [(1, 0, 0, 1), (0, 1, 0, 1), (0, 1, 0, 1), (0, 1, 1, 0), (0, 1, 1, 0)]

    def test_of_each_path_apart(self):
        connections = table()
        a, b = path(last=1), path(last=2)
        one = add(connections, 1, State.ESTABLISHED, on=a)
        add(connections, 2, on=b)
        connections.remove(one)
        assert (a.established, b.half_open) == (0, 1)


class TestExpiry:
    def run(self, connections, now):
        return connections.expire(now)

    @pytest.mark.parametrize("state", list(State))
    def test_each_state_has_its_time(self, state):
        timeouts = Timeouts(*(10.0 * number for number in range(1, 10)))
        connections = ConnectionTable(0.0, timeouts, Limits())
        one = connection(1, state, path(Protocol.UDP if state >= State.UDP_NEW else Protocol.TCP))
        connections.add(one, 0.0)
        deadline = connections.expires(one)
        assert deadline == connections.timeouts[state]
        assert self.run(connections, deadline - 0.01) == 0
        assert self.run(connections, deadline + 1) == 1
        assert not connections.tcp
        assert not connections.udp

    def test_a_packet_puts_it_off(self):
        connections = table()
        one = add(connections, 1, State.ESTABLISHED)
        one.seen = TIMEOUTS.established - 1
        assert self.run(connections, TIMEOUTS.established + 1) == 0
        assert self.run(connections, 2 * TIMEOUTS.established) == 1

    def test_a_change_of_state_brings_it_forward(self):
        connections = table()
        one = add(connections, 1, State.ESTABLISHED)
        one.seen = 100.0
        connections.set_state(one, State.CLOSED)
        assert self.run(connections, 100.0 + TIMEOUTS.closed + 1) == 1

    def test_new_timeouts_hold_from_the_next_look_on(self):
        connections = table()
        add(connections, 1, State.UDP_NEW, on=path(Protocol.UDP))
        connections.set_policy(Timeouts(udp_new=100.0), Limits())
        assert self.run(connections, TIMEOUTS.udp_new + 1) == 0
        assert self.run(connections, 101.0) == 1

    def test_only_so_many_at_a_time(self):
        connections = table(established=100)
        for port in range(1, 51):
            add(connections, port, State.ESTABLISHED)
        assert [connections.expire(1e5, limit=20) for _ in range(4)] == [20, 20, 10, 0]

    def test_those_in_use_count_as_looked_at(self):
        connections = table(established=100)
        for port in range(1, 51):
            add(connections, port, State.ESTABLISHED).seen = TIMEOUTS.established
        assert connections.expire(TIMEOUTS.established + 2, limit=20) == 0
        assert sum(len(bucket) for bucket in connections._wheel._buckets.values()) == 50

"""Whatever is done to a connection table, its counts, lists and buckets agree."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from l4lb.director.connection import Connection, Ends, Path, make_connection
from l4lb.director.conntrack import HANDSHAKE, ConnectionTable
from l4lb.director.states import HALF_OPEN, REUSABLE, Event, advance, advance_udp
from l4lb.model import BackendPlan, DropReason, Endpoint, Limits, Nat, Protocol, State, Timeouts
from tests.property.effort import examples

VIP = Endpoint.parse("192.0.2.1:80")
TCP_STATES = [state for state in State if state < State.UDP_NEW]
UDP_STATES = [state for state in State if state >= State.UDP_NEW]
TIMEOUTS = Timeouts(5.0, 5.0, 60.0, 20.0, 5.0, 5.0, 2.0, 3.0, 30.0)


def paths(protocol):
    backends = [BackendPlan(Endpoint.parse(f"10.0.0.{last}:80")) for last in (1, 2)]
    return [Path("web", VIP, protocol, Nat.DESTINATION, backend) for backend in backends]


class Table(RuleBasedStateMachine):
    """Drives the table as the director may, next to a plain list of what should be in it."""

    @initialize(half_open=st.integers(0, 4), established=st.integers(1, 6))
    def begin(self, half_open, established):
        self.now = 100.0
        self.limits = Limits(half_open=half_open, established=established)
        self.table = ConnectionTable(self.now, TIMEOUTS, self.limits)
        self.paths = {protocol: paths(protocol) for protocol in Protocol}
        self.alive: dict[Connection, float] = {}  # value: when it began
        self.ports = iter(range(1, 65_536))
        self.total = self.pushed_out = 0

    def one(self, which):
        return sorted(self.alive, key=lambda one: one.original)[which % len(self.alive)]

    @rule(state=st.sampled_from(TCP_STATES + UDP_STATES), which=st.integers(0, 1))
    def add(self, state, which):
        protocol = Protocol.UDP if state in UDP_STATES else Protocol.TCP
        reason = self.table.refuses(state in HALF_OPEN, self.now)
        if reason is DropReason.ESTABLISHED_FULL:
            assert self.table.established >= self.limits.established
            assert not self.table.over
        elif reason is DropReason.HALF_OPEN_FULL:
            assert len(self.table.half_open) >= self.limits.half_open
            assert all(self.now - began < HANDSHAKE for began in self.table.half_open.values())
        else:
            assert reason is None
            self.add_one(state, self.paths[protocol][which], next(self.ports))

    def add_one(self, state, path, port):
        client = Endpoint(bytes([203, 0, 113, 1]), port)
        made = make_connection(path, client, client, state, self.now)
        over = list(self.table.over)
        if self.table.add(made, self.now):
            self.account_for(made)
        else:
            assert state not in HALF_OPEN
            assert all(self.now - each.seen < HANDSHAKE for each in over)

    def account_for(self, made):
        """One was added; those that had to give way for it could be pushed out."""
        gone = [one for one in self.alive if one.bucket is None]
        assert len(gone) <= 2
        for one in gone:
            began = self.alive.pop(one)
            assert one.state in REUSABLE or self.now - began >= HANDSHAKE
            self.pushed_out += one.state in HALF_OPEN
        self.alive[made] = self.now
        self.total += 1

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 99), event=st.sampled_from(Event), from_client=st.booleans())
    def move(self, which, event, from_client):
        one = self.one(which)
        before = one.state
        if one.path.protocol is Protocol.UDP:
            state = advance_udp(before, from_client)
        else:
            state = advance(before, event, from_client)
        one.seen = self.now
        over = list(self.table.over)
        young = [each for each in over if self.now - each.seen < HANDSHAKE]
        if state is not before and not self.table.set_state(one, state):
            assert one.state is before
            assert self.table.established >= self.limits.established
            assert over == young, "at most six"
        for each in [each for each in self.alive if each.bucket is None]:
            assert each is next(old for old in over if old not in young), "that ended first"
            assert before in HALF_OPEN
            del self.alive[each]

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 99))
    def use(self, which):
        self.one(which).seen = self.now

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 99))
    def remove(self, which):
        one = self.one(which)
        self.table.remove(one)
        del self.alive[one]

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 99), state=st.sampled_from([State.SYN_SENT, State.UDP_NEW]))
    def take_a_place(self, which, state):
        """A new connection gets the reply tuple of one that gives way, as by full NAT."""
        one = self.one(which)
        if (state is State.UDP_NEW) != (one.path.protocol is Protocol.UDP):
            return
        if not self.table.gives_way(one, self.now) or self.table.refuses(True, self.now) is not None:
            return
        client = Endpoint(bytes([203, 0, 113, 2]), next(self.ports))
        source = Ends(one.original, one.reply).source
        made = make_connection(one.path, client, source, state, self.now)
        self.table.add(made, self.now)
        self.account_for(made)
        assert one.bucket is None

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 30.0]), limit=st.integers(1, 10))
    def wait(self, seconds, limit):
        self.now += seconds
        removed = self.table.expire(self.now, limit)
        gone = [one for one in self.alive if one.bucket is None]
        assert len(gone) == removed <= limit
        for one in gone:
            assert self.table.expires(one) <= self.now, "expired early"
            del self.alive[one]

    @rule(half_open=st.integers(0, 4), established=st.integers(1, 6))
    def new_limits(self, half_open, established):
        self.limits = Limits(half_open=half_open, established=established)
        self.table.set_policy(TIMEOUTS, self.limits)

    @invariant()
    def the_table_holds_what_it_should(self):
        table = self.table
        assert set(table) == set(self.alive)
        assert len(list(table)) == len(table) == len(self.alive)
        assert len(table.tcp) + len(table.udp) == 2 * len(table)
        for one in self.alive:
            flows = table.by_protocol[one.path.protocol]
            assert flows[one.original] is flows[one.reply] is one

    @invariant()
    def half_open_ones_are_listed(self):
        listed = self.table.half_open
        assert {one for one in self.alive if one.state in HALF_OPEN} <= set(listed)
        assert all(one.state in HALF_OPEN or one.state is State.CLOSED for one in listed)
        assert list(listed.values()) == sorted(listed.values()), "oldest first"
        assert all(listed[one] == self.alive[one] for one in listed)
        assert self.table.established == len(self.alive) - len(listed)

    @invariant()
    def gauges_add_up(self):
        listed = self.table.half_open
        for protocol in Protocol:
            for path in self.paths[protocol]:
                mine = [one for one in self.alive if one.path is path]
                settled = [one for one in mine if one not in listed]
                assert path.half_open == sum(one.state in HALF_OPEN for one in mine)
                assert path.established == len(settled)
                assert path.closed == sum(one.state in REUSABLE for one in settled)
        assert set(self.table.over) == {
            one for one in self.alive if one.state in REUSABLE and one not in listed
        }
        everything = [path for protocol in Protocol for path in self.paths[protocol]]
        assert sum(path.connections_total for path in everything) == self.total
        assert self.table.evicted == self.pushed_out

    @invariant()
    def each_is_in_one_bucket(self):
        buckets = self.table._wheel._buckets.values()
        assert sum(len(bucket) for bucket in buckets) == len(self.alive)
        assert all(one in one.bucket for one in self.alive)

    def teardown(self):
        for _ in range(20):
            self.now += 1000.0
            self.table.expire(self.now)
        assert len(self.table) == 0
        assert not self.table.tcp
        assert not self.table.udp


Table.TestCase.settings = examples(100)
TestTable = Table.TestCase

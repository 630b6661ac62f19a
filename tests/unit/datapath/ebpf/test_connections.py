"""What the daemon asks of the connections in the maps, expiry and counting, with the kernel's programs."""

import ctypes

import pytest

from l4lb.datapath.base import ConnectionFilter
from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.connections import Connections, Query, info, resets
from l4lb.datapath.ebpf.counters import counters, waiting
from l4lb.datapath.ebpf.layout import end_key, word
from l4lb.datapath.ebpf.sweep import Sweep
from l4lb.datapath.ebpf.tables import Tables
from l4lb.datapath.libbpf import LibbpfError, Map
from l4lb.model import (
    BackendPlan,
    ConnectionInfo,
    DropReason,
    Endpoint,
    Limits,
    Nat,
    Protocol,
    State,
    Times,
    Traffic,
    Verdict,
)
from l4lb.times import BUCKETS, UNIT
from tests.unit.datapath.ebpf.kernel import established_keys, loaded, put_established
from tests.unit.datapath.ebpf.plans import (
    CLIENT,
    CLIENT6,
    ONE,
    OTHER_SNAT,
    SIX,
    SNAT,
    TWO,
    VIP,
    VIP6,
    full,
    plan,
    service,
)
from tests.unit.director.packets import RST

SECOND = 1_000_000_000
NOW = 100_000 * SECOND
UNITS = NOW >> layout.TIME_SHIFT
WRAP = 1 << 32
FULL_VIP = Endpoint(VIP.ip, 81)
HALF_OPEN = {State.SYN_SENT, State.SYN_RECEIVED, State.UDP_NEW, State.UDP_ANSWERED}
OVER = {State.LAST_ACK, State.TIME_WAIT, State.CLOSED}


def exhaust(pieces):
    """Let a program run to its end."""
    for _ in pieces:
        pass


class Queue:
    """A map of that kind, which no daemon writes to or reads, so the bindings have no call for it."""

    def __init__(self, queue):
        self.fd, self.size = queue.fd, queue.value_size
        self.libbpf = ctypes.CDLL("libbpf.so.1")

    def push(self, value):
        assert self.libbpf.bpf_map_update_elem(self.fd, None, value, ctypes.c_uint64(0)) == 0

    def first(self):
        value = ctypes.create_string_buffer(self.size)
        return None if self.libbpf.bpf_map_lookup_elem(self.fd, None, value) else value.raw


class Kernel:
    """Maps with a plan in them, and connections as the programs would have put them there."""

    def __init__(self, objects):
        self.maps = objects["sweep"].maps
        self.tables = Tables(self.maps)
        self.asking = objects["query"]
        self.connections = Connections(self.asking.maps, self.asking.programs, self.tables)
        self.swept = objects["sweep"]
        self.sweep = Sweep(self.swept.maps, self.swept.programs)
        self.plan = plan(
            service(ONE, TWO),
            service(SIX, vip=VIP6, name="six"),
            full(ONE, vip=FULL_VIP, name="full"),
        )
        self.apply(self.plan)

    def apply(self, wanted, now=NOW):
        self.tables.apply(wanted, clock=now)

    def number(self, vip, backend):
        (number,) = [
            path.number
            for path in self.tables.numbers.paths.values()
            if (path.way.vip, path.way.backend) == (vip, backend)
        ]
        return number

    def add(self, client=CLIENT, vip=VIP, backend=ONE, state=State.ESTABLISHED, idle=0, **values):
        """Put in an entry, its counters, and where it says so the one in reverse*."""
        number = self.number(vip, backend)
        path = self.tables.paths[number]
        source = values.pop("source_port", client.port).to_bytes(2, "big")
        flags = values.pop("flags", 0) | layout.RESTED * (state in OVER)
        entry = layout.Connection(
            NOW - idle * SECOND, path=number, state=state, flags=flags, source_port=source, **values
        )
        key = end_key(client.ip, client.port, path.service)
        half = state in HALF_OPEN
        version = client.version
        if half:
            self.maps[f"half_open{version}"].update(key, layout.CONNECTION.pack(entry))
        else:
            put_established(self.maps, key, layout.CONNECTION.pack(entry))
        if flags & layout.REVERSED:
            seen = layout.narrow(path.snat, version) if path.flags & layout.PATH_FULL_NAT else client.ip
            reverse = self.maps[f"{'half_open_reverse' if half else 'reverse'}{version}"]
            wide = end_key(layout.wide(client.ip), client.port, path.service)
            reverse.update(seen + source + word(path.backend)[:2], wide)
        self.count(number, half, not half and state not in OVER, half, not half)

    def count(self, number, half_open=0, established=0, all_half_open=0, all_established=0):
        load = self.load(number)
        more = load._replace(
            half_open=load.half_open + half_open, established=load.established + established
        )
        self.maps["loads"].update(word(number), layout.LOAD.pack(more))
        totals = self.totals()
        more = totals._replace(
            established=(totals.established + all_established) % WRAP,
            half_open=totals.half_open + all_half_open,
        )
        self.maps["totals"].update(word(0), layout.TOTALS.pack(more))

    def outstanding(self, number, more, asked):
        """More requests that wait, since ``asked`` together, or less."""
        load = self.load(number)
        requests = load.requests + max(0, more)
        changed = load._replace(
            outstanding=load.outstanding + more, asked=load.asked + asked, requests=requests
        )
        self.maps["loads"].update(word(number), layout.LOAD.pack(changed))

    def begins(self, port, asked):
        """A request of a connection that is there."""
        self.add(other(port), asked=asked % WRAP)
        self.count(self.number(VIP, ONE), established=-1, all_established=-1)
        self.outstanding(self.number(VIP, ONE), 1, asked)

    def ends(self, port, asked):
        """One without an answer."""
        self.add(other(port))
        self.count(self.number(VIP, ONE), established=-1, all_established=-1)
        self.outstanding(self.number(VIP, ONE), -1, -asked)

    def load(self, number):
        return layout.LOAD.unpack(self.maps["loads"].lookup(word(number)))

    def totals(self):
        return layout.TOTALS.unpack(self.maps["totals"].lookup(word(0)))

    def rested(self, client):
        """A value of the queue of what is over: of this client's connection."""
        service = self.tables.paths[self.number(VIP, ONE)].service
        return end_key(layout.wide(client.ip), client.port, service) + bytes((client.version, 0, 0, 0))

    def run_sweep(self):
        exhaust(self.sweep.steps(self.tables.paths))

    def entries(self):
        half_open = sum(len(list(self.maps[name].keys())) for name in ("half_open4", "half_open6"))
        return half_open + len(established_keys(self.maps))

    def asked(self, query):
        found, more = [], 0
        for part, counted in self.connections.ask(query):
            found += part
            more += counted
        return found, more

    def clients(self, query):
        return {each.client for each in self.asked(query)[0]}


@pytest.fixture
def kernel(bpf_possible):
    with loaded("sweep", "query") as objects:
        yield Kernel(objects)


def other(number):
    return Endpoint(CLIENT.ip, number)


class TestAsking:
    def filled(self, kernel):
        kernel.add()
        kernel.add(other(2), backend=TWO)
        kernel.add(other(3), state=State.SYN_SENT)
        kernel.add(CLIENT6, VIP6, SIX)
        kernel.add(other(4), FULL_VIP, flags=layout.REVERSED | layout.OTHER_SOURCE, source_port=20_000)

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (ConnectionFilter(), {CLIENT, other(2), other(3), other(4), CLIENT6}),
            (ConnectionFilter(service="web"), {CLIENT, other(2), other(3)}),
            (ConnectionFilter(backend=ONE), {CLIENT, other(3), other(4)}),
            (ConnectionFilter(service="web", backend=TWO), {other(2)}),
            (ConnectionFilter(client=CLIENT6.ip), {CLIENT6}),
            (ConnectionFilter(service="six", client=CLIENT.ip), set()),
            (ConnectionFilter(service="none"), set()),
        ],
    )
    def test_filters(self, kernel, which, expected):
        self.filled(kernel)
        assert kernel.clients(kernel.connections.query(which)) == expected

    def test_states(self, kernel):
        self.filled(kernel)
        assert kernel.clients(Query(states=1 << State.SYN_SENT)) == {other(3)}

    def test_more_than_are_handed_over_are_counted(self, kernel):
        for port in range(1, 701):
            kernel.add(other(port))
        found, more = kernel.asked(Query(records=650))
        assert (len(found), more) == (650, 50)
        assert len({each.client for each in found}) == 650

    def test_two_queries_at_a_time(self, kernel):
        for port in range(1, 401):
            kernel.add(other(port), backend=TWO if port % 4 else ONE)
        all_of_them = kernel.connections.ask(Query())
        clients = {each.client for each in next(all_of_them)[0]}
        assert len(kernel.clients(kernel.connections.query(ConnectionFilter(backend=ONE)))) == 100
        clients |= {each.client for part, _ in all_of_them for each in part}
        assert len(clients) == 400

    def test_what_a_daemon_before_asked_for_is_not_asked_for_again(self, kernel):
        """Its marks are still in the maps."""
        self.filled(kernel)
        one, two = (ConnectionFilter(service="web", backend=each) for each in (ONE, TWO))
        kernel.clients(kernel.connections.query(one))
        kernel.connections = Connections(kernel.asking.maps, kernel.asking.programs, kernel.tables)
        nobody = kernel.connections.query(ConnectionFilter(service="none"))
        assert kernel.clients(nobody) == set()
        assert kernel.clients(kernel.connections.query(two)) == {other(2)}

    def test_nor_what_was_asked_for_when_a_write_failed(self, kernel, monkeypatch):
        self.filled(kernel)
        one, two = (ConnectionFilter(service="web", backend=each) for each in (ONE, TWO))
        write = Map.update_batch

        def fail_behind(self, pairs):
            write(self, pairs)
            raise LibbpfError("no memory")

        with monkeypatch.context() as broken:
            broken.setattr(Map, "update_batch", fail_behind)
            with pytest.raises(LibbpfError):
                kernel.clients(kernel.connections.query(one))
        assert kernel.clients(kernel.connections.query(two)) == {other(2)}

    def test_what_was_not_found_because_a_write_failed_is_found_the_next_time(self, kernel, monkeypatch):
        self.filled(kernel)
        query = kernel.connections.query(ConnectionFilter(service="web", backend=TWO))

        def fail(self, pairs):
            raise LibbpfError("no memory")

        with monkeypatch.context() as broken:
            broken.setattr(Map, "update_batch", fail)
            with pytest.raises(LibbpfError):
                kernel.clients(query)
        assert kernel.clients(query) == {other(2)}

    def test_expired_ones_are_not_there(self, kernel):
        kernel.add(idle=7441)
        assert kernel.asked(Query()) == ([], 0)

    def test_what_people_see(self, kernel):
        self.filled(kernel)
        kernel.add(other(9), idle=40)
        infos = {each.client: info(each, kernel.tables.timeouts, NOW) for each in kernel.asked(Query())[0]}
        assert infos[other(9)] == ConnectionInfo(
            "web", Protocol.TCP, other(9), VIP, other(9), ONE, State.ESTABLISHED, 40.0, 7400.0
        )
        assert infos[other(4)].source == Endpoint(SNAT, 20_000)
        assert (infos[CLIENT6].vip, infos[CLIENT6].backend) == (VIP6, SIX)


class TestTaking:
    def test_only_those_asked_for_are_forgotten_and_the_counters_know(self, kernel):
        kernel.add()
        kernel.add(other(2), backend=TWO)
        kernel.add(other(3), backend=TWO, state=State.SYN_RECEIVED)
        kernel.add(other(4), backend=TWO, state=State.TIME_WAIT)
        two = kernel.number(VIP, TWO)
        taken, _ = kernel.asked(kernel.connections.query(ConnectionFilter(backend=TWO), take=True))
        assert {each.client for each in taken} == {other(2), other(3), other(4)}
        assert kernel.clients(Query()) == {CLIENT}
        assert kernel.load(two)[:2] == (0, 0)
        assert kernel.totals() == layout.Totals(established=1, half_open=0)

    @pytest.mark.parametrize(
        ("client", "vip", "backend", "state"),
        [(CLIENT, VIP, ONE, State.SYN_SENT), (CLIENT6, VIP6, SIX, State.ESTABLISHED)],
    )
    def test_none_is_left_where_many_share_buckets(self, kernel, client, vip, backend, state):
        """The kernel's iterator, when it goes on in a bucket, skips entries for those that were deleted."""
        clients = {Endpoint(client.ip, port) for port in range(1, 901)}
        for each in clients:
            kernel.add(each, vip, backend, state)
        assert kernel.clients(Query(take=True)) == clients
        assert kernel.entries() == 0

    def test_a_backend_that_is_back_keeps_its_connections(self, kernel):
        kernel.add()
        kernel.add(other(2), backend=TWO)
        both = frozenset(kernel.number(VIP, each) for each in (ONE, TWO))
        assert kernel.clients(Query(both, take=True, gone=True)) == set()
        kernel.apply(plan(service(ONE, BackendPlan(TWO, alive=False))))
        assert kernel.clients(Query(both, take=True, gone=True)) == {other(2)}
        assert kernel.clients(Query()) == {CLIENT}

    def test_the_entries_of_the_other_direction_go_too(self, kernel):
        kernel.add(other(4), FULL_VIP, flags=layout.REVERSED, source_port=20_000)
        kernel.add(other(5), FULL_VIP, state=State.SYN_SENT, flags=layout.REVERSED, source_port=20_001)
        kernel.asked(Query(take=True))
        assert not list(kernel.maps["reverse4"].keys())
        assert not list(kernel.maps["half_open_reverse4"].keys())

    def test_both_ends_are_told_with_the_numbers_that_they_expect_unless_it_is_over(self, kernel):
        known = layout.SEEN_BY_CLIENT | layout.SEEN_BY_BACKEND
        kernel.add(flags=known, acked_by_client=7, acked_by_backend=8)
        kernel.add(other(2), flags=layout.SEEN_BY_CLIENT, acked_by_client=9)
        kernel.add(CLIENT6, VIP6, SIX, flags=layout.SEEN_BY_BACKEND, acked_by_backend=10)
        kernel.add(other(3))
        for port, state in enumerate(OVER, 4):
            kernel.add(other(port), state=state, flags=known, acked_by_client=11, acked_by_backend=12)
        from scapy.layers.inet import IP, TCP
        from scapy.layers.inet6 import IPv6

        told = set()
        for destination, packet in resets(kernel.asked(Query())[0]):
            read = IP(packet) if len(destination) == 4 else IPv6(packet)
            assert (
                Endpoint.parse(f"{read.dst}:1" if read.version == 4 else f"[{read.dst}]:1").ip
                == destination
            )
            assert int(read[TCP].flags) == RST
            told.add((read.src, read[TCP].sport, read.dst, read[TCP].dport, read[TCP].seq))
        assert told == {
            (VIP.host, VIP.port, CLIENT.host, CLIENT.port, 7),
            (CLIENT.host, CLIENT.port, ONE.host, ONE.port, 8),
            (VIP.host, VIP.port, CLIENT.host, 2, 9),
            (CLIENT6.host, CLIENT6.port, SIX.host, SIX.port, 10),
        }

    def test_under_full_nat_the_backend_is_told_from_the_gateway(self, kernel):
        known = layout.SEEN_BY_BACKEND
        kernel.add(other(4), FULL_VIP, flags=known, source_port=20_000, acked_by_backend=3)
        from scapy.layers.inet import IP, TCP

        ((_, packet),) = resets(kernel.asked(Query())[0])
        assert (IP(packet).src, IP(packet)[TCP].sport) == ("10.2.0.1", 20_000)


class TestSweep:
    @pytest.mark.parametrize(
        ("state", "seconds"),
        [(State.ESTABLISHED, 7440), (State.TIME_WAIT, 60), (State.SYN_SENT, 60), (State.CLOSED, 10)],
    )
    @pytest.mark.parametrize(("client", "vip", "backend"), [(CLIENT, VIP, ONE), (CLIENT6, VIP6, SIX)])
    def test_idle_connections_are_forgotten_in_their_time(
        self, kernel, state, seconds, client, vip, backend
    ):
        kernel.add(client, vip, backend, state, idle=seconds)
        kernel.add(Endpoint(client.ip, 5), vip, backend, state, idle=seconds - 1)
        kernel.run_sweep()
        assert kernel.clients(Query()) == {Endpoint(client.ip, 5)}
        assert kernel.entries() == 1
        totals = kernel.totals()
        assert totals.established + totals.half_open == 1

    def test_the_entry_of_the_other_direction_goes_too(self, kernel):
        kernel.add(other(4), FULL_VIP, flags=layout.REVERSED, source_port=20_000, idle=7440)
        kernel.run_sweep()
        assert not list(kernel.maps["reverse4"].keys())

    def test_exact_counters_stay(self, kernel):
        for port in range(1, 301):
            kernel.add(other(port), state=State(port % 8), idle=0 if port % 3 else 10_000)
        kernel.run_sweep()
        alive = [State(port % 8) for port in range(1, 301) if port % 3]
        half = sum(state in HALF_OPEN for state in alive)
        over = sum(state in OVER for state in alive)
        assert kernel.load(kernel.number(VIP, ONE))[:2] == (half, len(alive) - half - over)
        assert kernel.totals()[:2] == (len(alive) - half, half)

    def test_half_open_ones_that_the_kernel_pushed_out_are_no_load(self, kernel):
        kernel.add(state=State.SYN_SENT)
        kernel.count(kernel.number(VIP, ONE), half_open=5, all_half_open=5)
        kernel.run_sweep()
        assert kernel.load(kernel.number(VIP, ONE)).half_open == 1
        assert kernel.totals().half_open == 1
        assert counters(kernel.maps, kernel.tables, NOW).drops == {DropReason.HALF_OPEN_EVICTED: 5}

    def test_a_wrong_count_of_established_ones_is_set_right(self, kernel):
        kernel.add()
        kernel.count(kernel.number(VIP, ONE), established=3, all_established=3)
        kernel.run_sweep()
        assert kernel.load(kernel.number(VIP, ONE)).established == 1
        assert kernel.totals().established == 1

    @pytest.mark.parametrize("half_open", [-1, -3, 2])
    def test_a_wrong_count_of_half_open_ones_makes_none_of_established_ones_wrong(self, kernel, half_open):
        for port in range(1, 11):
            kernel.add(other(port))
        number = kernel.number(VIP, ONE)
        kernel.maps["loads"].update(
            word(number), layout.LOAD.pack(kernel.load(number)._replace(half_open=half_open % WRAP))
        )
        kernel.maps["totals"].update(
            word(0), layout.TOTALS.pack(kernel.totals()._replace(half_open=half_open % WRAP))
        )
        kernel.run_sweep()
        assert kernel.load(number)[:2] == (0, 10)
        assert kernel.totals()[:2] == (10, 0)

    @pytest.mark.parametrize(("off", "after"), [(1, 1), (-1, -1), (5, 2), (-5, -2)])
    def test_the_total_of_established_ones_is_right_but_for_what_began_meanwhile(self, kernel, off, after):
        """Of two that begin nobody knows whether they were met."""
        for port in range(1, 11):
            kernel.add(other(port))
        number = kernel.number(VIP, ONE)
        kernel.count(number, all_established=off)
        for program, pieces in kernel.sweep.programs(kernel.tables.paths):
            if program == "settle":
                busy = kernel.load(number)._replace(connections=2)
                kernel.maps["loads"].update(word(number), layout.LOAD.pack(busy))
            exhaust(pieces)
        assert kernel.load(number).established == 10
        assert kernel.totals().established == 10 + after

    def test_what_changes_meanwhile_is_not_overwritten(self, kernel):
        kernel.add()
        steps = kernel.sweep.steps(kernel.tables.paths)
        next(steps, None)  # has begun, and looked at the connection
        kernel.add(other(2))
        for _ in steps:
            pass
        assert kernel.load(kernel.number(VIP, ONE)).established == 2

    def test_those_that_are_gone_leave_the_queue_of_what_is_over(self, kernel):
        """More than a packet looks at in a row, so behind them the one that is over was out of reach."""
        kernel.add(state=State.TIME_WAIT, flags=layout.RESTED)
        gone = [kernel.rested(other(port)) for port in range(2, 4_002)]
        last = kernel.rested(CLIENT)
        queue = Queue(kernel.maps["rested"])
        for entry in (*gone, last):
            queue.push(entry)
        kernel.run_sweep()
        assert queue.first() == last
        kernel.apply(kernel.plan, now=NOW + 60 * SECOND)
        kernel.run_sweep()
        kernel.run_sweep()
        assert queue.first() is None

    def test_a_version_of_ip_without_a_path_is_left_out(self, kernel):
        kernel.add()
        kernel.add(CLIENT6, VIP6, SIX, state=State.SYN_SENT)
        four = {number: path for number, path in kernel.tables.paths.items() if path.version == 4}
        ran = {}
        for name, pieces in kernel.sweep.programs(four):
            ran[name] = sum(len(piece) for piece in pieces)
        assert {"look4", "look6", "look_half_open4", "look_half_open6"} <= ran.keys()  # the first time
        ran.clear()
        for name, pieces in kernel.sweep.programs(four):
            ran[name] = sum(len(piece) for piece in pieces)
        assert ran["look4"]
        assert ran.keys().isdisjoint({"look6", "look_half_open6"})
        assert kernel.load(kernel.number(VIP, ONE)).established == 1
        assert [name for name, _ in kernel.sweep.programs({})] == ["begin", "settle_half_open", "settle"]

    def test_the_totals_stay_where_a_path_comes_in_the_middle(self, kernel):
        """How many connections have begun on it is not known."""
        paths = dict(kernel.tables.paths)
        new = paths.popitem()
        kernel.count(kernel.number(VIP, ONE), all_half_open=5)
        before = kernel.totals()
        ran = []
        for name, pieces in kernel.sweep.programs(paths):
            exhaust(pieces)
            ran.append(name)
            if name == "look_half_open4":
                paths.update([new])
        assert {"begin", "settle_half_open", "settle"} <= set(ran)
        assert kernel.totals() == before
        exhaust(kernel.sweep.steps(paths))
        assert kernel.totals().half_open == 0

    def test_paths_that_no_connection_has_are_unused(self, kernel):
        kernel.add(state=State.TIME_WAIT)
        one, two = kernel.number(VIP, ONE), kernel.number(VIP, TWO)
        kernel.run_sweep()
        assert kernel.sweep.unused({one, two}) == {two}
        kernel.apply(kernel.plan, now=NOW + 60 * SECOND)
        kernel.run_sweep()
        assert kernel.sweep.unused({one, two}) == {one, two}

    @pytest.mark.parametrize(("off", "after"), [(1, 1), (-1, -1), (5, 2), (-5, -2)])
    def test_what_moves_meanwhile_is_corrected_as_far_as_it_is_wrong_beyond_doubt(self, kernel, off, after):
        """Of two connections that begin during the sweep nobody knows whether it has seen them."""
        for port in range(1, 11):
            kernel.add(other(port), state=State.SYN_SENT)
        number = kernel.number(VIP, ONE)
        right = kernel.load(number)
        wrong = right._replace(half_open=right.half_open + off)
        kernel.maps["loads"].update(word(number), layout.LOAD.pack(wrong))
        for program, pieces in kernel.sweep.programs(kernel.tables.paths):
            if program == "settle_half_open":
                busy = wrong._replace(connections=2)
                kernel.maps["loads"].update(word(number), layout.LOAD.pack(busy))
            exhaust(pieces)
        assert kernel.load(number).half_open == right.half_open + after

    def test_the_total_of_half_open_ones_is_no_less_than_there_are(self, kernel):
        """One that begins behind the look was not counted, and is not pushed out either."""
        for program, pieces in kernel.sweep.programs(kernel.tables.paths):
            if program == "settle_half_open":
                kernel.add(state=State.SYN_SENT)
                number = kernel.number(VIP, ONE)
                began = kernel.load(number)._replace(connections=1)
                kernel.maps["loads"].update(word(number), layout.LOAD.pack(began))
            exhaust(pieces)
        assert kernel.totals().half_open == 1
        found = counters(kernel.maps, kernel.tables, NOW)
        assert (found.half_open, found.drops) == (1, {})

    @pytest.mark.parametrize("seen", ["neither", "both"])
    def test_requests_that_begin_and_end_meanwhile_are_no_error(self, kernel, seen):
        """One ends without an answer, another begins on a kept connection: as many as before."""
        number, first, second = kernel.number(VIP, ONE), UNITS - 9_000, UNITS - 7_000
        kernel.add(other(1), asked=first % WRAP)
        kernel.add(other(2))
        kernel.outstanding(number, 1, first)
        steps = [("look4", lambda: kernel.begins(2, second)), ("settle", lambda: kernel.ends(1, first))]
        if seen == "neither":
            steps = [("look4", steps[1][1]), ("settle", steps[0][1])]
        for program, pieces in kernel.sweep.programs(kernel.tables.paths):
            for before, happens in steps:
                if program == before:
                    happens()
            exhaust(pieces)
        load = kernel.load(number)
        assert (load.outstanding, load.asked) == (1, second)

    def test_requests_that_were_pushed_out_are_outstanding_no_more(self, kernel):
        first = UNITS - 9_000
        kernel.add(other(1), asked=first % WRAP)
        kernel.add(other(2), asked=0)
        kernel.add(other(3), state=State.SYN_SENT, asked=7)  # its handshake
        number = kernel.number(VIP, ONE)
        wrong = kernel.load(number)._replace(outstanding=3, asked=3 * first + 5_000)
        kernel.maps["loads"].update(word(number), layout.LOAD.pack(wrong))
        kernel.run_sweep()
        load = kernel.load(number)
        assert (load.outstanding, load.asked) == (1, first)

    @pytest.mark.parametrize("off", [-WRAP, -5 * WRAP, 2 * UNITS])
    def test_since_when_they_wait_is_set_right_where_it_cannot_be_so(self, kernel, off):
        """Beside traffic: one waited for days, and was taken away as one of less than five hours; or a
        daemon before has added up what is left of times modulo 2^32."""
        number, asked = kernel.number(VIP, ONE), UNITS - 1_000
        kernel.add(other(1), asked=asked % WRAP)
        kernel.outstanding(number, 1, asked + off)
        for program, pieces in kernel.sweep.programs(kernel.tables.paths):
            if program == "settle":
                kernel.begins(2, UNITS)
            exhaust(pieces)
        load = kernel.load(number)
        assert load.outstanding == 2
        assert 0 <= 2 * UNITS - load.asked <= 2_000

    def test_requests_from_before_and_after_a_wrap(self, kernel):
        """Of the 32 bits in which a connection remembers its time."""
        number, wrap = kernel.number(VIP, ONE), UNITS // WRAP * WRAP
        asked = (wrap - 2_500, wrap - 1_000, wrap + 100)
        for port, each in enumerate(asked, 1):
            kernel.add(other(port), asked=each % WRAP)
        kernel.outstanding(number, 3, 0)  # which is wrong
        kernel.apply(kernel.plan, now=(wrap + 5_000) << layout.TIME_SHIFT)
        kernel.run_sweep()
        assert kernel.load(number).asked == sum(asked)
        kernel.asked(kernel.connections.query(ConnectionFilter(service="web"), take=True))
        assert kernel.load(number)[2:5] == (0, 3, 0)

    def test_since_when_the_others_wait_is_set_right_beside_traffic_too(self, kernel):
        """UDP questions pushed out with their flows, while others come: how long those that are left have
        waited is known as exactly as the sweep is short."""
        number, now = kernel.number(VIP, ONE), UNITS
        kernel.add(other(1), asked=(now - 1_000) % WRAP)
        kernel.outstanding(number, 1, now - 1_000)
        lost = kernel.load(number)._replace(outstanding=51, asked=now - 1_000 + 50 * (now - 900_000))
        kernel.maps["loads"].update(word(number), layout.LOAD.pack(lost))
        for program, pieces in kernel.sweep.programs(kernel.tables.paths):
            if program == "settle":
                kernel.begins(2, now)
            exhaust(pieces)
        load = kernel.load(number)
        assert load.outstanding <= 3
        ages = load.outstanding * now - load.asked
        assert 0 <= ages <= 2_000


class TestCounters:
    def test_by_service_and_backend_over_all_cpus(self, kernel):
        kernel.add()
        kernel.add(other(2), state=State.TIME_WAIT)
        kernel.add(other(3), state=State.SYN_SENT)
        cpus = len(kernel.maps["traffic"].lookup_percpu(word(0)))
        counts = layout.TRAFFIC.pack(layout.Traffic(1, 2, 3, 4))
        kernel.maps["traffic"].update(word(kernel.number(VIP, ONE)), counts * cpus)
        found = counters(kernel.maps, kernel.tables, NOW)
        assert found.backends["web", ONE] == Traffic(0, 1, 1, cpus, 2 * cpus, 3 * cpus, 4 * cpus)
        assert found.backends["six", SIX] == Traffic()
        assert found.verdicts[Verdict.FORWARD] == 3 * cpus
        assert (found.half_open, found.established) == (1, 1)

    def test_how_long_requests_have_waited(self, kernel):
        number, unit = kernel.number(VIP, ONE), 1 << layout.TIME_SHIFT
        kernel.maps["loads"].update(word(number), layout.LOAD.pack(layout.Load(0, 2, 2, asked=40 + 90)))
        found = counters(kernel.maps, kernel.tables, 100 * unit).backends["web", ONE]
        assert found.outstanding == 2
        assert found.waiting == pytest.approx((60 + 10) * unit / 1e9)

    @pytest.mark.parametrize("ago", [(7_500, 2_500), (7_500, 4_900, 4_800), (7_500,) * 9 + (4_990,)])
    def test_how_long_they_have_waited_where_some_did_before_the_wrap(self, ago):
        now = 5 * WRAP + 5_000
        load = layout.Load(0, 10, len(ago), asked=sum(now - each for each in ago))
        assert waiting(load, now << layout.TIME_SHIFT) == pytest.approx(sum(ago) * UNIT)

    @pytest.mark.parametrize(
        ("outstanding", "asked"), [(1, 2 * UNITS), (2, UNITS), (0, 0), (0, -UNITS), (-1, 0)]
    )
    def test_counts_that_were_read_while_they_changed_say_nothing(self, outstanding, asked):
        load = layout.Load(0, 10, outstanding % WRAP, asked=asked % (1 << 64))
        assert waiting(load, NOW) == 0.0

    def test_times_that_were_taken(self, kernel):
        number = kernel.number(VIP, ONE)
        responses = layout.TIMES.pack(2, 12, 48, *(2 * (bucket == 6) for bucket in range(BUCKETS)))
        measured = layout.Measured(bytes(layout.TIMES.size), responses)
        kernel.maps["measured"].update(word(number), layout.MEASURED.pack(measured))
        found = counters(kernel.maps, kernel.tables, NOW).backends["web", ONE]
        assert found.handshakes == Times()
        assert found.responses.count == 2
        assert found.responses.total == pytest.approx(12 * UNIT)
        assert found.responses.average == pytest.approx(6 * UNIT)
        assert found.responses.buckets[6] == 2

    def test_no_count_falls_when_the_source_address_changes_or_the_backend_is_down(self, kernel):
        """Of full NAT: the path from before has other connections, and its counts are the backend's."""
        old = kernel.number(FULL_VIP, ONE)
        cpus = len(kernel.maps["traffic"].lookup_percpu(word(0)))
        counts = layout.TRAFFIC.pack(layout.Traffic(1, 2, 3, 4))
        kernel.maps["traffic"].update(word(old), counts * cpus)
        for alive in (True, False, True):
            backend = BackendPlan(ONE, alive=alive, snat=OTHER_SNAT)
            kernel.apply(plan(service(backend, vip=FULL_VIP, name="full", nat=Nat.FULL)))
            unused = kernel.tables.numbers.to_free(frozenset(kernel.tables.numbers.retired))
            kernel.tables.free(unused)
            assert old in kernel.tables.numbers.retired
            found = counters(kernel.maps, kernel.tables, NOW)
            assert found.backends["full", ONE].packets_in == cpus

    def test_backends_that_are_removed_are_not_shown_but_their_packets_are_counted(self, kernel):
        cpus = len(kernel.maps["traffic"].lookup_percpu(word(0)))
        counts = layout.TRAFFIC.pack(layout.Traffic(1, 2, 3, 4))
        kernel.maps["traffic"].update(word(kernel.number(VIP, TWO)), counts * cpus)
        kernel.apply(plan(service(ONE), limits=Limits()))
        found = counters(kernel.maps, kernel.tables, NOW)
        assert list(found.backends) == [("web", ONE)]
        assert found.verdicts[Verdict.FORWARD] == 3 * cpus
        kernel.tables.free(kernel.tables.retired())
        assert counters(kernel.maps, kernel.tables, NOW).verdicts[Verdict.FORWARD] == 3 * cpus

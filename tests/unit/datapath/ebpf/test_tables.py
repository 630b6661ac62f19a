"""What a plan becomes in the maps, and in which order it gets there."""

import sys

import pytest

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.counters import loads
from l4lb.datapath.ebpf.ends import Ends
from l4lb.datapath.ebpf.layout import end_key, word
from l4lb.datapath.ebpf.numbers import OutOfNumbers
from l4lb.datapath.ebpf.tables import Tables
from l4lb.datapath.libbpf import LibbpfError, Map
from l4lb.model import (
    BackendPlan,
    Costs,
    Endpoint,
    Key,
    Protocol,
    State,
    Table,
    Timeouts,
    Verdict,
    WhenBackendDown,
)
from tests.unit.datapath.ebpf.kernel import by_end, selection
from tests.unit.datapath.ebpf.plans import (
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

TCP = int(Protocol.TCP)
OTHER_VIP = VIP.__class__(VIP.ip, 81)
COSTS = Costs(((0, 7), (1, 9)), candidates=2, idle=3, hot=frozenset({1}))


def struct(maps, name, key, kind):
    value = maps[name].lookup(key)
    return None if value is None else kind.unpack(value)


def path(maps, number):
    return struct(maps, "paths", word(number), layout.PATH)


def backend(maps, address=ONE):
    return by_end(maps, end_key(address.ip, address.port, TCP), layout.END_BACKEND)


def in_service(maps, vip=VIP):
    return by_end(maps, end_key(vip.ip, vip.port, TCP), layout.END_SERVICE)


def settings(maps):
    return struct(maps, "settings", word(0), layout.SETTINGS)


def applied(maps, *services, **settings):
    tables = Tables(maps)
    tables.apply(plan(*services, **settings))
    return tables


def flags(maps, address=ONE):
    return path(maps, backend(maps, address).path).flags


class TestAPlanInTheMaps:
    def test_a_service_and_its_backends(self, maps):
        applied(maps, service(ONE, TWO, affinity_timeout=300.0))
        assert in_service(maps) == layout.Service(
            layout.wide_end(end_key(VIP.ip, VIP.port, TCP)), 4, layout.KIND_TURN, 0, 0, 300
        )
        one, two = backend(maps, ONE), backend(maps, TWO)
        assert selection(maps, 0) == [one.path, two.path]
        assert path(maps, one.path) == layout.Path(
            layout.NO_HOP,
            layout.wide(ONE.ip),
            layout.wide(VIP.ip),
            bytes(16),
            b"\0P",
            b"\0P",
            one.number,
            0,
            TCP,
            4,
            layout.PATH_ALIVE | layout.PATH_USABLE,
        )
        assert one.flags == 0
        assert {*maps["addresses4"].keys()} == {end_key(each.ip, 0, 0) for each in (VIP, ONE, TWO)}

    def test_ipv6(self, maps):
        applied(maps, service(SIX, vip=VIP6))
        assert in_service(maps, VIP6).number == 0
        found = path(maps, backend(maps, SIX).path)
        assert (found.version, found.address, found.vip) == (6, SIX.ip, VIP6.ip)
        assert {*maps["addresses6"].keys()} == {end_key(each.ip, 0, 0) for each in (VIP6, SIX)}

    def test_full_nat(self, maps):
        applied(maps, full(ONE))
        assert in_service(maps).flags == layout.SERVICE_FULL_NAT
        found = backend(maps)
        assert found.flags == layout.BACKEND_SHARED
        (number,) = selection(maps, 0)[:1]
        assert path(maps, number).snat == layout.wide(SNAT)
        assert path(maps, number).flags & layout.PATH_FULL_NAT

    def test_costs_and_how_many_are_compared(self, maps):
        applied(maps, service(ONE, TWO, selection=COSTS))
        assert (in_service(maps).kind, in_service(maps).candidates) == (layout.KIND_COSTS, 2)
        one, two = backend(maps, ONE).path, backend(maps, TWO).path
        assert selection(maps, 0) == [one, two]
        assert [maps["costs"].lookup(word(path)) for path in (one, two)] == [word(7), word(9 | layout.HOT)]
        assert in_service(maps).idle == 3

    def test_no_backend(self, maps):
        applied(maps, service())
        assert selection(maps, 0) == []

    @pytest.mark.parametrize(
        ("down", "expected"), [(WhenBackendDown.RESET, layout.PATH_GONE), (WhenBackendDown.KEEP, 0)]
    )
    def test_a_backend_that_is_down(self, maps, down, expected):
        dead = BackendPlan(TWO, alive=False)
        applied(maps, service(ONE, dead, selection=Table(Key.TURN, (0,)), when_backend_down=down))
        assert flags(maps, TWO) == expected

    def test_a_backend_that_drains_is_alive(self, maps):
        applied(maps, service(ONE, TWO, selection=Table(Key.TURN, (1,))))
        assert flags(maps, ONE) == layout.PATH_ALIVE

    def test_settings(self, maps):
        applied(maps, timeouts=Timeouts(established=9000.5), snat_ports=(5, 6))
        found = settings(maps)
        assert layout.TIMEOUTS.unpack(found.timeouts)[State.ESTABLISHED] == 9_000_500_000_000
        assert found.established == 1024  # as many as fit into the map
        assert (found.first_port, found.last_port) == (5, 6)
        assert found.generation != 0

    def test_the_clock(self, maps):
        tables = applied(maps, service(ONE))
        before = settings(maps)
        tables.set_clock(18)
        assert settings(maps) == before._replace(clock=18)

    def test_the_same_plan_again_writes_nothing(self, maps, monkeypatch):
        tables = applied(maps, service(ONE, TWO), full(TWO, vip=OTHER_VIP), service(SIX, vip=VIP6))
        for name in ("update", "update_batch", "delete", "delete_batch", "create_array"):
            monkeypatch.setattr(Map, name, None)
        tables.apply(plan(service(ONE, TWO), full(TWO, vip=OTHER_VIP), service(SIX, vip=VIP6)))


class TestBackendsOfSeveralServices:
    def test_connections_of_the_service_that_had_it_alone_are_still_found(self, maps):
        tables = applied(maps, service(ONE))
        alone = backend(maps)
        tables.apply(plan(service(ONE, vip=OTHER_VIP, name="b"), service(ONE)))
        assert backend(maps) == alone._replace(flags=layout.BACKEND_SHARED)

    def test_it_is_the_others_alone_once_one_has_it_no_more(self, maps):
        tables = applied(maps, service(ONE), service(ONE, vip=OTHER_VIP, name="b"))
        tables.apply(plan(service(), service(ONE, vip=OTHER_VIP, name="b")))
        found = backend(maps)
        assert (found.flags, found.service) == (0, in_service(maps, OTHER_VIP).number)

    def test_packets_of_a_removed_backend_are_told_from_others_until_its_path_is_free(self, maps):
        tables = applied(maps, service(ONE, TWO))
        before = backend(maps, TWO)
        tables.apply(plan(service(ONE)))
        assert backend(maps, TWO)[:3] == before[:3]
        tables.free({before.path})
        assert backend(maps, TWO) is None

    def test_the_address_of_a_removed_backend_is_nobodys_at_once(self, maps):
        tables = applied(maps, service(ONE, TWO))
        tables.apply(plan(service(ONE)))
        assert {*maps["addresses4"].keys()} == {end_key(each.ip, 0, 0) for each in (VIP, ONE)}


class TestChanges:
    def test_a_removed_backend_is_gone_and_its_connections_are_to_be_reset(self, maps):
        tables = applied(maps, service(ONE, TWO))
        old = backend(maps, TWO).path
        tables.apply(plan(service(ONE)))
        assert path(maps, old).flags == layout.PATH_GONE | layout.PATH_RETIRED
        assert tables.to_reset == {old}
        assert selection(maps, 0) == [backend(maps, ONE).path]

    def test_a_backend_that_is_up_again_in_time_is_not_to_be_reset(self, maps):
        tables = applied(maps, service(ONE, TWO))
        tables.apply(plan(service(ONE, BackendPlan(TWO, alive=False), selection=Table(Key.TURN, (0,)))))
        assert tables.to_reset == {backend(maps, TWO).path}
        tables.apply(plan(service(ONE, TWO)))
        assert tables.to_reset == set()

    def test_a_removed_service_leaves_the_maps(self, maps):
        tables = applied(maps, service(ONE))
        old = backend(maps).path
        tables.apply(plan())
        assert in_service(maps) is None
        assert selection(maps, 0) == []
        assert tables.names[0] == "web"
        tables.free({old})
        assert tables.names == {}
        assert path(maps, old) == layout.PATH.unpack(bytes(layout.PATH.size))

    def test_a_removed_service_or_backend_stays_as_it_was_for_a_program_that_has_found_it(self, maps):
        tables = applied(maps, service(ONE))
        service_before, backend_before = in_service(maps), backend(maps)
        tables.apply(plan())
        tables.free({backend_before.path})
        removed = layout.SERVICE.unpack(maps["services"].lookup(word(service_before.number)))
        assert removed == service_before._replace(version=0)
        removed = layout.BACKEND.unpack(maps["backends"].lookup(word(backend_before.number)))
        assert removed == backend_before._replace(version=0)

    def test_another_source_address_is_another_path_and_the_old_connections_go_on(self, maps):
        tables = applied(maps, full(ONE))
        (old,) = set(selection(maps, 0))
        tables.apply(plan(full(ONE, snat=OTHER_SNAT)))
        (new,) = set(selection(maps, 0))
        assert path(maps, new).snat == layout.wide(OTHER_SNAT)
        kept = path(maps, old)
        assert kept.snat == layout.wide(SNAT)
        assert kept.flags == layout.PATH_ALIVE | layout.PATH_FULL_NAT | layout.PATH_RETIRED
        assert tables.to_reset == set()
        tables.apply(plan())
        assert tables.to_reset == {old, new}

    def test_the_packets_of_a_freed_path_stay_in_the_sum(self, maps):
        tables = applied(maps, service(ONE))
        number = backend(maps).path
        cpus = len(maps["traffic"].lookup_percpu(word(number)))
        maps["traffic"].update(word(number), layout.TRAFFIC.pack(layout.Traffic(5, 6, 7, 8)) * cpus)
        maps["loads"].update(word(number), layout.LOAD.pack(layout.Load(3, 4)))
        tables.apply(plan())
        tables.free({number})
        counts = maps["verdicts"].lookup_percpu(word(Verdict.FORWARD))
        assert sum(int.from_bytes(count, sys.byteorder) for count in counts) == 11 * cpus
        assert not any(b"".join(maps["traffic"].lookup_percpu(word(number))))
        assert not any(maps["loads"].lookup(word(number)))

    def test_changed_routes_are_another_generation_and_never_none(self, maps):
        tables = applied(maps)
        before = settings(maps).generation
        tables.routes_changed()
        assert settings(maps).generation == before + 1
        last = settings(maps)._replace(generation=0xFFFF_FFFF)
        maps["settings"].update(word(0), layout.SETTINGS.pack(last))
        tables = Tables(maps)
        tables.routes_changed()
        assert settings(maps).generation == 1

    def test_interfaces(self, maps):
        tables = applied(maps)
        one, two = layout.Interface(layout.HOP_PEER, b"\2one.."), layout.Interface(0, b"\2two..")
        assert tables.set_interfaces({3: one, 4: two})
        assert tables.set_interfaces({4: one})
        assert not tables.set_interfaces({4: one})
        assert dict(maps["interfaces"].items()) == {word(4): layout.INTERFACE.pack(one)}
        assert Tables(maps).interfaces == {4: one}

    def test_interfaces_that_could_be_written_in_part_only(self, maps, monkeypatch):
        """Also where it is to be as it was before."""

        def refuse(*_):
            raise LibbpfError("no memory")

        tables = applied(maps)
        one, two = layout.Interface(0, b"\2one.."), layout.Interface(0, b"\2two..")
        tables.set_interfaces({3: one})
        with monkeypatch.context() as patch:
            patch.setattr(Map, "update", refuse)
            with pytest.raises(LibbpfError):
                tables.set_interfaces({4: two})
        assert tables.set_interfaces({3: one})
        assert dict(maps["interfaces"].items()) == {word(3): layout.INTERFACE.pack(one)}

    def test_more_interfaces_than_there_is_room_for(self, maps):
        """The room is what a daemon before has made: the last are left out, and nothing fails."""
        tables, room = applied(maps), maps["interfaces"].max_entries
        many = {index: layout.Interface(0, b"\2many.") for index in range(1, room + 100)}
        assert tables.set_interfaces(many)
        assert not tables.set_interfaces(many)
        assert len(list(maps["interfaces"].keys())) == len(tables.interfaces) == room
        assert room in tables.interfaces
        assert room + 1 not in tables.interfaces


class TestOtherCosts:
    def test_are_written_and_the_rest_stays(self, maps):
        tables = applied(maps, service(ONE, TWO, selection=COSTS), service(SIX, vip=VIP6, name="six"))
        one, two = backend(maps, ONE).path, backend(maps, TWO).path
        before = selection(maps, 0)
        tables.reweigh(
            {"web": Costs(((0, 5), (1, 9)), idle=0), "six": Costs(((0, 1),)), "nobody": Costs(())}
        )
        assert [maps["costs"].lookup(word(path)) for path in (one, two)] == [word(5), word(9)]
        assert (in_service(maps).idle, in_service(maps).candidates) == (0, 0)
        assert in_service(maps, VIP6).kind == layout.KIND_TURN
        assert selection(maps, 0) == before
        tables.apply(plan(service(ONE, TWO, selection=COSTS)))
        assert maps["costs"].lookup(word(one)) == word(7)


class TestManyEnds:
    """More than the smallest table is for."""

    MANY = tuple(Endpoint(bytes((10, 9, number // 250, number % 250 + 1)), 80) for number in range(600))

    def test_each_is_found_in_a_larger_table_those_before_too(self, maps):
        tables = applied(maps, service(ONE), service(SIX, vip=VIP6, name="six"))
        smallest = settings(maps).ends
        tables.apply(plan(service(ONE, *self.MANY), service(SIX, vip=VIP6, name="six")))
        assert settings(maps).ends >= 8 * len(self.MANY) > smallest == layout.FEWEST_ENDS
        assert all(backend(maps, address) for address in (ONE, SIX, *self.MANY))
        assert all(in_service(maps, vip) for vip in (VIP, VIP6))
        tables.apply(plan(service(ONE)))
        assert backend(maps, ONE) is not None
        assert [in_service(maps, vip) is not None for vip in (VIP, VIP6)] == [True, False]

    def test_a_larger_table_is_whole_before_packets_are_looked_up_in_it(self, maps, monkeypatch):
        tables = applied(maps, service(ONE, *self.MANY[:60]))
        write, before, found = Tables._put_settings, (ONE, *self.MANY[:60]), []

        def recording(self, new):
            write(self, new)
            found.append((new.ends, all(backend(maps, address) for address in before)))

        monkeypatch.setattr(Tables, "_put_settings", recording)
        tables.apply(plan(service(ONE, *self.MANY)))
        assert found == [(layout.FEWEST_ENDS, True), (8192, True)]

    def test_a_daemon_that_was_killed_while_it_filled_one(self, maps, monkeypatch):
        first = applied(maps, service(ONE, TWO))
        add = Ends.add

        def killed(self, key, kind, number):
            add(self, key, kind, number)
            if self.size > layout.FEWEST_ENDS:
                raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr(Ends, "add", killed)
            with pytest.raises(KeyboardInterrupt):
                first.apply(plan(service(ONE, *self.MANY)))
        assert all(
            found is not None for found in (backend(maps, ONE), backend(maps, TWO), in_service(maps))
        )
        second = Tables(maps)
        second.apply(plan(service(TWO, *self.MANY)))
        ends = maps["ends"].memory().cast("Q")[8192 : 2 * 8192]
        assert sum(slot != 0 for slot in ends) == len(self.MANY) + 3  # ONE has a path as yet
        assert all(backend(maps, address) for address in (TWO, *self.MANY))


class TestMoreServicesThanNumbers:
    FIRST, SECOND, THIRD = (
        service(ONE, vip=Endpoint(VIP.ip, port), name=f"port {port}") for port in (81, 82, 83)
    )

    @pytest.fixture(autouse=True)
    def two_numbers(self, monkeypatch):
        monkeypatch.setattr("l4lb.datapath.ebpf.numbers.SERVICES", 2)

    def ports(self, maps):
        return [port for port in (81, 82, 83) if in_service(maps, Endpoint(VIP.ip, port))]

    def test_those_that_are_removed_make_way_for_those_that_are_to_come(self, maps):
        tables = applied(maps, self.FIRST, self.SECOND)
        for _ in range(2):
            with pytest.raises(OutOfNumbers):
                tables.apply(plan(self.SECOND, self.THIRD))
            assert self.ports(maps) == [82]
        assert tables.to_reset == tables.retired() != set()
        tables.free(tables.retired())
        tables.apply(plan(self.SECOND, self.THIRD))
        assert self.ports(maps) == [82, 83]

    def test_they_do_so_too_if_that_failed_at_first(self, maps, monkeypatch):
        tables = applied(maps, self.FIRST, self.SECOND)

        def fail(self, wanted):
            raise LibbpfError("no memory")

        with monkeypatch.context() as broken:
            broken.setattr(Tables, "_write", fail)
            with pytest.raises(LibbpfError):
                tables.apply(plan(self.SECOND, self.THIRD))
        assert self.ports(maps) == [81, 82]
        with pytest.raises(OutOfNumbers):
            tables.apply(plan(self.SECOND, self.THIRD))
        assert self.ports(maps) == [82]
        tables.free(tables.retired())
        tables.apply(plan(self.SECOND, self.THIRD))
        assert self.ports(maps) == [82, 83]

    def test_none_that_the_plan_still_has_does(self, maps):
        tables = applied(maps, self.FIRST, self.SECOND)
        with pytest.raises(OutOfNumbers):
            tables.apply(plan(self.FIRST, self.SECOND, self.THIRD))
        assert self.ports(maps) == [81, 82]
        assert tables.retired() == set()

    def test_of_a_daemon_before_it_is_not_known_which_could(self, maps):
        applied(maps, self.FIRST, self.SECOND)
        with pytest.raises(OutOfNumbers):
            Tables(maps).apply(plan(self.SECOND, self.THIRD))
        assert self.ports(maps) == [81, 82]


class TestManyServices:
    def test_their_selections_take_few_descriptors_at_a_time(self, maps, monkeypatch):
        create, close, opened, most = Map.create_array, Map.close, set(), [0]

        def count(*arguments, **options):
            table = create(*arguments, **options)
            opened.add(table)
            most.append(len(opened))
            return table

        def forget(self):
            close(self)
            opened.discard(self)

        monkeypatch.setattr(Map, "create_array", count)
        monkeypatch.setattr(Map, "close", forget)
        many = [service(ONE, vip=Endpoint(VIP.ip, port), name=f"port {port}") for port in range(1000, 1300)]
        applied(maps, *many)
        assert max(most) == 64
        assert not opened
        assert all(selection(maps, number) for number in range(len(many)))

    def test_those_of_all_that_are_removed_are_emptied_with_one_write(self, maps, monkeypatch):
        """After each write the kernel waits for milliseconds until no program reads what was there."""
        many = [service(ONE, vip=Endpoint(VIP.ip, port), name=f"port {port}") for port in range(1000, 1300)]
        tables = applied(maps, *many)
        writes = []

        def recording(name):
            write = getattr(Map, name)

            def record(self, *arguments):
                if self.name == "selections":
                    writes.append(name)
                return write(self, *arguments)

            monkeypatch.setattr(Map, name, record)

        for name in ("update", "update_batch", "delete", "delete_batch"):
            recording(name)
        tables.apply(plan(many[0]))
        assert writes == ["update_batch"]
        assert [bool(selection(maps, number)) for number in range(len(many))] == [True] + [False] * 299


class TestOrder:
    """What a packet meets between two writes."""

    @pytest.fixture
    def writes(self, monkeypatch):
        """The names of the maps in the order in which they were written."""
        log = []

        def recording(kind, name):
            write = getattr(kind, name)

            def record(self, *arguments):
                log.append("ends" if kind is Ends else self.name)
                return write(self, *arguments)

            monkeypatch.setattr(kind, name, record)

        for name in ("update", "update_batch", "delete", "delete_batch"):
            recording(Map, name)
        for name in ("add", "remove"):
            recording(Ends, name)
        return log

    def order(self, writes, *names):
        written = [name for name in writes if name in names]
        writes.clear()
        return written

    def test_what_is_pointed_to_comes_first_and_goes_last(self, maps, writes):
        tables = applied(maps, service(ONE))
        names = "paths", "backends", "selections", "services", "ends"
        begun = ["paths", "backends", "ends", "selections", "services", "ends"]
        assert self.order(writes, *names) == begun
        tables.apply(plan(service(TWO)))
        assert self.order(writes, *names) == ["paths", "backends", "ends", "selections", "paths"]
        tables.apply(plan())
        assert self.order(writes, *names) == ["ends", "services", "selections", "paths"]

    def test_who_is_chosen_by_cost_has_one(self, maps, writes):
        tables = applied(maps, service(ONE, TWO))
        writes.clear()
        tables.apply(plan(service(TWO, ONE, selection=COSTS)))
        assert self.order(writes, "costs", "selections", "services") == ["costs", "selections", "services"]

    def test_what_failed_is_made_up_for(self, maps, monkeypatch):
        tables = applied(maps, service(ONE))
        with monkeypatch.context() as broken:

            def fail(self, pairs):
                raise LibbpfError("no memory")

            broken.setattr(Map, "update_batch", fail)
            with pytest.raises(LibbpfError):
                tables.apply(plan(service(ONE, TWO), service(SIX, vip=VIP6)))
        tables.apply(plan(service(ONE, TWO), service(SIX, vip=VIP6)))
        assert selection(maps, 0) == [backend(maps, ONE).path, backend(maps, TWO).path]
        assert in_service(maps, VIP6) is not None


class TestAPlanThatFailedHalfWay:
    """Numbers say what should be, maps what is."""

    def failed(self, tables, monkeypatch, *services, of=Map, write="create_array"):
        def fail(*arguments, **options):
            raise LibbpfError("too many open files")

        with monkeypatch.context() as broken:
            broken.setattr(of, write, fail)
            with pytest.raises(LibbpfError):
                tables.apply(plan(*services))

    def test_a_path_that_is_chosen_still_is_not_freed(self, maps, monkeypatch):
        tables = applied(maps, service(ONE, TWO))
        chosen, removed = selection(maps, 0), backend(maps, TWO).path
        self.failed(tables, monkeypatch, service(ONE))
        assert list(tables.numbers.retired) == [removed]
        assert tables.retired() == set()
        tables.free({removed})
        assert selection(maps, 0) == chosen
        assert all(path(maps, number).version for number in chosen)
        tables.apply(plan(service(ONE)))
        assert tables.retired() == {removed}
        tables.free({removed})
        assert not path(maps, removed).version
        assert not tables.numbers.retired

    def test_a_service_that_is_there_still_has_its_number_still(self, maps, monkeypatch):
        """Or back in the plan, with backends, its packets would be those of the number that it had."""
        tables = applied(maps, service())
        self.failed(tables, monkeypatch, service(TWO, vip=OTHER_VIP, name="b"))
        tables.free(tables.retired())
        tables.apply(plan(service(TWO, vip=OTHER_VIP, name="b"), service(ONE)))
        assert selection(maps, in_service(maps).number) == [backend(maps).path]
        assert selection(maps, in_service(maps, OTHER_VIP).number) == [backend(maps, TWO).path]
        tables.apply(plan(service(TWO, vip=OTHER_VIP, name="b")))
        assert in_service(maps) is None
        assert in_service(maps, OTHER_VIP) is not None

    def test_what_was_written_of_a_batch_that_failed_is_known(self, maps, monkeypatch):
        """The kernel writes a batch one by one: some of it may be there."""
        tables = applied(maps, service(ONE, TWO))
        down = BackendPlan(TWO, alive=False)
        write = Map.update_batch

        def fail_behind(self, pairs):
            write(self, pairs)
            if self.name == "paths":
                raise LibbpfError("no memory")

        with monkeypatch.context() as broken:
            broken.setattr(Map, "update_batch", fail_behind)
            with pytest.raises(LibbpfError):
                tables.apply(plan(service(ONE, down, selection=Table(Key.TURN, (0,)))))
        assert flags(maps, TWO) == layout.PATH_GONE
        tables.apply(plan(service(ONE, TWO)))
        assert flags(maps, TWO) == layout.PATH_ALIVE | layout.PATH_USABLE

    def test_a_cost_that_was_written_of_a_batch_that_failed_is_written_again(self, maps, monkeypatch):
        tables = applied(maps, service(ONE, TWO, selection=COSTS))
        write = Map.update_batch

        def fail_behind(self, pairs):
            write(self, pairs)
            raise LibbpfError("no memory")

        with monkeypatch.context() as broken:
            broken.setattr(Map, "update_batch", fail_behind)
            with pytest.raises(LibbpfError):
                tables.reweigh({"web": Costs(((0, 5), (1, 5)))})
        tables.apply(plan(service(ONE, TWO, selection=COSTS)))
        assert maps["costs"].lookup(word(backend(maps, ONE).path)) == word(7)

    def test_loads_are_of_the_paths_that_are_there(self, maps, monkeypatch):
        tables = applied(maps, service(ONE))
        self.failed(tables, monkeypatch, service(ONE, TWO), of=Tables, write="_make_room")
        assert loads(maps, tables, {"web"}, 0).keys() == {("web", ONE)}

    def test_a_service_that_is_not_there_is_not_reweighed(self, maps, monkeypatch):
        tables = applied(maps, service(ONE))
        self.failed(tables, monkeypatch, service(SIX, vip=VIP6, name="six", selection=Costs(((0, 1),))))
        tables.reweigh({"six": Costs(((0, 2),))})
        assert in_service(maps, VIP6) is None


class TestAdoption:
    def test_another_daemon_goes_on_with_the_same_numbers(self, maps):
        first = applied(maps, service(ONE, TWO), full(TWO, vip=OTHER_VIP, name="b"), service(SIX, vip=VIP6))
        first.apply(plan(service(TWO), full(TWO, vip=OTHER_VIP, name="b"), service(SIX, vip=VIP6)))
        second = Tables(maps)
        assert second.numbers.paths == first.numbers.paths
        assert second.numbers.retired == first.numbers.retired
        assert second.numbers.services == first.numbers.services
        assert second.numbers.backends == first.numbers.backends
        assert second.paths == first.paths
        assert second.to_reset == set(first.numbers.retired)

    def test_what_the_new_plan_has_no_more_is_retired(self, maps):
        applied(maps, service(ONE, TWO))
        old = backend(maps, TWO).path
        second = Tables(maps)
        second.apply(plan(service(ONE)))
        assert list(second.numbers.retired) == [old]
        assert path(maps, old).flags & layout.PATH_GONE

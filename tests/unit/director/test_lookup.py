"""What a change of the plan keeps, and what it ends."""

from dataclasses import replace

import pytest

from l4lb.director.lookup import Services
from l4lb.model import Costs, Endpoint, Key, Limits, Nat, Plan, Protocol, Table, WhenBackendDown
from tests.unit.director.gateway import BACKEND, OTHER, SNAT, VIP, service

TCP, UDP = Protocol.TCP, Protocol.UDP
TWO = service(BACKEND, OTHER)


@pytest.fixture
def services():
    return Services()


def configure(services, *plans, **words):
    """True if connections want attention."""
    return services.configure(Plan(plans, **words))


def path(services, backend=BACKEND, protocol=TCP):
    return services.find_path(protocol, VIP, backend)


class TestFinding:
    def test_by_vip_and_by_backend(self, services):
        configure(services, TWO, service(BACKEND, name="dns", protocol=UDP))
        assert services.at(TCP, VIP.ip, 80).plan.name == "web"
        assert services.at(UDP, VIP.ip, 80).plan.name == "dns"
        assert services.at(TCP, VIP.ip, 81) is None
        assert [state.plan.name for state in services.by_backend[UDP, BACKEND.ip, 8080]] == ["dns"]

    def test_a_backend_of_two_services_is_of_both(self, services):
        configure(services, TWO, service(BACKEND, name="more", vip=replace(VIP, port=81)))
        names = [state.plan.name for state in services.by_backend[TCP, BACKEND.ip, 8080]]
        assert names == ["web", "more"]

    def test_addresses_are_those_of_vips_and_backends(self, services):
        configure(services, TWO)
        assert services.addresses == {VIP.ip, BACKEND.ip, OTHER.ip}

    def test_a_path_needs_both_ends(self, services):
        configure(services, service(BACKEND))
        assert path(services).address == BACKEND
        assert path(services, OTHER) is None
        assert services.find_path(TCP, replace(VIP, port=81), BACKEND) is None


class TestChanges:
    def test_the_same_plan_again_changes_nothing(self, services):
        configure(services, TWO)
        before = services.paths()
        assert not configure(services, TWO)
        assert all(now is then for now, then in zip(services.paths(), before, strict=True))

    @pytest.mark.parametrize(
        "new",
        [
            service(OTHER, BACKEND),
            service(BACKEND, OTHER, name="renamed"),
            service(BACKEND, OTHER, selection=Table(Key.FLOW, (1,))),
            service(BACKEND, OTHER, affinity_timeout=5.0),
            service(BACKEND, OTHER, Endpoint.parse("10.2.0.13:8080")),
        ],
        ids=["order", "name", "selection", "affinity", "one more"],
    )
    def test_backends_that_stay_keep_their_path_and_its_counters(self, services, new):
        configure(services, TWO)
        before = path(services)
        before.packets_in = 7
        assert not configure(services, new)
        assert path(services) is before
        assert (before.packets_in, before.alive, before.service) == (7, True, new.name)

    def test_the_turn_goes_on(self, services):
        configure(services, TWO)
        services.at(TCP, VIP.ip, 80).turn = 5
        configure(services, service(OTHER, BACKEND))
        assert services.at(TCP, VIP.ip, 80).turn == 5

    def test_a_removed_backend_retires(self, services):
        configure(services, TWO)
        gone = path(services)
        gone.packets_in, gone.packets_out = 3, 4
        assert configure(services, service(OTHER))
        assert gone.gone
        assert not gone.usable
        assert path(services) is None
        assert services.forwarded_before == 7
        assert BACKEND.ip not in services.addresses
        assert (TCP, BACKEND.ip, 8080) not in services.by_backend

    def test_what_removed_backends_forwarded_adds_up(self, services):
        configure(services, TWO)
        for backend, packets in ((BACKEND, 3), (OTHER, 4)):
            path(services, backend).packets_in = packets
        configure(services, service(OTHER))
        configure(services)
        assert services.forwarded_before == 7

    def test_it_retires_also_where_connections_of_the_down_are_kept(self, services):
        keep = {"when_backend_down": WhenBackendDown.KEEP}
        configure(services, service(BACKEND, OTHER, **keep))
        gone = path(services)
        assert configure(services, service(OTHER, **keep))
        assert gone.gone

    def test_one_that_comes_back_is_a_new_path(self, services):
        configure(services, TWO)
        gone = path(services)
        configure(services, service(OTHER))
        configure(services, TWO)
        assert path(services) is not gone
        assert gone.gone
        assert not path(services).gone

    def test_a_removed_service_retires_all_its_paths(self, services):
        configure(services, TWO, service(BACKEND, name="dns", protocol=UDP))
        before = [path(services), path(services, OTHER)]
        stays = path(services, protocol=UDP)
        assert configure(services, service(BACKEND, name="dns", protocol=UDP))
        assert all(gone.gone for gone in before)
        assert path(services, protocol=UDP) is stays
        assert not stays.gone

    def test_another_kind_of_nat_is_another_service(self, services):
        """What was translated one way cannot go on the other way."""
        configure(services, TWO)
        before = path(services)
        assert configure(services, service(BACKEND, OTHER, nat=Nat.FULL))
        assert before.gone
        assert path(services).snat == SNAT

    def test_another_snat_address_is_for_new_connections(self, services):
        configure(services, service(BACKEND, nat=Nat.FULL))
        before = path(services)
        plan = service(BACKEND, nat=Nat.FULL)
        (backend,) = plan.backends
        new = replace(plan, backends=(replace(backend, snat=bytes([10, 2, 0, 2])),))
        assert not configure(services, new)
        assert path(services) is before
        assert before.snat == bytes([10, 2, 0, 2])


class TestDown:
    def test_going_down_wants_attention_once(self, services):
        configure(services, TWO)
        down = service(BACKEND, OTHER, down=[BACKEND])
        assert configure(services, down)
        assert path(services).gone
        assert not configure(services, down)
        assert not configure(services, TWO)
        assert not path(services).gone

    def test_connections_of_the_down_may_be_kept(self, services):
        configure(services, TWO)
        configure(services, service(BACKEND, OTHER, down=[BACKEND], when_backend_down=WhenBackendDown.KEEP))
        assert not path(services).alive
        assert not path(services).gone

    def test_a_service_that_begins_with_one_down(self, services):
        assert not configure(services, service(BACKEND, OTHER, down=[BACKEND]))
        assert path(services).gone


class TestUsable:
    @pytest.mark.parametrize(
        ("selection", "usable"),
        [
            (Table(Key.TURN, (0, 1, 0)), {BACKEND, OTHER}),
            (Table(Key.SOURCE, (1, 1)), {OTHER}),
            (Table(Key.TURN, ()), set()),
            (Costs(((0, 65536),)), {BACKEND}),
            (Costs(()), set()),
        ],
    )
    def test_usable_is_what_the_selection_can_choose(self, services, selection, usable):
        configure(services, TWO)
        configure(services, service(BACKEND, OTHER, selection=selection))
        assert {path.address for path in services.paths() if path.usable} == usable


class TestAffinity:
    def state(self, services):
        return services.at(TCP, VIP.ip, 80)

    def test_clients_are_remembered_through_changes(self, services):
        configure(services, service(BACKEND, OTHER, affinity_timeout=60.0))
        before = self.state(services).affinity
        configure(services, service(OTHER, BACKEND, affinity_timeout=90.0))
        assert self.state(services).affinity is before
        assert before.timeout == 90.0

    def test_the_limit_follows_the_plan(self, services):
        plan = service(BACKEND, OTHER, affinity_timeout=60.0)
        configure(services, plan, limits=Limits(affinity=10))
        assert {each.limit for each in services.clients.values()} == {10}
        configure(services, plan, limits=Limits(affinity=5))
        assert {each.limit for each in services.clients.values()} == {5}

    def test_without_affinity_they_are_forgotten(self, services):
        configure(services, service(BACKEND, affinity_timeout=60.0))
        configure(services, service(BACKEND))
        assert self.state(services).affinity is None

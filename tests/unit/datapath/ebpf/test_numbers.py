"""Numbers stay with their owners, and come back only when nobody can mean the old one."""

from random import Random

import pytest

from l4lb.datapath.ebpf import numbers as module
from l4lb.datapath.ebpf.numbers import NumberedPath, Numbers, OutOfNumbers, Way
from l4lb.model import Endpoint, Protocol
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


def way(backend, vip=VIP, full_nat=False):
    return Way(TCP, vip, backend, full_nat)


def numbered(*services):
    numbers = Numbers()
    numbers.update(plan(*services))
    return numbers


def number(numbers, backend, **how):
    return numbers.paths[way(backend, **how)].number


def test_all_of_a_plan_has_numbers_and_no_two_the_same():
    numbers = numbered(service(ONE, TWO), service(SIX, ONE, vip=VIP6, name="six"))
    assert sorted(numbers.services.values()) == [0, 1]
    assert sorted(numbers.backends.values()) == [0, 1, 2]
    assert sorted(path.number for path in numbers.paths.values()) == [0, 1, 2, 3]


def test_who_stays_keeps_its_numbers():
    numbers = numbered(service(ONE, TWO))
    before = number(numbers, TWO), numbers.services[TCP, VIP], numbers.backends[TCP, TWO]
    numbers.update(plan(service(SIX, vip=VIP6, name="six"), service(TWO)))
    assert (number(numbers, TWO), numbers.services[TCP, VIP], numbers.backends[TCP, TWO]) == before


def test_a_removed_backend_keeps_its_numbers_until_its_path_is_free():
    numbers = numbered(service(ONE, TWO))
    old, backend = number(numbers, TWO), numbers.backends[TCP, TWO]
    numbers.update(plan(service(ONE)))
    numbers.in_force()
    assert numbers.retired == {old: NumberedPath(old, way(TWO), gone=True)}
    assert numbers.backends[TCP, TWO] == backend
    numbers.free([old])
    assert not numbers.retired
    assert (TCP, TWO) not in numbers.backends


def test_a_backend_that_comes_back_gets_another_path_as_its_connections_are_to_end():
    numbers = numbered(service(ONE, TWO))
    old, backend = number(numbers, TWO), numbers.backends[TCP, TWO]
    numbers.update(plan(service(ONE)))
    numbers.update(plan(service(ONE, TWO)))
    assert number(numbers, TWO) != old
    assert list(numbers.retired) == [old]
    assert numbers.backends[TCP, TWO] == backend
    numbers.free([old])
    assert numbers.backends[TCP, TWO] == backend


def test_a_removed_service_keeps_its_number_until_its_paths_are_free():
    numbers = numbered(service(ONE), service(SIX, vip=VIP6, name="six"))
    kept = numbers.services[TCP, VIP]
    numbers.update(plan(service(SIX, vip=VIP6, name="six")))
    numbers.in_force()
    assert numbers.services[TCP, VIP] == kept
    numbers.free(list(numbers.retired))
    assert (TCP, VIP) not in numbers.services


def test_a_removed_service_keeps_its_number_until_the_plan_without_it_is_in_force():
    numbers = numbered(service(), service(ONE, vip=VIP6, name="six"))
    kept = numbers.services[TCP, VIP]
    numbers.update(plan())
    numbers.free(list(numbers.retired))
    numbers.update(plan(service(ONE, vip=VIP6, name="six")))
    assert numbers.services[TCP, VIP] == kept
    numbers.in_force()
    assert (TCP, VIP) not in numbers.services
    assert (TCP, VIP6) in numbers.services


def test_a_number_given_back_is_the_last_to_be_taken(monkeypatch):
    monkeypatch.setattr(module, "PATHS", 3)
    numbers = numbered(service(ONE))
    taken = []
    for _ in range(6):
        numbers.update(plan())
        numbers.free(list(numbers.retired))
        numbers.update(plan(service(ONE)))
        taken.append(number(numbers, ONE))
    assert taken == [1, 2, 0, 1, 2, 0]


def test_another_kind_of_nat_is_another_path():
    numbers = numbered(service(ONE))
    old = number(numbers, ONE)
    numbers.update(plan(full(ONE)))
    assert number(numbers, ONE, full_nat=True) != old
    assert numbers.retired[old].gone


def test_connections_keep_the_source_address_that_they_began_with():
    numbers = numbered(full(ONE))
    old = number(numbers, ONE, full_nat=True)
    numbers.update(plan(full(ONE, snat=OTHER_SNAT)))
    assert numbers.paths[way(ONE, full_nat=True)].snat == OTHER_SNAT
    assert number(numbers, ONE, full_nat=True) != old
    assert numbers.retired == {old: NumberedPath(old, way(ONE, full_nat=True), SNAT, gone=False)}


def test_a_source_address_that_is_lost_and_comes_back_changes_no_path():
    numbers = numbered(full(ONE))
    old = number(numbers, ONE, full_nat=True)
    numbers.update(plan(full(ONE, snat=None)))
    numbers.update(plan(full(ONE)))
    assert number(numbers, ONE, full_nat=True) == old
    assert not numbers.retired


def test_a_source_address_that_comes_later_is_the_paths():
    numbers = numbered(full(ONE, snat=None))
    numbers.update(plan(full(ONE)))
    assert numbers.paths[way(ONE, full_nat=True)].snat == SNAT
    assert not numbers.retired


def test_the_numbers_in_the_maps_are_adopted():
    first = numbered(service(ONE, TWO), service(SIX, vip=VIP6, name="six"))
    first.update(plan(service(TWO), service(SIX, vip=VIP6, name="six")))
    second = Numbers()
    second.adopt(first.services, first.backends, first.paths.values(), first.retired.values())
    second.update(plan(service(TWO, ONE), service(SIX, vip=VIP6, name="six")))
    assert second.retired == first.retired
    assert number(second, TWO) == number(first, TWO)
    taken = {path.number for path in (*first.paths.values(), *first.retired.values())}
    assert number(second, ONE) not in taken


def test_after_an_adoption_numbers_that_were_given_back_are_not_the_next():
    """The datapath may still remember them: decisions, affinity, direct connections."""
    first = numbered(service(ONE, TWO))
    old = number(first, TWO)
    first.update(plan(service(ONE)))
    first.free([old])
    second = Numbers(Random(3))
    second.adopt(first.services, first.backends, first.paths.values(), first.retired.values())
    second.update(plan(service(ONE, SIX)))
    assert number(second, SIX) != old
    assert number(second, ONE) == number(first, ONE)


def test_counts_that_go_on_under_another_source_address_are_not_freed():
    numbers = numbered(full(ONE, TWO))
    ones, twos = (number(numbers, each, full_nat=True) for each in (ONE, TWO))
    numbers.update(plan(full(ONE, snat=OTHER_SNAT)))
    assert numbers.superseded() == {ones}
    assert numbers.to_free({ones, twos}) == {twos}
    numbers.update(plan(service(ONE)))
    assert numbers.superseded() == set()


def test_unless_there_is_no_room(monkeypatch):
    monkeypatch.setattr(module, "PATHS", 3)
    numbers = numbered(full(ONE))
    old = number(numbers, ONE, full_nat=True)
    numbers.update(plan(full(ONE, snat=OTHER_SNAT)))
    monkeypatch.setattr(module, "PATHS", 6)
    assert numbers.to_free({old}) == {old}


def test_a_path_that_was_just_being_replaced_is_retired():
    numbers = Numbers()
    twins = [NumberedPath(4, way(ONE, full_nat=True), SNAT), NumberedPath(5, way(ONE, full_nat=True), SNAT)]
    numbers.adopt({(TCP, VIP): 0}, {(TCP, ONE): 0}, twins, [])
    assert number(numbers, ONE, full_nat=True) == 5
    assert list(numbers.retired) == [4]


@pytest.mark.parametrize(
    ("name", "what"),
    [("SERVICES", "services"), ("BACKENDS", "backends"), ("PATHS", "pairs of service and backend")],
)
def test_a_plan_that_is_too_large_changes_nothing(monkeypatch, name, what):
    monkeypatch.setattr(module, name, 2)
    numbers = numbered(service(ONE, TWO), service(vip=VIP6, name="empty"))
    before = dict(numbers.services), dict(numbers.backends), dict(numbers.paths)
    third = Endpoint.parse("10.2.0.13:80")
    larger = plan(service(ONE, TWO, third), service(vip=VIP6), service(vip=third, name="third"))
    with pytest.raises(OutOfNumbers, match=f"^more than 2 {what} at a time"):
        numbers.update(larger)
    assert (numbers.services, numbers.backends, numbers.paths) == before

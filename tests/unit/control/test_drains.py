"""What is remembered of drained backends."""

from __future__ import annotations

from l4lb.control.drains import Drain, Drains
from l4lb.model import Backend, Endpoint, Service

A = Endpoint.parse("10.2.0.11:80")
TARGET = ("web", A)


def web(weight: int | None) -> list[Service]:
    backends = () if weight is None else (Backend(A, weight),)
    return [Service("web", Endpoint.parse("10.1.0.100:80"), backends=backends)]


def after(*weights: int | None, before: int | None = None) -> Drain | None:
    """The drain after the backend had these weights at 0 s, 1 s, 2 s..., and ``before`` before a drain."""
    drains = Drains({} if before is None else {TARGET: before})
    for second, weight in enumerate(weights):
        drains.note(web(weight), float(second))
    return drains.get(TARGET)


def test_a_backend_with_weight_is_not_drained():
    assert after(5) is None


def test_a_drain_remembers_the_weight_before_and_when_it_began():
    assert after(5, 0) == Drain(1.0, 5)


def test_a_drain_goes_on_whatever_else_changes():
    assert after(5, 0, 0, 0) == Drain(1.0, 5)


def test_enabling_ends_the_drain_and_a_new_one_begins_anew():
    assert after(5, 0, 5) is None
    assert after(5, 0, 7, 0) == Drain(3.0, 7)


def test_of_a_backend_that_is_drained_from_the_start_the_weight_is_not_known():
    assert after(0) == Drain(0.0, None)


def test_a_drain_goes_on_over_a_restart():
    assert after(0, before=5) == Drain(0.0, 5)
    assert after(7, 0, before=5) == Drain(1.0, 7)
    assert after(None, 0, before=5) == Drain(1.0, None)


def test_a_removed_backend_is_forgotten():
    assert after(5, 0, None, 0) == Drain(3.0, None)


def test_the_weights_to_keep_are_those_of_drained_backends():
    drains = Drains({})
    drains.note(web(5), 0.0)
    assert drains.weights == {}
    drains.note(web(0), 1.0)
    assert drains.weights == {TARGET: 5}

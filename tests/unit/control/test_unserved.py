"""Which services have nobody for their clients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l4lb.control.config.config import GatewayConfig
from l4lb.control.reconcile import SelectionCache, plan_for
from l4lb.control.unserved import unserved
from l4lb.model import Backend, Endpoint, Nat, Service, WhenAllDown
from l4lb.schedulers import SCHEDULERS

ONE, TWO = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("10.2.0.12:80")
WEB = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(ONE), Backend(TWO, 2)))
USE_ALL = replace(WEB, when_all_down=WhenAllDown.USE_ALL)

REFUSED = "service web has no backend that takes new connections: its clients are refused"
USED = (
    "service web has no backend that takes new connections and is up: those that are down are used "
    '(when_all_down = "use_all")'
)


def weights(service, *values):
    backends = zip(service.backends, values, strict=True)
    return replace(service, backends=tuple(replace(backend, weight=weight) for backend, weight in backends))


def said(*services, down=()):
    gateway = GatewayConfig()
    plan = plan_for(services, gateway, unusable=down, down=down, sources={}, cache=SelectionCache())
    return unserved(plan, down)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_all_backends_are_down(scheduler):
    both = {("web", ONE), ("web", TWO)}
    other = replace(WEB, name="other")
    assert said(replace(WEB, scheduler=scheduler), other, down=both) == {"web": REFUSED}
    assert said(replace(USE_ALL, scheduler=scheduler), other, down=both) == {"web": USED}
    for one in both:
        assert said(replace(WEB, scheduler=scheduler), replace(USE_ALL, name="other"), down={one}) == {}


@pytest.mark.parametrize(
    ("service", "down", "line"),
    [
        (replace(WEB, backends=()), (), REFUSED),
        (replace(USE_ALL, backends=()), (), REFUSED),
        (weights(WEB, 0, 0), (), REFUSED),
        (weights(USE_ALL, 0, 0), (), REFUSED),
        (weights(WEB, 0, 1), {("web", TWO)}, REFUSED),
        (weights(USE_ALL, 0, 1), {("web", TWO)}, USED),
        (replace(WEB, nat=Nat.FULL), (), REFUSED),  # there is no way to any
    ],
)
def test_who_is_not_down_takes_none(service, down, line):
    assert said(service, down=down) == {"web": line}

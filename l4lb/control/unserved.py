"""Services whose new connections are taken by no backend that is up. Pure."""

from __future__ import annotations

from collections.abc import Collection

from l4lb.model import BackendKey, Plan, ServicePlan
from l4lb.schedulers import NOBODY


def unserved(plan: Plan, unusable: Collection[BackendKey]) -> dict[str, str]:
    """What is to be said of such services, one line each, by name; arguments as of ``plan_for``."""
    lines = {service.name: _line(service, unusable) for service in plan.services}
    return {name: line for name, line in lines.items() if line}


def _line(service: ServicePlan, unusable: Collection[BackendKey]) -> str:
    if service.selection == NOBODY:
        return f"service {service.name} has no backend that takes new connections: its clients are refused"
    doubtful = {
        index
        for index, backend in enumerate(service.backends)
        if (service.name, backend.address) in unusable
    }
    # Tables are long: who is in one is asked only where it matters.
    if doubtful and service.selection.chosen <= doubtful:
        return (
            f"service {service.name} has no backend that takes new connections and is up: "
            'those that are down are used (when_all_down = "use_all")'
        )
    return ""

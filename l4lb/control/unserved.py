"""Services whose new connections are taken by no backend that is up. Pure."""

from __future__ import annotations

from collections.abc import Collection

from l4lb.model import BackendKey, Plan, ServicePlan


def unserved(plan: Plan, unusable: Collection[BackendKey]) -> dict[str, str]:
    """What is to be said of such services, one line each, by name; arguments as of ``plan_for``. May take
    its time, as there are tables with many slots."""
    lines = {service.name: _line(service, unusable) for service in plan.services}
    return {name: line for name, line in lines.items() if line}


def _line(service: ServicePlan, unusable: Collection[BackendKey]) -> str:
    chosen = service.selection.chosen
    if not chosen:
        return f"service {service.name} has no backend that takes new connections: its clients are refused"
    if all((service.name, service.backends[index].address) in unusable for index in chosen):
        return (
            f"service {service.name} has no backend that takes new connections and is up: "
            'those that are down are used (when_all_down = "use_all")'
        )
    return ""

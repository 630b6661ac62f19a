"""Reads the ring of decisions that the programs keep."""

from __future__ import annotations

from collections.abc import Mapping

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.layout import narrow_end, read_end
from l4lb.datapath.ebpf.tables import Tables, ends_of
from l4lb.datapath.libbpf import Map
from l4lb.model import DECISIONS_KEPT, Decision, Endpoint, Offer, Rule


def decisions(maps: Mapping[str, Map], tables: Tables) -> list[Decision]:
    """Those whose service and backend are known still, the oldest first. What the programs write meanwhile
    is not whole and left out: all is read twice."""
    first, second = (maps["decisions"].lookup_batch(None, DECISIONS_KEPT)[0] for _ in range(2))
    same = (value for (_, value), (_, again) in zip(first, second, strict=True) if value == again)
    kept = sorted(layout.DECISION.unpack(value) for value in same)
    found = (_read(each, tables) for each in kept if each.number)
    return [each for each in found if each is not None]


def _read(kept: layout.Decision, tables: Tables) -> Decision | None:
    ip, port, service = read_end(narrow_end(kept.client, kept.version))
    best, runner_up = (layout.OFFER.unpack(each) for each in (kept.best, kept.next))
    backend = _backend(best.path, service, tables)
    if backend is None or service not in tables.names:
        return None
    rule = Rule(kept.rule)
    by_costs = rule is Rule.COSTS
    return Decision(
        at=kept.when / 1e9,
        service=tables.names[service],
        client=Endpoint(ip, port),
        backend=backend,
        rule=rule,
        compared=kept.compared,
        best=_offer(best, service, tables) if by_costs else None,
        runner_up=_offer(runner_up, service, tables) if by_costs else None,
    )


def _offer(offer: layout.Offer, service: int, tables: Tables) -> Offer | None:
    backend = _backend(offer.path, service, tables)
    if backend is None:
        return None
    hot, asked = bool(offer.price & layout.HOT_PRICE), offer.price & ~layout.HOT_PRICE
    return Offer(backend, hot, asked, offer.cost, offer.in_flight, offer.idle)


def _backend(path: int, service: int, tables: Tables) -> Endpoint | None:
    """Of a path's number, unless another service has it by now."""
    known = tables.paths.get(path)
    return ends_of(known)[1] if known is not None and known.service == service else None

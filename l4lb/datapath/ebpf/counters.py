"""Reads what the programs count: by path and by CPU in the kernel, by service and backend for people."""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.ebpf.tables import Tables, ends_of
from l4lb.datapath.libbpf import Map
from l4lb.model import BackendKey, Counters, DropReason, Load, Times, Traffic, Verdict
from l4lb.times import UNIT, added

_PAGE: Final = 256
"""Elements of an array that are read together."""

_LONGEST: Final = 1 << 32
"""TIME_UNITs, five hours: a connection remembers its time in 32 bits, and a sweep adds these up anew."""


def counters(maps: Mapping[str, Map], tables: Tables, now: int) -> Counters:
    """All counters, at ``now`` in ns. Paths that a backend had before and that go on with their connections
    count for it."""
    numbers = tables.numbers
    counted = {path.number for path in numbers.paths.values()} | numbers.superseded()
    backends: dict[BackendKey, list[Traffic]] = defaultdict(list)
    loads = dict(_pages(maps["loads"], tables.paths))
    measured = {int.from_bytes(key, sys.byteorder): value for key, value in maps["measured"].items()}
    forwarded = established = 0
    for number, value in _pages(maps["traffic"], tables.paths):
        traffic = layout.Traffic(
            *(sum(column) for column in zip(*layout.TRAFFIC.struct.iter_unpack(value), strict=True))
        )
        forwarded += traffic.packets_in + traffic.packets_out
        load = layout.LOAD.unpack(loads[number])
        established += not_negative(load.established)
        path = tables.paths[number]
        if number in counted:
            target = tables.names.get(path.service, ""), ends_of(path)[1]
            backends[target].append(_traffic(traffic, load, measured.get(number), now))
    totals = layout.TOTALS.unpack(maps["totals"].lookup(word(0)) or b"")
    verdicts = {verdict: _count(maps["verdicts"], verdict) for verdict in Verdict}
    verdicts[Verdict.FORWARD] += forwarded
    drops = {reason: _count(maps["drops"], reason) for reason in DropReason}
    return Counters(
        backends={target: _added(each) for target, each in backends.items()},
        verdicts=verdicts,
        drops={reason: count for reason, count in drops.items() if count},
        half_open=not_negative(totals.half_open),
        established=established,
        remembered=max(0, not_negative(totals.established) - established),
        room=layout.SETTINGS.unpack(maps["settings"].lookup(word(0)) or b"").established,
    )


def loads(
    maps: Mapping[str, Map], tables: Tables, services: Collection[str], now: int
) -> dict[BackendKey, Load]:
    """How the backends of some services are doing, at ``now`` in ns."""
    targets = {
        path.number: (name, path.way.backend)
        for path in tables.numbers.paths.values()
        if path.number in tables.paths  # or its plan could not be written
        and (name := tables.names.get(tables.paths[path.number].service, "")) in services
    }
    found = {}
    for number, value in _pages(maps["loads"], targets):
        load = layout.LOAD.unpack(value)
        found[targets[number]] = Load(
            half_open=not_negative(load.half_open),
            established=not_negative(load.established),
            outstanding=not_negative(load.outstanding),
            waiting=waiting(load, now),
            answers=load.answers,
            answer_time=load.answered * UNIT,
            confirmed=load.confirmed,
            resets=load.resets,
            retransmissions=load.retransmissions,
            unanswered=load.unanswered,
        )
    return found


def _traffic(traffic: layout.Traffic, load: layout.Load, measured: bytes | None, now: int) -> Traffic:
    times = layout.MEASURED.unpack(measured) if measured is not None else None
    return Traffic(
        connections_total=load.connections,
        half_open=not_negative(load.half_open),
        established=not_negative(load.established),
        packets_in=traffic.packets_in,
        packets_out=traffic.packets_out,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        outstanding=not_negative(load.outstanding),
        waiting=waiting(load, now),
        resets=load.resets,
        retransmissions=load.retransmissions,
        unanswered=load.unanswered,
        confirmed=load.confirmed,
        handshakes=_times(times.handshakes) if times else Times(),
        responses=_times(times.responses) if times else Times(),
    )


def waiting(load: layout.Load, now: int) -> float:
    """Seconds that the outstanding requests have waited at ``now``, in ns, together. 0 where that cannot
    be, as of counts that were read while they changed."""
    count = not_negative(load.outstanding)
    ages = count * (now >> layout.TIME_SHIFT) - load.asked
    return ages * UNIT if 0 < ages < count * _LONGEST else 0.0


def not_negative(count: int) -> int:
    """A count of 32 bits; 0 where it is below that, which what several CPUs count may be for a moment."""
    return count if count < 1 << 31 else 0


def _times(data: bytes) -> Times:
    count, total, average8, *buckets = layout.TIMES.unpack(data)
    return Times(count, total * UNIT, average8 * UNIT / 8, tuple(buckets)) if count else Times()


def _added(several: list[Traffic]) -> Traffic:
    if len(several) == 1:
        return several[0]
    whole = {
        each.name: sum(getattr(traffic, each.name) for traffic in several)
        for each in dataclasses.fields(Traffic)
        if each.name not in ("handshakes", "responses")
    }
    return Traffic(
        **whole,
        handshakes=added([each.handshakes for each in several]),
        responses=added([each.responses for each in several]),
    )


def _pages(array: Map, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Elements of an array, read in batches; one of a per-CPU array is its values, joined."""
    numbers = set(numbers)
    for page in sorted({number // _PAGE for number in numbers}):
        first = page * _PAGE
        entries, _ = array.lookup_batch(word(first - 1) if first else None, _PAGE)
        for number, (_, value) in enumerate(entries, first):
            if number in numbers:
                yield number, value


def _count(array: Map, number: int) -> int:
    counts = array.lookup_percpu(word(number))
    return sum(count for value in counts for (count,) in layout.COUNT.iter_unpack(value))

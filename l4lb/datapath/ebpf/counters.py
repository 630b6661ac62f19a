"""Reads what the programs count: by path and by CPU in the kernel, by service and backend for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.ebpf.tables import Tables, ends_of
from l4lb.datapath.libbpf import Map
from l4lb.model import Counters, DropReason, Endpoint, Traffic, Verdict

_PAGE: Final = 256
"""Elements of an array that are read together."""


def counters(maps: Mapping[str, Map], tables: Tables) -> Counters:
    """All counters. Paths that a backend had before and that go on with their connections count for it."""
    planned = {path.number for path in tables.numbers.paths.values()}
    backends: dict[tuple[str, Endpoint], list[int]] = defaultdict(lambda: [0] * 7)
    loads = dict(_pages(maps["loads"], tables.paths))
    forwarded = established = 0
    for number, value in _pages(maps["traffic"], tables.paths):
        traffic = [sum(column) for column in zip(*layout.TRAFFIC.struct.iter_unpack(value), strict=True)]
        forwarded += traffic[0] + traffic[1]
        load = layout.LOAD.unpack(loads[number])
        established += load.established
        path = tables.paths[number]
        if number in planned or not path.flags & layout.PATH_GONE:
            whole = backends[tables.names.get(path.service, ""), ends_of(path)[1]]
            for at, value_of in enumerate((traffic[4], *load, *traffic[:4])):
                whole[at] += value_of
    totals = layout.TOTALS.unpack(maps["totals"].lookup(word(0)) or b"")
    verdicts = {verdict: _count(maps["verdicts"], verdict) for verdict in Verdict}
    verdicts[Verdict.FORWARD] += forwarded
    drops = {reason: _count(maps["drops"], reason) for reason in DropReason}
    return Counters(
        backends={target: Traffic(*counts) for target, counts in backends.items()},
        verdicts=verdicts,
        drops={reason: count for reason, count in drops.items() if count},
        half_open=totals.half_open,
        established=established,
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

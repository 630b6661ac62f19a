"""Finds an established connection as the programs do: ``datapath/bpf/established.h``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.libbpf import Map

_64_BITS: Final = (1 << 64) - 1


def find_established(
    maps: Mapping[str, Map], settings: layout.Settings, key: bytes
) -> layout.Connection | None:
    """The connection of a client's end with the service's number, which may have expired."""
    if layout.version_of(key) == 6:
        value = maps["connections6"].lookup(key)
        return None if value is None else layout.CONNECTION.unpack(value)
    home, taken = place_of(settings, key)
    for step in range(layout.TABLE_STEPS):
        pair = maps["connections4"].lookup(word((home + step) % settings.pairs))
        if pair is None:
            break
        first, second = pair[: layout.SLOT_SIZE], pair[layout.SLOT_SIZE :]
        for slot in (first, second):
            if slot[:8] == taken:
                return layout.CONNECTION.unpack(slot[8:])
        if not step and not layout.CONNECTION.unpack(first[8:]).displaced:
            break
    return None


def place_of(settings: layout.Settings, key: bytes) -> tuple[int, bytes]:
    """The pair of connections4 in which the search for a key begins, and the key as it is in a slot."""
    taken = int.from_bytes(key, sys.byteorder) | layout.SLOT_TAKEN
    mixed = taken * settings.seed & _64_BITS
    mixed = (mixed ^ mixed >> 32) * layout.END_MULTIPLIER & _64_BITS
    return (mixed >> 32) * settings.pairs >> 32, taken.to_bytes(8, sys.byteorder)

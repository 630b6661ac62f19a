"""Binary search in classic BPF: numbers and addresses to labels. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from l4lb import classic_bpf as bpf

_WORD_MAX = 0xFFFF_FFFF


class Range(NamedTuple):
    """Values from ``low`` to ``high``, both included, and where they lead."""

    low: int
    high: int
    label: bpf.Label


def search(code: bpf.Assembler, ranges: Iterable[Range], miss: bpf.Label) -> None:
    """Jump to the label of the range that holds A, or to ``miss``. Ranges must not overlap.

    One instruction for a single value; otherwise one for each place where the label changes, of
    which about log2 are run. Ranges that touch and have one label count as one.
    """
    parts = [(0, miss)]

    def begin(value: int, label: bpf.Label) -> None:
        if parts[-1][0] == value:
            parts.pop()
        if not parts or parts[-1][1] is not label:
            parts.append((value, label))

    for low, high, label in sorted(ranges, key=lambda part: part.low):
        begin(low, label)
        if high < _WORD_MAX:
            begin(high + 1, miss)
    _decide(code, parts)


def _decide(code: bpf.Assembler, parts: Sequence[tuple[int, bpf.Label]]) -> None:
    """``parts`` are where each stretch of values begins, and its label."""
    if len(parts) == 1:
        code.jump(parts[0][1])
        return
    if len(parts) == 3 and parts[0][1] is parts[2][1] and parts[1][0] + 1 == parts[2][0]:
        code.branch(bpf.IF_EQUAL, parts[1][0], then=parts[1][1], otherwise=parts[0][1])
        return
    low, high = parts[: len(parts) // 2], parts[len(parts) // 2 :]
    above = high[0][1] if len(high) == 1 else bpf.Label()
    below = low[0][1] if len(low) == 1 else None
    code.branch(bpf.IF_AT_LEAST, high[0][0], then=above, otherwise=below)
    if below is None:
        _decide(code, low)
    if len(high) > 1:
        code.place(above)
        _decide(code, high)


def search_address(
    code: bpf.Assembler,
    targets: Mapping[int, bpf.Label],
    bits: int,
    prefix: int,
    miss: bpf.Label,
    at: int = 0,
) -> None:
    """Jump to the label of the address that X points to, or to ``miss``.

    Args:
        code: gets the instructions.
        targets: addresses as integers, host bits zero, and where they lead.
        bits: of an address, 32 or 128.
        prefix: bits that are compared, 0 to ``bits``.
        miss: where all others lead.
        at: the byte to start at, a multiple of 4; the bytes before are taken as equal.
    """
    shift = bits - at * 8 - 32
    by_word: defaultdict[int, dict[int, bpf.Label]] = defaultdict(dict)
    for address, label in targets.items():
        by_word[address >> shift & _WORD_MAX][address] = label
    code.emit(bpf.LOAD_INDIRECT, at)
    rest = prefix - at * 8
    if rest <= 32:
        host = _WORD_MAX >> rest
        search(code, (Range(word, word | host, *labels.values()) for word, labels in by_word.items()), miss)
        return
    deeper = {word: bpf.Label() for word in by_word}
    search(code, (Range(word, word, label) for word, label in deeper.items()), miss)
    for word, label in deeper.items():
        code.place(label)
        search_address(code, by_word[word], bits, prefix, miss, at + 4)

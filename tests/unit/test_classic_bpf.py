import random

import pytest

from l4lb import classic_bpf as bpf
from l4lb.datapath.raw.classic_bpf_search import Range, search, search_address
from tests.unit import bpf_machine


def with_returns(code, values):
    """Labels that return one number each; place them at the end of the program."""
    labels = {value: bpf.Label() for value in values}

    def finish():
        for value, label in labels.items():
            code.place(label)
            code.emit(bpf.RETURN, value)
        return bpf_machine.load(bpf.pack(code.assemble()))

    return labels, finish


@pytest.mark.parametrize("between", [0, 1, 253, 254, 255, 256, 300, 70_000 // 32])
@pytest.mark.parametrize("value", [7, 8])
def test_a_conditional_jump_reaches_as_far_as_it_must(between, value):
    code = bpf.Assembler()
    labels, finish = with_returns(code, (1, 2))
    code.emit(bpf.LOAD_IMMEDIATE, value)
    code.branch(bpf.IF_EQUAL, 7, then=labels[1], otherwise=labels[2])
    for _ in range(between):
        code.emit(bpf.RETURN, 3)
    accepted, _ = bpf_machine.run(finish(), b"")
    assert accepted == (1 if value == 7 else 2)


@pytest.mark.parametrize("value", [7, 8])
def test_a_far_jump_does_not_hide_the_instruction_behind_it(value):
    code = bpf.Assembler()
    labels, finish = with_returns(code, (1,))
    code.emit(bpf.LOAD_IMMEDIATE, value)
    code.branch(bpf.IF_EQUAL, 7, then=labels[1])
    code.emit(bpf.RETURN, 2)
    for _ in range(300):
        code.emit(bpf.RETURN, 3)
    accepted, _ = bpf_machine.run(finish(), b"")
    assert accepted == (1 if value == 7 else 2)


def test_far_jumps_share_their_stubs():
    code = bpf.Assembler()
    labels, finish = with_returns(code, (1, 2))
    code.emit(bpf.LOAD_IMMEDIATE, 1000)
    for value in range(1000):
        code.branch(bpf.IF_EQUAL, value, then=labels[1])
    code.jump(labels[2])
    program = finish()
    assert len(program) < 1000 + 10
    assert bpf_machine.run(program, b"")[0] == 2


def test_a_jump_to_the_next_instruction_is_no_instruction():
    code = bpf.Assembler()
    after = bpf.Label()
    code.jump(after)
    code.place(after)
    code.emit(bpf.RETURN, 1)
    assert code.assemble() == [(bpf.RETURN, 0, 0, 1)]


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        [(0, 0xFFFF_FFFF)],
        [(0, 0)],
        [(0xFFFF_FFFF, 0xFFFF_FFFF)],
        [(5, 5)],
        [(5, 5), (6, 9), (20, 20)],
        [(0, 3), (5, 0x7FFF_FFFF), (0x8000_0000, 0xFFFF_FFFF)],
        [(value * 10, value * 10 + value % 7) for value in range(500)],
    ],
)
def test_search_finds_the_range_that_holds_a_number(ranges):
    code = bpf.Assembler()
    results = range(1, len(ranges) + 1)
    labels, finish = with_returns(code, [0, *results])
    code.emit(bpf.LOAD, 0)
    search(
        code,
        [Range(low, high, labels[result]) for (low, high), result in zip(ranges, results, strict=True)],
        labels[0],
    )
    program = finish()
    edges = {edge + step for low, high in ranges for edge in (low, high) for step in (-1, 0, 1)}
    for number in {0, 0xFFFF_FFFF} | {edge for edge in edges if 0 <= edge <= 0xFFFF_FFFF}:
        expected = next(
            (result for (low, high), result in zip(ranges, results, strict=True) if low <= number <= high),
            0,
        )
        assert bpf_machine.run(program, number.to_bytes(4, "big"))[0] == expected


def test_neighbours_with_one_label_take_no_more_room_than_one():
    def length(addresses):
        code = bpf.Assembler()
        labels, finish = with_returns(code, (0, 1))
        code.emit(bpf.LOAD_X_IMMEDIATE, 0)
        search_address(code, dict.fromkeys(addresses, labels[1]), 32, 32, labels[0])
        return len(finish())

    assert length(range(1000, 3000)) == length([1000, 1001])


@pytest.mark.parametrize(
    ("bits", "prefix"), [(32, 0), (32, 32), (32, 28), (128, 128), (128, 112), (128, 64), (128, 0)]
)
def test_search_address_compares_the_prefix_and_no_more(bits, prefix):
    draw = random.Random(f"{bits}/{prefix}")
    host = bits - prefix
    known = {draw.getrandbits(bits) >> host << host for _ in range(60)}
    known |= {address ^ 1 << draw.randrange(host, bits) for address in known if prefix}
    code = bpf.Assembler()
    labels, finish = with_returns(code, (0, 1))
    code.emit(bpf.LOAD_X_IMMEDIATE, 3)
    search_address(code, dict.fromkeys(known, labels[1]), bits, prefix, labels[0])
    program = finish()
    tried = [address | draw.getrandbits(host) if host else address for address in known]
    tried += [address ^ 1 << bit for address in tried[:20] for bit in range(bits)]
    for address in tried:
        found, _ = bpf_machine.run(program, bytes(3) + address.to_bytes(bits // 8, "big"))
        assert found == (address >> host << host in known)


def test_a_search_takes_as_many_steps_as_the_logarithm():
    code = bpf.Assembler()
    labels, finish = with_returns(code, (0, 1))
    code.emit(bpf.LOAD_X_IMMEDIATE, 0)
    addresses = [number * 2_000_003 for number in range(1000)]
    search_address(code, dict.fromkeys(addresses, labels[1]), 32, 32, labels[0])
    program = finish()
    steps = [bpf_machine.run(program, address.to_bytes(4, "big"))[1] for address in addresses]
    assert max(steps) <= 4 + 2 * 11

"""Which interfaces frames can leave by, and how."""

import pytest

from l4lb.datapath.ebpf.exits import known_interfaces, missing
from l4lb.datapath.ebpf.hooks import GENERIC, NATIVE, TCX
from l4lb.datapath.ebpf.layout import HOP_PEER, HOP_XDP
from l4lb.netlink.state import Link
from l4lb.netlink.xdp_features import XDP_CAN_SEND

CARD = Link(2, "eth0", b"\2\0\0\0\0\2", 1500, True)
PAIR = Link(3, "eth1", b"\2\0\0\0\0\3", 1500, True, paired=True)
TUNNEL = Link(4, "tun0", b"", 1500, True)
LINKS = CARD, PAIR, TUNNEL
TC = {(TCX, 2), (TCX, 3)}


def exit_flags(*facts):
    return {index: known.flags for index, known in known_interfaces(*facts).items() if known.flags}


def test_all_that_speak_ethernet_are_known_by_their_address():
    assert {index: known.mac for index, known in known_interfaces(LINKS, TC, {}).items()} == {
        2: CARD.mac,
        3: PAIR.mac,
    }


def test_those_with_the_programs_come_first():
    assert list(known_interfaces(LINKS, {(TCX, PAIR.index)}, {})) == [PAIR.index, CARD.index]


def test_without_xdp_only_pairs_are_special():
    assert exit_flags(LINKS, TC, {}) == {3: HOP_PEER}


def test_frames_of_generic_xdp_leave_by_all_that_speak_ethernet():
    hooks = {*TC, (GENERIC, 2), (GENERIC, 3)}
    assert exit_flags(LINKS, hooks, {2: 0, 3: 0}) == {2: HOP_XDP, 3: HOP_PEER | HOP_XDP}


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({2: 7, 3: 3}, {2: HOP_XDP, 3: HOP_PEER}),
        ({2: 3, 3: XDP_CAN_SEND}, {3: HOP_PEER | HOP_XDP}),
        ({}, {2: HOP_XDP, 3: HOP_PEER}),  # an older kernel does not tell
    ],
)
def test_frames_of_native_xdp_need_a_driver_that_takes_them(features, expected):
    assert exit_flags(LINKS, {*TC, (NATIVE, 2), (NATIVE, 3)}, features) == expected


def test_one_native_program_among_generic_ones_needs_it_too():
    assert exit_flags(LINKS, {*TC, (NATIVE, 2), (GENERIC, 3)}, {2: 3, 3: 3}) == {3: HOP_PEER}


def test_what_is_missing_is_said():
    assert "GRO" in missing(PAIR)
    assert "driver" in missing(CARD)

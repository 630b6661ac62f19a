"""Connections that begin anew while another CPU changes something of them, by the programs' own code."""

from pathlib import Path
from struct import Struct

import pytest

import build_bpf
from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.libbpf import Object
from l4lb.model import State
from tests.unit.datapath.ebpf.kernel import run_together

SOURCE = Path(__file__).with_name("states.c")
FRAME = bytes(64)
TALLY = Struct("=2Q")
TIMES = 3_000_000


class States:
    def __init__(self, opened):
        self.maps, self.programs = opened.maps, opened.programs

    @property
    def first(self):
        return layout.CONNECTION.unpack(self.maps["awaiting"].lookup(word(0)))

    def all_are(self, state):
        """Of each the client has sent a SYN."""
        value = layout.CONNECTION.pack(layout.Connection(seen=1, state=state, flags=layout.REVERSED))
        self.maps["awaiting"].update_batch(
            (word(number), value) for number in range(self.maps["awaiting"].max_entries)
        )
        self.maps["tallies"].update(word(0), bytes(TALLY.size))

    def run(self, program, times=1):
        self.programs[program].test_run(FRAME, repeat=times)

    @property
    def begun(self):
        return TALLY.unpack(self.maps["tallies"].lookup(word(0)))[0]


@pytest.fixture
def states(bpf_possible, tmp_path):
    target = tmp_path / "states.bpf.o"
    build_bpf.compile_object(SOURCE, target)
    opened = Object.open(target)
    try:
        opened.load()
        yield States(opened)
    finally:
        opened.close()


@pytest.mark.parametrize("state", [State.ESTABLISHED, State.CLIENT_FIN, State.BACKEND_FIN])
def test_one_that_is_not_over_is_established_anew(states, state):
    states.all_are(state)
    states.run("twins")
    known = layout.REVERSED | layout.SEEN_BY_CLIENT | layout.SEEN_BY_BACKEND
    assert (states.begun, states.first.state) == (1, State.ESTABLISHED)
    assert (states.first.flags, states.first.shifts) == (known, 7)
    states.run("twins")
    assert states.begun == 1


@pytest.mark.parametrize("state", [State.LAST_ACK, State.TIME_WAIT, State.CLOSED])
def test_one_that_is_over_is_not(states, state):
    states.all_are(state)
    states.run("twins")
    assert (states.begun, states.first.state) == (0, state)


def test_what_another_processor_changes_beside_it_keeps_none_from_beginning_anew(processors, states):
    states.all_are(State.ESTABLISHED)
    run_together(processors, [states.programs[name] for name in ("renew", "displace")], FRAME, TIMES)
    assert states.begun == TIMES
    assert states.first.displaced == 4 * TIMES % 256


def test_of_two_that_begin_it_anew_one_has(processors, states):
    states.all_are(State.ESTABLISHED)
    entries = states.maps["awaiting"].max_entries
    run_together(processors, [states.programs["twins"]] * 2, FRAME, TIMES)
    assert states.begun == entries

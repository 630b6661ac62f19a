"""The clock of the programs against CLOCK_MONOTONIC."""

import time

import build_bpf
from l4lb.datapath.ebpf import clock
from l4lb.datapath.ebpf.clock import read

TICKS_LATE = 2


def test_the_ticks_of_the_kernel_are_its_monotonic_time(bpf_possible):
    constants = clock.constants(build_bpf.FOLDER)
    # A tick may have been late when the first one was counted back: then all are early by one.
    early = constants["tick_length"]
    for _ in range(50):
        before = time.monotonic_ns()
        ticks, now = read(build_bpf.FOLDER)
        told = (ticks - constants["first_tick"]) * constants["tick_length"]
        assert before <= now
        assert now - (TICKS_LATE + 1) * constants["tick_length"] <= told <= now + early


def test_it_is_the_same_for_every_daemon(bpf_possible):
    """Connections keep their times when another one takes over."""
    first, second = (clock.constants(build_bpf.FOLDER) for _ in range(2))
    assert first["tick_length"] == second["tick_length"]
    assert abs(first["first_tick"] - second["first_tick"]) <= 1

"""Random traffic to the pure core and to the eBPF programs: the same packets, reasons and connections.

A short run; ``tools/fuzz`` runs for as long as one likes.
"""

from random import Random

import pytest

from l4lb import model
from l4lb.datapath.libbpf import LibbpfError
from l4lb.model import Verdict
from tests.conformance import plans
from tests.conformance.case import Case, Row, change, drop, forward, leave, reply, table, wait
from tests.conformance.engines.engine import Result
from tests.conformance.packets import IPV4, IPV6, Frame
from tests.conformance.run import run
from tests.conformance.world import V4, V6, Host, Side
from tests.differential.compare import Pair
from tests.differential.main import STEPS
from tests.differential.paste import as_case
from tests.differential.program import Program
from tests.differential.rules import Reference
from tests.differential.steps import Packet, Run, begin, take
from tests.differential.traffic import Traffic
from tests.lab.conftest import why_not
from tests.property.effort import LONG

RUNS = 2_000 if LONG else 25


@pytest.fixture(scope="module", params=["tc", "xdp"])
def program(request):
    if reason := why_not():
        pytest.skip(reason)
    try:
        program = Program(request.param)
    except (LibbpfError, OSError) as problem:
        pytest.skip(f"no eBPF: {problem}")
    yield program
    program.close()


@pytest.mark.lab
def test_programs_do_as_the_pure_core(program):
    pair = Pair(Reference(), program)
    with program.inside():
        for number in range(RUNS):
            _, found = pair.explore(Random(f"test/{number}"), STEPS)
            if found is not None:
                found = pair.shorten(found)
                pytest.fail(f"run test/{number}: {as_case(found.run, pair.reference, found.what)}")


class Forgetful(Reference):
    """Loses packets of an odd length that end in one of 256 bytes."""

    name = "forgetful"

    def send(self, frame, side):
        result = super().send(frame, side)
        if result.verdict is Verdict.FORWARD and frame[-1] == 0xB1 and len(frame) % 2:
            return Result(Verdict.DROP, (), result.reasons)
        return result


def _first_difference(pair):
    for number in range(100):
        _, found = pair.explore(Random(f"forgetful/{number}"), STEPS)
        if found is not None:
            return found
    pytest.fail("no difference was found")


def test_a_difference_is_found_and_shortened():
    pair = Pair(Reference(), Forgetful())
    found = _first_difference(pair)
    short = pair.shorten(found)
    assert 1 <= len(short.run.steps) <= 4 < len(found.run.steps)
    last = short.run.steps[-1]
    assert isinstance(last, Packet)
    assert last.frame[-1] == 0xB1
    assert pair.replay(short.run) == short
    assert pair.replay(Run(short.run.plan, short.run.steps[:-1])) is None


def test_two_of_the_same_do_not_differ():
    pair = Pair(Reference(), Reference())
    assert pair.explore(Random("same"), STEPS)[1] is None


STEPS_OF_A_CASE = (Row, change, drop, forward, leave, reply, table, wait)
NOTATION = {
    **vars(model),
    **{name: getattr(plans, name) for name in ("plan", "service", "FULL", "TCP", "UDP")},
    **{step.__name__: step for step in STEPS_OF_A_CASE},
    "Frame": Frame,
    "Host": Host,
    "Side": Side,
    "V4": V4,
    "V6": V6,
    "IPV4": IPV4,
    "IPV6": IPV6,
}


@pytest.mark.parametrize("seed", range(6))
def test_a_run_is_written_as_a_case(seed):
    """What is printed can be pasted, and holds for the engine that it was made of."""
    reference, traffic = Reference(), Traffic(Random(f"case/{seed}"))
    plan, steps = traffic.plan, []
    begin(reference, plan)
    while len(steps) < 60:
        step = traffic.step()
        if isinstance(step, Packet):
            steps.append(step)
            traffic.out(step, take(reference, step))
    made = {}

    def packet_case(net):
        return lambda make: made.update(case=Case("pasted", "differential", make, net, frozenset()))

    source = as_case(Run(plan, steps), reference, "nothing")
    exec(source, {**NOTATION, "packet_case": packet_case})
    run(made["case"], reference)

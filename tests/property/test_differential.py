"""Random traffic to the pure core and to the eBPF programs: the same packets, reasons and connections.

A short run; ``tools/fuzz`` runs for as long as one likes.
"""

import contextlib
import re
import signal
import subprocess
from pathlib import Path
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
from tests.differential.main import main
from tests.differential.paste import as_case
from tests.differential.processes import STEPS, Explored, Failed, Found, Processes, Shortened
from tests.differential.program import Program
from tests.differential.rules import Reference
from tests.differential.steps import Packet, Run, begin, take
from tests.differential.traffic import Traffic
from tests.lab.clients import heed_interrupts, wait_for
from tests.lab.conftest import why_not
from tests.property.effort import LONG

RUNS = 2_000 if LONG else 25

# From Python 3.12 on a fork is told off where there are threads, as of engines of other tests.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


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


def side_by_side(make, first_run=0):
    """What three processes report until something else than a run that is over."""
    packets, others = 0, []
    with Processes(lambda: contextlib.nullcontext(make()), 1, first_run, 3) as processes:
        for report in processes.reports():
            if isinstance(report, Explored):
                packets += report.packets
            else:
                others.append(report)
            if others or packets > 5_000:
                processes.stop()
    return packets, others


@FORKS
def test_runs_side_by_side():
    packets, others = side_by_side(Reference)
    assert packets > 5_000
    assert others == []


@FORKS
def test_the_first_difference_ends_them_all():
    _, others = side_by_side(Forgetful)
    found = next(report for report in others if isinstance(report, Found))
    assert "the verdict: FORWARD (none) and DROP (none)" in found.what
    assert any(isinstance(report, Shortened) and "@packet_case" in report.case for report in others)
    again = Pair(Reference(), Forgetful()).explore(Random(f"1/{found.run}"), STEPS)[1]
    assert again is not None
    assert again.what == found.what


@FORKS
def test_a_process_that_cannot_go_on_says_why():
    class Broken(Reference):
        def send(self, frame, side):
            raise RuntimeError("of glass")

    _, others = side_by_side(Broken)
    assert all(isinstance(report, Failed) and "of glass" in report.why for report in others)
    assert others


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_wrong_number_of_processes(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--processes", number])
    assert "is not a number of processes" in capsys.readouterr().err


@pytest.mark.lab
def test_the_command(request):
    """Two processes with programs, and nothing left of them."""
    if reason := why_not():
        pytest.skip(reason)
    fuzz = [request.config.rootpath / "tools/fuzz", "--packets", "2000", "--processes", "2"]
    before = namespaces()
    done = subprocess.run(fuzz, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"^2,\d{3} packets, [\d,]+ a second: no difference$", done.stdout, re.MULTILINE), done
    assert namespaces() == before


@pytest.mark.lab
def test_the_command_is_interrupted(request):
    if reason := why_not():
        pytest.skip(reason)
    fuzz = [request.config.rootpath / "tools/fuzz", "--packets", "1000000000", "--processes", "2"]
    before = namespaces()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(fuzz, **streams, preexec_fn=heed_interrupts) as running:
        try:
            wait_for("two gateways", lambda: len(namespaces() - before) == 6)
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 130
        finally:
            running.terminate()
        assert b"Traceback" not in running.stdout.read()
    assert namespaces() == before


def namespaces():
    return {path.name for path in Path("/run/netns").glob("l4cf-*")}


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

"""Which cores a process runs on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
from benchmark.lab.cores import CORE, mask, on_one_core, stay

CORES = sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(len(CORES) < 2, reason="this machine has one core")
def test_a_process_stays_on_the_cores_that_it_is_given_with_all_its_threads():
    program = "import threading\nthreading.Thread(target=input).start()\nprint(flush=True)\n"
    with subprocess.Popen(
        ["python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        threads = [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]
        assert len(threads) == 2
        for cores in ({CORES[1]}, set(CORES)):
            stay(process.pid, cores)
            assert [os.sched_getaffinity(thread) for thread in threads] == [cores, cores]
        process.kill()
    stay(process.pid, CORES)  # it has ended: nothing to do


@pytest.mark.skipif(len(CORES) < 2, reason="this machine has one core")
def test_what_a_process_starts_stays_with_it():
    script = "import os\nprint(sorted(os.sched_getaffinity(0)))"
    try:
        stay(0, {CORES[0]})
        done = subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=True)
    finally:
        stay(0, CORES)
    assert done.stdout == f"[{CORES[0]}]\n"


@pytest.mark.skipif(len(CORES) < 2, reason="this machine has one core")
def test_this_thread_is_on_one_core_for_a_while():
    with on_one_core():
        assert os.sched_getaffinity(0) == {CORE}
    assert sorted(os.sched_getaffinity(0)) == CORES


@pytest.mark.parametrize("given", [CORES, CORES[-1:]], ids=["all cores", "one core"])
def test_there_are_two_cores_where_the_benchmark_was_given_two(given: list[int]):
    script = "from benchmark.lab.cores import CORE, OTHER_CORE\nprint(CORE, OTHER_CORE)"
    numbers = ",".join(map(str, given))
    done = subprocess.run(
        ["taskset", "--cpu-list", numbers, sys.executable, "-c", script],
        env={"PYTHONPATH": str(Path(benchmark.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(core) for core in [*given, None][:2]]


@pytest.mark.parametrize(
    ("core", "text"),
    [(0, "1"), (5, "20"), (31, "80000000"), (32, "1,00000000"), (69, "20,00000000,00000000")],
)
def test_a_core_is_a_bit_in_words_of_32(core: int, text: str):
    assert mask(core) == text

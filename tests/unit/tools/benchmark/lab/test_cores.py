"""Which cores a process runs on."""

import os
import subprocess

import pytest

from benchmark.lab.cores import CORE, on_one_core, stay

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

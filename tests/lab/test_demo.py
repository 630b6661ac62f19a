"""tools/demo: once to its end, and cut short."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netlab.record import lock_of
from tests.lab.clients import heed_interrupts
from tests.lab.test_lab import remains

pytestmark = pytest.mark.lab

TOOLS = Path(__file__).parents[2] / "tools"
ENVIRONMENT = {**os.environ, "L4LB_NO_SETUP": "1"}


def test_every_step_is_seen_to_work_and_nothing_is_left(prefix):
    done = subprocess.run(
        [TOOLS / "demo", "--prefix", prefix],
        env=ENVIRONMENT,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "All 11 steps were seen to work" in done.stdout
    assert "FAILED" not in done.stdout
    assert "\033" not in done.stdout  # no colours: it is no terminal
    assert remains(prefix) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_takes_the_lab_down(prefix, sign):
    with subprocess.Popen(
        [TOOLS / "demo", "--prefix", prefix],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as demo:
        for line in demo.stdout:
            if line.startswith(" 3 "):
                break
        assert remains(prefix) != []
        demo.send_signal(sign)
        rest = demo.communicate(timeout=30)[0]
    assert demo.returncode == 1
    assert "Interrupted: taking the lab down." in rest
    assert remains(prefix) == []


def test_a_step_that_fails_is_named_with_the_end_of_the_log(prefix):
    """The second service is where the first one is."""
    program = (
        "from demonstration import __main__ as demo, site, steps\n"
        "read = site._CONFIG.read_text()\n"
        "class Broken:\n"
        "    read_text = lambda self: read.replace('10.1.0.100:5353', '10.1.0.300:5353')\n"
        "site._CONFIG = Broken()\n"
        f"raise SystemExit(demo.main(['--prefix', '{prefix}']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TOOLS, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "Step 2 failed: l4lb run ended with exit status 1" in done.stdout
    assert "'10.1.0.300' is not an IP address" in done.stdout
    assert remains(prefix) == []


def test_kept_it_goes_on_balancing(prefix):
    program = (
        "from demonstration import __main__ as demo, steps\n"
        "del demo.STEPS[2:]\n"
        f"raise SystemExit(demo.main(['--keep', '--prefix', '{prefix}']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TOOLS, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    curl = f"tools/lab --prefix {prefix} exec client curl http://10.1.0.100/"
    assert f"$ {curl}\n" in done.stdout
    assert f"$ tools/lab --prefix {prefix} down\n" in done.stdout
    answer = subprocess.run(curl.split(), cwd=TOOLS.parent, capture_output=True, text=True, check=True)
    assert answer.stdout in ("web1\n", "web2\n")


def test_a_second_demo_on_the_same_lab_is_refused(prefix):
    with lock_of(prefix).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [TOOLS / "demo", "--prefix", prefix],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"tools/demo: another tool is at work on the lab '{prefix}': wait for its end\n"

"""How l4lb is started and ended on a lab, with another program in its place."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab import LabError
from netlab.daemon import Daemon

_READY = """\
import os, socket, signal, sys, time
def ready():
    print("here I am", flush=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(b"STATUS=well\\nREADY=1", os.environ["NOTIFY_SOCKET"])
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Callable[[str], Daemon]:
    def make(program: str) -> Daemon:
        made = Daemon(lambda *argv: [sys.executable, "-c", _READY + program, *argv], tmp_path / "gateway")
        made.configure("[gateway]\n")
        return made

    return make


def test_it_has_started_when_it_says_so_and_ends_with_its_status(daemon: Callable[[str], Daemon]):
    it = daemon("signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); ready(); time.sleep(60)")
    it.start()
    assert it.is_running
    assert it.stop() == 3
    assert not it.is_running
    assert it.last_words(1) == "here I am"


def test_it_can_be_started_again_and_the_log_goes_on(daemon: Callable[[str], Daemon]):
    it = daemon("ready(); time.sleep(60)")
    for _ in range(2):
        it.start()
        it.kill()
    assert it.last_words(9) == "here I am\nhere I am"


def test_it_is_told_its_files(daemon: Callable[[str], Daemon]):
    it = daemon("print(sys.argv[-5:-1], flush=True); ready(); time.sleep(60)")
    it.start()
    it.close()
    assert it.last_words(2).splitlines()[0] == str(["--config", str(it.config), "--socket", str(it.socket)])


def test_the_end_before_it_is_ready_is_told_with_its_last_words(daemon: Callable[[str], Daemon]):
    it = daemon("print('no such address'); sys.exit(1)")
    with pytest.raises(LabError, match=r"^l4lb run ended with exit status 1: no such address$"):
        it.start()
    assert not it.is_running


def test_what_is_not_ready_in_time_is_killed(daemon: Callable[[str], Daemon]):
    it = daemon("time.sleep(60)")
    with pytest.raises(LabError, match=r"^l4lb run is not ready in time: it said nothing$"):
        it.start(timeout=0.2)
    assert not it.is_running


def test_what_does_not_end_is_killed(daemon: Callable[[str], Daemon]):
    it = daemon("signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)")
    it.start()
    with pytest.raises(LabError, match=r"^l4lb run does not end: here I am$"):
        it.stop(timeout=0.2)
    assert not it.is_running


def test_a_command_that_fails_is_told_in_one_line(daemon: Callable[[str], Daemon]):
    it = daemon("sys.exit('no daemon answers') if 'status' in sys.argv else print('well')")
    assert it.ask("reload") == "well\n"
    with pytest.raises(LabError, match=r"no daemon answers$"):
        it.ask("status")


@pytest.mark.parametrize(("state", "is_enough"), [("up", True), ("down", False)])
def test_all_backends_have_to_be_up(daemon: Callable[[str], Daemon], state: str, is_enough: bool):
    it = daemon(
        f"import json; print(json.dumps({{'backends': [{{'state': 'up'}}, {{'state': '{state}'}}]}}))"
    )
    if is_enough:
        it.wait_up(timeout=0.0)
    else:
        with pytest.raises(LabError, match="l4lb's backends do not come up"):
            it.wait_up(timeout=0.0)

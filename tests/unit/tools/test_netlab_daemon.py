"""How l4lb is started and ended on a lab, with another program in its place."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from netlab import LabError, pins
from netlab import daemon as netlab_daemon
from netlab.daemon import Daemon, installed, running

_PROGRAM = """\
import json, os, socket, signal, sys, time
pid = sys.argv[sys.argv.index("--socket") + 1] + ".pid"
if sys.argv[-1] == "stop":
    with open(pid) as file:
        sys.exit(os.kill(int(file.read()), signal.SIGUSR1))
def ending(said, status):
    def end(*_):
        print(said, flush=True)
        sys.exit(status)
    return end
def ready():
    with open(pid, "w") as file:
        file.write(str(os.getpid()))
    print("here I am", flush=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(b"STATUS=well\\nREADY=1", os.environ["NOTIFY_SOCKET"])
"""


_RUNNING = """\
if sys.argv[-3:] == ["backend", "list", "--json"]:
    sys.exit(print('{"backends": []}'))
if sys.argv[-2:] == ["status", "--json"]:
    sys.exit(print('{"datapath": {"name": "raw"}}'))
"""
_STOPS = """\
signal.signal(signal.SIGUSR1, ending("it is as it was", {status}))
signal.signal(signal.SIGTERM, ending("some of it is kept", 0))
ready()
time.sleep(60)
"""


def in_its_place(program: str) -> Callable[..., list[str]]:
    """The command that runs this program whatever is asked for; "stop" is SIGUSR1 to it."""
    return lambda *argv: [sys.executable, "-c", _PROGRAM + program, *argv]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[str], Daemon]]:
    with ExitStack() as stack:

        def make(program: str) -> Daemon:
            made = Daemon(in_its_place(program), tmp_path / "gateway")
            made.configure("[gateway]\n")
            stack.callback(made.close, timeout=1.0)
            return made

        yield make


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
    with pytest.raises(LabError, match=r"^'l4lb status': no daemon answers$"):
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


def test_the_wait_for_backends_does_not_hang_where_no_answer_comes(
    daemon: Callable[[str], Daemon], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(netlab_daemon, "_ANSWER", 0.2)
    with pytest.raises(LabError, match=r"^'l4lb backend list --json' has not ended after 0\.2 s$"):
        daemon("time.sleep(60)").wait_up(timeout=0.0)


def test_no_directories_are_made_of_a_lab_that_is_down(tmp_path: Path):
    with pytest.raises(LabError, match=rf"^there is no {tmp_path}/absent: the lab is not up$"):
        Daemon(in_its_place(""), tmp_path / "absent" / "gateway").configure("")
    assert list(tmp_path.iterdir()) == []


def test_whatever_has_happened_it_takes_back_what_it_has_done(daemon: Callable[[str], Daemon]):
    it = daemon(_STOPS.format(status=0))
    it.start()
    it.close()
    assert not it.is_running
    assert it.last_words(1) == "it is as it was"


@pytest.mark.parametrize(
    ("handler", "timeout", "said"),
    [("ending('some of it is kept', 0)", 1.0, "some of it is kept"), ("signal.SIG_IGN", 0.2, "here I am")],
    ids=["SIGTERM", "SIGKILL"],
)
def test_what_does_not_heed_stop_is_ended_otherwise(
    daemon: Callable[[str], Daemon], handler: str, timeout: float, said: str
):
    it = daemon(
        f"signal.signal(signal.SIGUSR1, signal.SIG_IGN); signal.signal(signal.SIGTERM, {handler}); "
        "ready(); time.sleep(60)"
    )
    it.start()
    it.close(timeout)
    assert not it.is_running
    assert it.last_words(1) == said


def log(directory: Path) -> str:
    return (directory / "l4lb.log").read_text().splitlines()[-1]


def test_it_runs_for_a_block(tmp_path: Path):
    with running(in_its_place(_RUNNING + _STOPS.format(status=0)), tmp_path, "raw", "") as it:
        assert it.is_running
    assert not it.is_running
    assert log(tmp_path) == "it is as it was"


def test_nothing_of_it_is_left_after_a_block_that_fails(tmp_path: Path):
    with (
        pytest.raises(ZeroDivisionError),
        running(in_its_place(_RUNNING + _STOPS.format(status=0)), tmp_path, "raw", "") as it,
    ):
        raise ZeroDivisionError
    assert not it.is_running
    assert log(tmp_path) == "it is as it was"


def test_nothing_of_it_is_left_where_it_takes_another_datapath(tmp_path: Path):
    program = _RUNNING.replace("raw", "tc") + _STOPS.format(status=0)
    with (
        pytest.raises(LabError, match=r"^l4lb takes the datapath tc where raw is asked for$"),
        running(in_its_place(program), tmp_path, "raw", ""),
    ):
        pytest.fail("it is not the one that was asked for")
    assert log(tmp_path) == "it is as it was"


def test_an_end_with_a_failure_is_told(tmp_path: Path):
    with (
        pytest.raises(LabError, match=r"^l4lb run ended with exit status 3: it is as it was$"),
        running(in_its_place(_RUNNING + _STOPS.format(status=3)), tmp_path, "raw", "") as it,
    ):
        pass
    assert not it.is_running


def test_a_file_system_that_is_not_made_in_time_is_told():
    said = r"^no BPF file system for the gateway: it said nothing$"
    with (
        pytest.raises(LabError, match=said),
        pins.own(lambda *argv: ["sleep", "60"], timeout=0.1),
    ):
        pytest.fail("there is none")


def test_in_a_virtual_environment_of_something_else_it_is_that_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert installed() == Path(__file__).parents[3] / ".venv" / "bin" / "l4lb"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "l4lb").touch()
    assert installed() == tmp_path / "bin" / "l4lb"

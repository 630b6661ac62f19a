"""A real agent, asked as a gateway and as an HAProxy would."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from l4lb.agent.haproxy_line import Line
from l4lb.agent.protocol import question
from l4lb.agent.report import Administrative, Operating, Report
from l4lb.cli.main import main
from l4lb.health.agents.ask import AgentSocket, Answer, NoAnswer
from l4lb.health.agents.ask_line import ask_line
from tests.unit.agent.packets import KEY, NONCE, OTHER_KEY
from tests.unit.agent.process import DEADLINE, L4LB, AgentProcess, free_port, key_file, running

NOBODY = 65534


def asked(agent: AgentProcess, key: bytes = KEY, timeout: float = DEADLINE) -> Answer:
    async def ask() -> Answer:
        sock = AgentSocket()
        try:
            return await sock.ask(agent.address, key, timeout)
        finally:
            sock.close()

    return asyncio.run(ask())


def asked_until(agent: AgentProcess, good: Callable[[Report], bool]) -> Report:
    """Ask until the report is good: what an agent measures next depends on its interval."""

    async def ask() -> Report:
        sock = AgentSocket()
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    report = (await sock.ask(agent.address, KEY, DEADLINE)).report
                    if good(report):
                        return report
        finally:
            sock.close()

    return asyncio.run(ask())


def test_figures_of_this_host(tmp_path: Path):
    with running(tmp_path, "--key", key_file(tmp_path), "--interval", "0.05") as agent:
        report = asked_until(agent, lambda report: report.figures.cpu is not None)
        answer = asked(agent)
    figures = report.figures
    for share in (figures.cpu, figures.memory, figures.queue):
        assert share is not None
        assert 0 <= share <= 1
    assert figures.memory != 0
    assert figures.load is not None
    assert figures.application is None
    assert answer.report.sequence > 0
    assert 0 < answer.rtt < DEADLINE


def test_an_agent_of_an_unprivileged_user(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    key = key_file(tmp_path)
    os.chown(key, NOBODY, NOBODY)
    for above in tmp_path.parents:  # pytest's own are for their owner only
        if above.stat().st_uid == os.geteuid() and above.name.startswith("pytest"):
            above.chmod(0o711)
    tmp_path.chmod(0o711)
    seen = subprocess.run(
        [sys.executable, "-c", "import l4lb"], user=NOBODY, capture_output=True, check=False
    )
    if seen.returncode != 0:
        pytest.skip(f"uid {NOBODY} cannot read this repository")
    with running(tmp_path, "--key", key, "--interval", "0.05", user=NOBODY) as agent:
        uids = Path(f"/proc/{agent.process.pid}/status").read_text()
        report = asked_until(agent, lambda report: report.figures.cpu is not None)
    assert re.search(rf"^Uid:\t{NOBODY}\t{NOBODY}", uids, re.MULTILINE)
    assert None not in (report.figures.memory, report.figures.load, report.figures.queue)


def test_an_agent_that_is_root_keeps_no_capability_and_gets_none_back(tmp_path: Path):
    """Nor does it need any: a port below 1024 is open by then."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to have capabilities to give up")
    with running(
        tmp_path, "--key", key_file(tmp_path), "--interval", "0.05", port=free_port(range(512, 1024))
    ) as agent:
        said = [task.read_text() for task in Path(f"/proc/{agent.process.pid}/task").glob("*/status")]
        report = asked_until(agent, lambda report: report.figures.cpu is not None)
    for field, value in {"CapPrm": "0" * 16, "CapEff": "0" * 16, "NoNewPrivs": "1"}.items():
        assert {re.search(rf"^{field}:\t(\w+)$", each, re.MULTILINE)[1] for each in said} == {value}
    assert None not in (report.figures.memory, report.figures.load, report.figures.queue)


def test_both_keys_are_known_while_they_are_changed(tmp_path: Path):
    with running(tmp_path, "--key", key_file(tmp_path, KEY, OTHER_KEY)) as agent:
        assert asked(agent, KEY).report.sequence == 0
        assert asked(agent, OTHER_KEY).report.sequence == 1


def answers(agent: AgentProcess, key: bytes, timeout: float = DEADLINE) -> bool:
    try:
        asked(agent, key, timeout=timeout)
    except NoAnswer:
        return False
    return True


def test_a_key_is_changed_without_a_gap_and_without_a_restart(tmp_path: Path):
    """As keys.py says. What is no key in between changes nothing, nor does SIGHUP."""
    key = key_file(tmp_path, KEY)
    with running(tmp_path, "--key", key, "--interval", "0.05") as agent:
        until = time.monotonic() + DEADLINE
        key.write_text(f"{KEY.hex()}\n{OTHER_KEY.hex()}")
        while not answers(agent, OTHER_KEY, 0.2):
            assert time.monotonic() < until
        key.write_text("nonsense")
        agent.wait_logged("not a key")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_logged("nothing to reload")
        assert answers(agent, KEY)
        assert answers(agent, OTHER_KEY)
        key.write_text(OTHER_KEY.hex())
        while answers(agent, KEY, 0.2):
            assert time.monotonic() < until
        assert answers(agent, OTHER_KEY)
        code, log = agent.stop()
    assert code == 0
    assert log.count("not a key") == 1
    assert KEY.hex() not in log
    assert OTHER_KEY.hex() not in log


def test_the_applications_figure_and_the_wanted_state_are_followed(tmp_path: Path):
    figure, state = tmp_path / "figure", tmp_path / "state"
    options = ("--application", figure, "--state", state, "--interval", "0.05")
    with running(tmp_path, "--key", key_file(tmp_path), *options, tcp=True) as agent:
        figure.write_text("0.625")
        state.write_text("drain")
        report = asked_until(
            agent,
            lambda report: (
                report.figures.application is not None and report.administrative is Administrative.DRAIN
            ),
        )
        assert report.figures.application == 0.625
        state.write_text("down # disk full")
        asked_until(agent, lambda report: report.operating is Operating.DOWN)
        line = asyncio.run(ask_line(agent.address, DEADLINE)).line
        assert (line.operating, line.description) == (Operating.DOWN, "disk full")
        os.utime(figure, (0, 0))
        asked_until(agent, lambda report: report.figures.application is None)
        _, log = agent.stop()
    assert "not written for more than 10 s" in log


def test_what_is_not_a_question_is_met_with_silence_and_counted(tmp_path: Path):
    good = question(NONCE, KEY)
    with (
        running(tmp_path, "--key", key_file(tmp_path)) as agent,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.connect((agent.address.host, agent.address.port))
        sock.settimeout(DEADLINE)
        for packet in (b"", b"L4AG", good + b"\0", question(NONCE, OTHER_KEY), b"hello", good):
            sock.send(packet)
        answers = [sock.recv(1000)]  # to the last one: the agent has seen the others
        sock.send(good)
        sock.send(question(bytes(16), KEY))
        answers.append(sock.recv(1000))
        status, log = agent.stop()
    assert [answer[8:24] for answer in answers] == [NONCE, bytes(16)]
    assert [len(answer) for answer in answers] == [len(good)] * 2
    assert status == 0
    assert (
        "not answered since the start: foreign 1, oversized 1, replayed 1, truncated 2, unauthenticated 1"
    ) in log
    assert "Traceback" not in log


def test_a_question_with_the_wrong_key_gets_no_answer(tmp_path: Path):
    with running(tmp_path, "--key", key_file(tmp_path)) as agent:
        with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
            asked(agent, OTHER_KEY, 0.2)
        assert asked(agent).report.sequence == 0


def test_an_agent_for_haproxy_alone_needs_no_key(tmp_path: Path):
    with running(tmp_path, udp=False, tcp=True) as agent:
        line = asyncio.run(ask_line(agent.address, DEADLINE)).line
        assert line == Line(Administrative.READY, Operating.UP, line.percentage)
        assert line.percentage is not None
        assert 1 <= line.percentage <= 100
        status, log = agent.stop()
    assert status == 0
    assert "stopped; answers: 1" in log


def test_a_question_of_haproxy_is_read_so_that_the_line_arrives(tmp_path: Path):
    with running(tmp_path, udp=False, tcp=True) as agent:
        for _ in range(50):
            with socket.create_connection((agent.address.host, agent.address.port), DEADLINE) as sock:
                sock.sendall(b"web/server1\n")
                with sock.makefile("rb") as stream:
                    assert stream.read().endswith(b"%\n")


def test_signs_of_life_for_a_service_manager_that_waits_for_them(tmp_path: Path):
    with running(tmp_path, udp=False, tcp=True, watchdog=0.2) as agent:
        said = {agent.manager.recv(4096) for _ in range(3)}
    assert said == {b"WATCHDOG=1"}


def refused(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [*L4LB, "agent", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_port_in_use_is_one_line(tmp_path: Path):
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(tcp.getsockname())
        address = f"127.0.0.1:{tcp.getsockname()[1]}"
        assert refused("--tcp", address) == (
            1,
            f"l4lb: cannot listen on {address} (TCP): address already in use",
        )
        assert refused("--listen", address, "--key", key_file(tmp_path)) == (
            1,
            f"l4lb: cannot listen on {address} (UDP): address already in use",
        )


def test_a_key_that_others_can_read_is_one_line(tmp_path: Path):
    key = key_file(tmp_path)
    key.chmod(0o644)
    status, line = refused("--listen", f"127.0.0.1:{free_port()}", "--key", key)
    assert (status, line) == (
        1,
        f"l4lb: {key}: others can read or change it (mode 0644): chmod 0600 it",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to do: give --listen, --tcp or both"),
        (("--listen", "127.0.0.1:7077"), "--listen needs a --key"),
        (("--tcp", "7077"), "'7077' has no port: write ADDRESS:PORT"),
        (("--tcp", "127.0.0.1:7077", "--interval", "0"), "'0' is not a number of seconds from 0.05 to 60"),
        (("--tcp", "127.0.0.1:7077", "--interval", "nan"), "'nan' is not a number of seconds"),
        (("--tcp", "127.0.0.1:7077", "--application-max-age", "inf"), "'inf' is not a number of seconds"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str):
    result = CliRunner().invoke(main, ["agent", *arguments], prog_name="l4lb")
    assert result.exit_code == 2
    assert message in result.stderr

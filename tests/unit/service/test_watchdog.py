"""Signs of life, as a service manager gets them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.service.watchdog import give_signs_of_life, patience
from tests.unit.control.fake_datapath import DEADLINE
from tests.unit.control.harness import with_daemon

WAIT = 0.4  # seconds; a sign comes every quarter of it


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # somebody else's
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_whether_it_waits_for_us(environment, seconds):
    assert patience(environment) == seconds


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A manager that waits for signs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WAIT * 1e6)))
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield receiver


async def sign(manager):
    """The next one."""
    async with asyncio.timeout(DEADLINE):
        while await asyncio.get_running_loop().sock_recv(manager, 1000) != b"WATCHDOG=1":
            pass


def drained(manager):
    """All that was said until now."""
    said = []
    while True:
        try:
            said.append(manager.recv(1000))
        except BlockingIOError:
            return said


def test_a_sign_four_times_as_often_as_is_needed(manager):
    async def yes():
        return True

    async def run():
        async with give_signs_of_life(yes):
            await sign(manager)
            before = time.monotonic()
            for _ in range(4):
                await sign(manager)
            return time.monotonic() - before

    # And no more often than that; the first may have been read a moment after it came.
    assert asyncio.run(run()) >= 3 * WAIT / 4
    assert drained(manager) == []


def test_none_while_the_work_is_not_done_and_again_when_it_is(manager, caplog):
    answers = []

    async def alive():
        answers.append(len(answers) not in (1, 2, 3))
        return answers[-1]

    async def run():
        async with give_signs_of_life(alive):
            await sign(manager)
            await sign(manager)
            return list(answers)

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(run()) == [True, False, False, False, True]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_who_does_not_answer_or_fails_is_not_alive(manager, caplog):
    calls = []

    async def alive():
        calls.append(None)
        if len(calls) == 1:
            await asyncio.Event().wait()
        if len(calls) == 2:
            raise RuntimeError("a bug")
        return True

    async def run():
        async with give_signs_of_life(alive):
            await sign(manager)
            return len(calls)

    assert asyncio.run(run()) == 3
    assert "a bug" in caplog.text


def test_no_question_where_nobody_waits(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_PID", "1")

    async def alive():
        raise AssertionError("asked")

    async def run():
        async with give_signs_of_life(alive):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert drained(manager) == []


def test_the_daemon_gives_signs_only_while_its_datapath_answers(manager, tmp_path):
    """And it goes on by itself when the datapath has come back."""

    async def scenario(l4lb):
        await sign(manager)
        details = l4lb.datapath.details
        asked = asyncio.Event()

        async def refuse():
            asked.set()
            raise DatapathError("the packet process did not answer 'details'")

        l4lb.datapath.details = refuse
        async with asyncio.timeout(DEADLINE):
            for _ in range(3):
                asked.clear()
                await asked.wait()
            # From the first question on there was no sign any more.
            drained(manager)
            for _ in range(3):
                asked.clear()
                await asked.wait()
        assert drained(manager) == []
        l4lb.datapath.details = details
        await sign(manager)

    with_daemon(tmp_path, scenario)

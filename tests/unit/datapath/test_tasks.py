"""What a datapath does by itself: no error of it is lost, and one that matters ends the datapath."""

import asyncio
import logging

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.tasks import Tasks, Turns

WITHIN = 5.0


async def failing(error):
    raise error


def run(error, *, vital):
    """The reason of the end after one task has failed, None if it goes on."""

    async def task():
        tasks = Tasks()
        tasks.start(asyncio.sleep(3_600))
        tasks.start(failing(error), vital=vital)
        failed = asyncio.ensure_future(tasks.wait_failed())
        await asyncio.sleep(0.01)
        assert tasks
        reason = failed.result() if failed.done() else None
        failed.cancel()
        async with asyncio.timeout(WITHIN):
            await tasks.close()
        assert not tasks
        return reason

    return asyncio.run(task())


def logged(caplog):
    return [(each.levelno, each.message, each.exc_info is not None) for each in caplog.records]


def test_what_could_not_be_done_once_is_a_warning(caplog):
    assert run(DatapathError("no memory"), vital=False) is None
    assert logged(caplog) == [(logging.WARNING, "no memory", False)]


def test_what_is_vital_ends_the_datapath(caplog):
    assert run(DatapathError("no memory"), vital=True) == "no memory"
    assert logged(caplog) == []  # who restarts it says so


def test_a_bug_is_logged_with_where_it_is(caplog):
    assert run(RuntimeError("odd"), vital=False) is None
    assert logged(caplog) == [(logging.ERROR, "a bug in the datapath", True)]


def test_a_bug_in_what_is_vital_ends_the_datapath_too(caplog):
    assert run(KeyError(), vital=True) == "KeyError()"
    assert logged(caplog) == [(logging.ERROR, "a bug in the datapath", True)]


def test_the_end_of_one_that_is_vital_without_an_error_is_none():
    async def test():
        tasks = Tasks()
        tasks.start(asyncio.sleep(0), vital=True)
        failed = asyncio.ensure_future(tasks.wait_failed())
        await asyncio.sleep(0.01)
        assert not tasks
        assert not failed.done()
        failed.cancel()

    asyncio.run(test())


def turn(turns, error=None):
    """One turn, and the seconds until the next."""
    with turns.one():
        if error is not None:
            raise error
    return turns.pause


def test_a_turn_that_fails_is_tried_again_at_once_and_then_ever_less_often():
    turns, error = Turns(), DatapathError("too many open files")
    assert turn(turns) == 0.0
    assert not turns.failed
    assert [turn(turns, error) for _ in range(10)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert turns.failed
    assert turn(turns) == 0.0
    assert not turns.failed
    assert [turn(turns, error) for _ in range(2)] == [0.0, 0.5]


def test_of_turns_that_fail_the_log_has_ever_fewer_and_their_end(caplog):
    turns, error = Turns(), DatapathError("too many open files")
    for failures in (1, 0, 100):
        for _ in range(failures):
            turn(turns, error)
        turn(turns)
    assert caplog.messages == [
        "too many open files: it is tried again",
        "too many open files: it is tried again",
        *(f"too many open files: {n} times in a row; it is tried again" for n in (2, 4, 8, 16, 32, 64)),
        "what failed 100 times in a row is done now",
    ]


def test_a_bug_in_a_turn_is_not_tried_again():
    with pytest.raises(RuntimeError), Turns().one():
        raise RuntimeError("odd")

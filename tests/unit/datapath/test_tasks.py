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


def test_a_turn_may_fail_and_so_may_the_next_but_not_three_in_a_row(caplog):
    def fail():
        with turns.one():
            raise DatapathError("too many open files")

    turns = Turns()
    for _ in range(2):
        fail()
        fail()
        with turns.one():
            pass
    assert caplog.messages == ["too many open files: it is tried again"] * 2
    fail()
    fail()
    with pytest.raises(DatapathError, match=r"^too many open files$"):
        fail()


def test_a_bug_in_a_turn_is_not_tried_again():
    with pytest.raises(RuntimeError), Turns().one():
        raise RuntimeError("odd")

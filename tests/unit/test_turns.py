"""Long work in the event loop, in pieces."""

import asyncio
from contextlib import suppress

import pytest

from l4lb import turns
from l4lb.turns import LONGEST, TURN, in_turns


async def turns_of_others_during(work):
    """How often another task had its turn until work was done."""
    had = 0

    async def other():
        nonlocal had
        while True:
            await asyncio.sleep(0)
            had += 1

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    had = 0
    await work
    counted = had
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return counted


def during(seconds_each, number):
    """Turns of others while so many items take so long each, on a manual clock."""
    now = [0.0]

    async def work():
        async for _ in in_turns(range(number), lambda: now[0]):
            now[0] += seconds_each

    return asyncio.run(turns_of_others_during(work()))


@pytest.mark.parametrize(
    ("each", "number", "others"), [(0.3 * TURN, 100, 25), (3 * TURN, 7, 7), (0.0, 1000, 0)]
)
def test_others_have_a_turn_after_so_much_work(each, number, others):
    assert during(each, number) == others


@pytest.mark.parametrize(
    ("others", "work"), [(0.0, TURN), (TURN / 2, TURN), (3 * TURN, 3 * TURN), (100 * LONGEST, LONGEST)]
)
def test_where_others_need_long_it_has_half_of_the_time(others, work):
    now, begun, pieces = [0.0], [0.0], []

    async def other():
        while True:
            pieces.append(now[0] - begun[0])
            now[0] += others
            begun[0] = now[0]
            await asyncio.sleep(0)

    async def run():
        task = asyncio.create_task(other())
        async for _ in in_turns(range(1000), lambda: now[0]):
            now[0] += 0.001
        task.cancel()

    asyncio.run(run())
    assert len(pieces) > 10
    assert pieces[2:] == pytest.approx([work] * len(pieces[2:]), abs=0.0011)


def test_all_items_come_in_order(monkeypatch):
    monkeypatch.setattr(turns, "TURN", 0.0)

    async def gather():
        return [each async for each in in_turns(iter("abc"))]

    assert asyncio.run(gather()) == ["a", "b", "c"]

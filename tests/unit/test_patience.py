import asyncio
import socket
import threading
import time

import pytest

from l4lb.patience import within


def test_what_is_done_in_time_is_the_result():
    async def answer():
        await asyncio.sleep(0.01)
        return "well"

    assert asyncio.run(within(5.0, answer())) == "well"


def test_what_it_raises_goes_through():
    async def refuse():
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(within(5.0, refuse()))


def test_what_takes_longer_is_cancelled_and_has_ended():
    ended = []

    async def dawdle():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(within(0.1, dawdle()))
    assert ended
    assert 0.1 <= time.monotonic() - began < 5


def test_who_is_cancelled_takes_along_what_he_waits_for():
    async def scenario():
        answer = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(within(60.0, answer))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert waiting.cancelled()
        assert answer.cancelled()

    asyncio.run(scenario())


def test_an_answer_that_came_while_the_loop_was_away_is_in_time_though_it_takes_several_steps():
    async def exchange(sock):
        loop = asyncio.get_running_loop()
        for _ in range(3):
            assert await loop.sock_recv(sock, 1) == b"x"
        return "well"

    async def scenario():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            threading.Timer(0.2, theirs.send, (b"xxx",)).start()
            waiting = asyncio.create_task(within(0.3, exchange(ours)))
            await asyncio.sleep(0)
            time.sleep(0.6)  # as if this process had been stopped
            return await waiting

    assert asyncio.run(scenario()) == "well"


def test_a_loop_that_is_always_late_comes_to_an_end_all_the_same():
    async def scenario():
        loop = asyncio.get_running_loop()

        def starve(turns):
            time.sleep(0.1)
            if turns:
                loop.call_soon(starve, turns - 1)

        starve(50)
        await within(0.3, loop.create_future())

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(scenario())
    assert time.monotonic() - began < 4


def test_that_the_loop_was_away_grants_no_more_than_that_again():
    async def scenario():
        waiting = asyncio.create_task(within(0.2, asyncio.sleep(60)))
        await asyncio.sleep(0)
        time.sleep(2.2)
        await waiting

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(scenario())
    assert time.monotonic() - began < 3.5, "2.2 and 0.2, not 2.2 and 2"

"""The event loop of the runner's tests."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.unit.health.runner_bench import JumpingLoop


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    loop = JumpingLoop()
    lost: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: lost.append(context))
    yield loop.run_until_complete
    assert not lost, "exceptions in callbacks"
    assert not asyncio.all_tasks(loop), "close left tasks behind"
    loop.close()

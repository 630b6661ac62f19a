"""How often the kernel's configuration is read again, on a clock that jumps. On a real kernel:
tests/lab/test_netlink.py."""

import asyncio
from itertools import pairwise

import pytest

from l4lb.netlink.mirror import Part
from l4lb.netlink.watch import _LONGEST_REST, _SETTLE, KernelWatch
from tests.unit.health.runner_bench import JumpingLoop
from tests.unit.netlink.kernel import address

PAUSE = 0.005  # seconds between two events
VIPS = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]


class Events:
    """Addresses that go, one after the other; then nothing comes any more."""

    def __init__(self):
        self.left = [address(2, vip, 32, kind="DELADDR", local=vip) for vip in reversed(VIPS)]

    async def get(self):
        if not self.left:
            await asyncio.sleep(1000.0)
        await asyncio.sleep(PAUSE)
        yield self.left.pop()


def dumps_while_addresses_go(takes):
    """When routes were dumped, with each dump taking so many seconds."""
    begun = []

    async def scenario():
        watch = KernelWatch()
        watch._mirror.replace(Part.ADDRESSES, [address(2, vip, 32, local=vip) for vip in VIPS])
        watch._events = Events()
        clock = asyncio.get_running_loop().time

        async def refresh(*parts):
            assert parts == (Part.ROUTES,)
            begun.append(clock())
            watch._mirror.stale.clear()
            await asyncio.sleep(takes)

        watch._refresh = refresh
        following = asyncio.create_task(watch._follow())
        await asyncio.sleep(60.0)
        following.cancel()
        assert not watch._mirror.stale
        assert not watch.state.addresses

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(scenario())
    return begun


@pytest.mark.parametrize(("takes", "apart"), [(0.0, _SETTLE), (0.25, 4 * 0.25), (1.0, 1.0 + _LONGEST_REST)])
def test_a_dump_that_takes_long_has_a_rest_before_the_next(takes, apart):
    begun = dumps_while_addresses_go(takes)
    between = [after - before for before, after in pairwise(begun)]
    assert len(between) >= 2
    assert between[:-1] == pytest.approx([apart] * (len(between) - 1), abs=2 * PAUSE)

"""A runner with checks that only pretend, on an event loop whose clock jumps to the next timer: minutes
of checks in milliseconds."""

import asyncio
import contextlib
import selectors
from collections import Counter
from random import Random

from l4lb.health.rise_fall import Health, HealthState, Outcome, Result
from l4lb.health.runner import HealthRunner
from l4lb.model import Backend, Endpoint, HealthCheck, Service

CHECK = HealthCheck("tcp", interval=2.0, timeout=1.0, rise=2, fall=3)
PASSED = Result(Outcome.PASSED, latency=0.001)
REFUSED = Result(Outcome.FAILED, "connection refused")
VIP = Endpoint.parse("10.1.0.100:80")
A = Endpoint.parse("10.2.0.11:80")
B = Endpoint.parse("10.2.0.12:80")


class JumpingLoop(asyncio.SelectorEventLoop):
    """When nothing is ready, time jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(self.Selector(self))

    def time(self) -> float:
        return self.now

    class Selector(selectors.DefaultSelector):
        def __init__(self, loop: "JumpingLoop") -> None:
            super().__init__()
            self.loop = loop

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            assert timeout is not None, "nothing will ever happen"
            # A pass of the loop takes a moment, so that rounding cannot hold time back for ever.
            self.loop.now += max(timeout, 1e-6)
            return super().select(0)


class Backends:
    """Checks that take a given time and end as the backend is set to, and what was seen of them."""

    def __init__(self) -> None:
        self.result: dict[Endpoint, Result | Exception] = {}
        self.takes = 0.01
        self.started: list[tuple[float, Endpoint, HealthCheck]] = []
        self.under_way: Counter[Endpoint] = Counter()
        self.most_at_once = 0
        self.cancelled: list[Endpoint] = []

    async def check(self, target: Endpoint, check: HealthCheck) -> Result:
        self.started.append((asyncio.get_running_loop().time(), target, check))
        self.under_way[target] += 1
        self.most_at_once = max(self.most_at_once, self.under_way.total())
        try:
            await asyncio.sleep(self.takes)
        except asyncio.CancelledError:
            self.cancelled.append(target)
            raise
        finally:
            self.under_way[target] -= 1
        result = self.result.get(target, PASSED)
        if isinstance(result, Exception):
            raise result
        return result

    def times(self, target: Endpoint) -> list[float]:
        return [when for when, checked, _ in self.started if checked == target]


class Bench:
    """A runner, its backends and the transitions it told of."""

    def __init__(self, max_at_once: int | None = None) -> None:
        self.backends = Backends()
        self.changes: list[tuple[str, Endpoint, HealthState, str]] = []
        loop = asyncio.get_running_loop()
        self.runner = HealthRunner(
            self.told, loop.time, max_at_once=max_at_once, random=Random(7), check=self.backends.check
        )

    def told(self, service: str, backend: Endpoint, health: Health) -> None:
        assert self.runner.state(service, backend) == health
        self.changes.append((service, backend, health.state, health.reason))

    def state(self, backend: Endpoint = A, service: str = "web") -> HealthState:
        return self.runner.state(service, backend).state


@contextlib.asynccontextmanager
async def bench(max_at_once: int | None = None):
    made = Bench(max_at_once)
    try:
        yield made
    finally:
        await made.runner.close()
        assert made.backends.under_way.total() == 0


def service(*backends: Endpoint, name: str = "web", check: HealthCheck = CHECK) -> Service:
    return Service(name, VIP, health=check, backends=tuple(Backend(address) for address in backends))

"""What is done again and again: started when due, told of when it is over, and left when it is dropped."""

import asyncio
from random import Random

from l4lb.health.repeated import Repeated
from l4lb.health.schedule import Schedule

INTERVAL = 0.01  # seconds


class Jobs:
    """Jobs by name, each of which takes as long as the test lets it."""

    def __init__(self, at_once=8):
        self.schedule = Schedule(Random(1), at_once)
        self.started, self.over = [], []
        self.may_end = {}
        self.repeated = Repeated(
            self.schedule,
            asyncio.get_running_loop().time,
            due=self.due,
            start=self.start,
            over=lambda job, task, now: self.over.append((job, task.exception() or task.result())),
            least_pause=INTERVAL,
        )
        self.refused = 0  # times that nothing may start yet

    def add(self, job):
        self.may_end[job] = asyncio.Event()
        self.schedule.add(job, INTERVAL, asyncio.get_running_loop().time())
        self.repeated.go_on()

    def due(self, now):
        if self.refused:
            return self.schedule.start_due(now, self.refuse)
        return self.schedule.start_due(now)

    def refuse(self, job, due):
        self.refused -= 1
        return False

    async def start(self, job):
        self.started.append(job)
        await self.may_end[job].wait()
        if job == "broken":
            raise ValueError(job)
        return f"{job} done"

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(INTERVAL / 10)


def test_one_is_started_again_when_it_is_over_and_its_interval_too():
    async def run():
        jobs = Jobs()
        jobs.add("one")
        await jobs.until(lambda: jobs.started == ["one"])
        await asyncio.sleep(5 * INTERVAL)
        assert jobs.started == ["one"]  # it is still under way
        jobs.may_end["one"].set()
        await jobs.until(lambda: jobs.over[:2] == [("one", "one done")] * 2)
        jobs.repeated.drop("one")

    asyncio.run(run())


def test_one_that_raises_is_told_of_and_goes_on():
    async def run():
        jobs = Jobs()
        jobs.add("broken")
        jobs.may_end["broken"].set()
        await jobs.until(lambda: len(jobs.over) > 1)
        assert {(job, str(error)) for job, error in jobs.over} == {("broken", "broken")}
        jobs.repeated.drop("broken")

    asyncio.run(run())


def test_one_that_is_dropped_is_not_told_of_and_makes_room():
    async def run():
        jobs = Jobs(at_once=1)
        jobs.add("one")
        await jobs.until(lambda: jobs.started == ["one"])
        jobs.add("two")
        await asyncio.sleep(5 * INTERVAL)
        assert jobs.started == ["one"]
        jobs.repeated.drop("one")
        await jobs.until(lambda: jobs.started == ["one", "two"])
        assert jobs.over == []
        jobs.repeated.drop("two")
        await jobs.repeated.wait()
        await asyncio.sleep(5 * INTERVAL)
        assert (jobs.started, jobs.over) == (["one", "two"], [])

    asyncio.run(run())


def test_where_one_that_is_due_may_not_start_it_is_asked_again():
    async def run():
        jobs = Jobs()
        jobs.refused = 3
        jobs.add("one")
        await jobs.until(lambda: jobs.started == ["one"])
        assert jobs.refused == 0
        jobs.repeated.drop("one")

    asyncio.run(run())

"""A look that cost much is followed by a rest, in which everything that happens waits for one look more."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from fakecluster import FakeCluster, VirtualClock

from podling.controllers.runtime import LONGEST_REST, Context, Controller, Manager, ObjectKey, Runner

KEY = ObjectKey("default", "web")
OTHER = ObjectKey("default", "api")


class Bench:
    """A controller whose every look computes for `cost` seconds, in two halves with a pause between."""

    def __init__(self, cost: float) -> None:
        self.cost = cost
        self.fault: Exception | None = None
        self.watch = 0.0
        self.looks: list[ObjectKey] = []
        self.clock = VirtualClock()
        controller = Controller(name="c", user="u", resource="services", watches=(), reconcile=self._look)
        self.manager = Manager(
            [controller],
            clients=lambda _: FakeCluster(self.clock),
            recorders=lambda _: lambda *_args, **_more: None,
            clock=self.clock,
            stopwatch=lambda: self.watch,
        )
        self.runner: Runner = self.manager.runners[0]

    async def _look(self, _context: Context, key: ObjectKey) -> None:
        self.looks.append(key)
        self.watch += self.cost / 2
        await asyncio.sleep(0)
        self.watch += self.cost / 2
        if self.fault is not None:
            raise self.fault

    async def happens(self, *keys: ObjectKey) -> None:
        for key in keys:
            self.runner.add(key)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def passes(self, seconds: float) -> None:
        self.clock.moment += timedelta(seconds=seconds)
        while self.clock.fire_next(self.clock.moment):
            await self.settle()


def play(cost: float, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(cost)
        await story(bench)
        await bench.manager.stop()

    asyncio.run(run())


def test_a_light_look_is_followed_by_no_rest() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(5):
            await bench.happens(KEY)
        assert len(bench.looks) == 5

    play(0.004, story)


def test_whatever_happens_in_a_rest_is_one_look_after_it() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(5):
            await bench.happens(KEY)
        assert bench.looks == [KEY]
        await bench.passes(0.04)
        assert bench.looks == [KEY]
        await bench.passes(0.01)
        assert bench.looks == [KEY, KEY]

    play(0.010, story)


def test_a_rest_in_which_nothing_happens_is_followed_by_no_look() -> None:
    async def story(bench: Bench) -> None:
        await bench.happens(KEY)
        await bench.passes(1)
        assert bench.looks == [KEY]
        await bench.happens(KEY)
        assert bench.looks == [KEY, KEY]

    play(0.010, story)


def test_other_keys_do_not_rest() -> None:
    async def story(bench: Bench) -> None:
        await bench.happens(KEY, KEY, OTHER)
        assert bench.looks == [KEY, OTHER]

    play(0.010, story)


@pytest.mark.parametrize("cost", [1.0, 60.0])
def test_no_rest_is_long(cost: float) -> None:
    async def story(bench: Bench) -> None:
        await bench.happens(KEY)
        await bench.happens(KEY)
        await bench.passes(LONGEST_REST)
        assert bench.looks == [KEY, KEY]

    play(cost, story)


def test_a_look_that_failed_is_tried_again() -> None:
    async def story(bench: Bench) -> None:
        bench.fault = ValueError("as a test wants it")
        await bench.happens(KEY)
        await bench.passes(0.005)
        assert bench.looks == [KEY, KEY]

    play(0.0, story)

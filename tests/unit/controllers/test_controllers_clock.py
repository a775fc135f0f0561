"""A cluster's time that runs faster than the machine's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from podling.clock import FastClock, SystemClock, cluster_clock
from podling.layout import ClusterRecord

SINCE = 1_790_000_000.0


class Machine:
    """A machine's clock that is set by hand."""

    def __init__(self) -> None:
        self.time = SINCE

    def __call__(self) -> float:
        return self.time


def test_a_minute_of_the_machine_is_an_hour_of_the_cluster() -> None:
    machine = Machine()
    clock = FastClock(SINCE, 60, machine)
    assert clock.now() == datetime.fromtimestamp(SINCE, UTC)
    machine.time += 60
    assert clock.now() == datetime.fromtimestamp(SINCE + 3600, UTC)
    assert clock.to_host(clock.seconds()) == machine.time


def test_another_daemon_finds_the_time_where_it_would_be() -> None:
    machine = Machine()
    first = FastClock(SINCE, 60, machine)
    machine.time += 10
    before = first.now()
    machine.time += 5
    assert (FastClock(SINCE, 60, machine).now() - before).total_seconds() == 300


def test_it_waits_where_the_machine_s_clock_is_set_back() -> None:
    machine = Machine()
    clock = FastClock(SINCE, 60, machine)
    machine.time += 10
    before = clock.now()
    machine.time -= 1
    assert clock.now() == before
    machine.time += 2
    assert clock.now() > before


def test_a_timer_of_an_hour_takes_a_minute() -> None:
    async def due_in() -> float:
        loop = asyncio.get_running_loop()
        timer = FastClock(SINCE, 60).call_later(3600, lambda: None)
        assert isinstance(timer, asyncio.TimerHandle)
        timer.cancel()
        return timer.when() - loop.time()

    assert 59 < asyncio.run(due_in()) <= 60


def test_a_cluster_has_the_machine_s_time_unless_it_was_made_with_another() -> None:
    plain: ClusterRecord = {"name": "a", "node": "a", "api_port": 1}
    assert type(cluster_clock(plain)) is SystemClock
    fast = cluster_clock({**plain, "time_scale": 60, "since": SINCE})
    assert (fast.pace, fast.of_host(SINCE + 1)) == (60, SINCE + 60)

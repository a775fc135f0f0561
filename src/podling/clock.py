"""The cluster's time, as a parameter: what its API, its controllers and its kubelet go by.

It is the machine's, or runs a number of times faster (`podling up --time-scale 60`: a day of CronJobs in 24 minutes).
Then every time that an object shows is the cluster's, and so is every duration that is compared with one: schedules,
deadlines, back-offs, windows. What belongs to running programs and their clients stays in the machine's time: probes,
hooks, grace periods, signs of life, tokens, certificates, log lines.

Tests give a clock that stands still until told, so that ten minutes of back-off pass in a microsecond.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from podling.layout import ClusterRecord


class Timer(Protocol):
    """A call that was promised for later."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    @property
    def pace(self) -> float:
        """Seconds of the cluster in one of the machine."""
        ...

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer: ...


class SystemClock:
    """The machine's clock and the running event loop's timers. `host` gives Unix seconds."""

    def __init__(self, host: Callable[[], float] = time.time) -> None:
        self.host = host

    @property
    def pace(self) -> float:
        return 1.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def seconds(self) -> float:
        """The moment in Unix seconds."""
        return self.of_host(self.host())

    def of_host(self, moment: float) -> float:
        """What the cluster's clock shows when the machine's shows `moment`."""
        return moment

    def to_host(self, moment: float) -> float:
        """What the machine's clock shows when the cluster's shows `moment`."""
        return moment

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds / self.pace, callback)


class FastClock(SystemClock):
    """Runs `pace` times as fast as the machine's clock, since both showed the same (`since`, Unix seconds).

    All of it follows from that one moment, so there is nothing to keep: the time goes on while no daemon runs. A
    machine's clock that is set back by a second would set this one back by a minute; within a process it waits instead.
    """

    def __init__(self, since: float, pace: float, host: Callable[[], float] = time.time) -> None:
        super().__init__(host)
        self._since = since
        self._pace = pace
        self._latest = since

    @property
    def pace(self) -> float:
        return self._pace

    def seconds(self) -> float:
        self._latest = max(self._latest, super().seconds())
        return self._latest

    def of_host(self, moment: float) -> float:
        return self._since + (moment - self._since) * self._pace

    def to_host(self, moment: float) -> float:
        return self._since + (moment - self._since) / self._pace


def cluster_clock(record: ClusterRecord) -> SystemClock:
    """The clock of the cluster that has this record."""
    pace = record.get("time_scale", 1)
    return FastClock(record.get("since", 0.0), pace) if pace > 1 else SystemClock()

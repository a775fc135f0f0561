"""What pods and the machine use, measured at intervals: the source of metrics.k8s.io, `kubectl top` and autoscaling.

CPU is a counter, so its use is a rate between two samples (`Meter` keeps the last two); memory is the working set of
the newer one. A container that was not in both samples has no rate yet and is left out, as metrics-server does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from podling.clock import SystemClock
from podling.sandbox.cgroups import Usage

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between samples, of the cluster;"""
SHORTEST_INTERVAL = 1.0
"""of the machine: a rate over less would be noise."""


class ContainerKey(NamedTuple):
    """One run of a container: a restart begins a new counter."""

    namespace: str
    pod: str
    container: str
    run: str


@dataclass(frozen=True, slots=True)
class Sample:
    """All counters at one moment (Unix seconds)."""

    taken_at: float
    containers: Mapping[ContainerKey, Usage]
    machine_cpu_nanoseconds: int
    machine_memory_bytes: int


class Measured(NamedTuple):
    cpu_nanocores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class PodMetrics:
    namespace: str
    name: str
    containers: Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of one node. `window` is the time in seconds over which CPU was averaged, up to `taken_at`."""

    taken_at: float
    window: float
    pods: Sequence[PodMetrics]
    machine: Measured
    """What the node uses: its pods, and its part of what the machine does besides (see `share`)."""


class Used(NamedTuple):
    """Of a node: CPU time since its kubelet was started, and memory."""

    cpu_nanoseconds: int
    memory_bytes: int


def share(machine: Measured, pods: Sequence[PodMetrics], neighbours: Sequence[Sequence[PodMetrics]]) -> Measured:
    """What a node uses of a machine that it shares: its own pods, and an equal part of what is no pod's."""
    own, others = _total(pods), [_total(theirs) for theirs in neighbours]
    cpu = _part(machine.cpu_nanocores, own.cpu_nanocores, [other.cpu_nanocores for other in others])
    memory = _part(machine.memory_bytes, own.memory_bytes, [other.memory_bytes for other in others])
    return Measured(cpu, memory)


def _part(whole: int, own: int, others: Sequence[int]) -> int:
    return own + max(0, whole - own - sum(others)) // (1 + len(others))


def _total(pods: Sequence[PodMetrics]) -> Measured:
    measured = [container for pod in pods for container in pod.containers.values()]
    return Measured(sum(m.cpu_nanocores for m in measured), sum(m.memory_bytes for m in measured))


def metrics_between(before: Sample, after: Sample, neighbours: Sequence[Sequence[PodMetrics]] = ()) -> Metrics | None:
    """Pure; `None` when no time has passed."""
    window = after.taken_at - before.taken_at
    if window <= 0:
        return None
    pods: dict[tuple[str, str], dict[str, Measured]] = {}
    for key, usage in after.containers.items():
        earlier = before.containers.get(key)
        if earlier is not None:
            rate = _rate(earlier["cpu_nanoseconds"], usage["cpu_nanoseconds"], window)
            measured = Measured(rate, usage["memory_working_set_bytes"])
            pods.setdefault((key.namespace, key.pod), {})[key.container] = measured
    machine = _rate(before.machine_cpu_nanoseconds, after.machine_cpu_nanoseconds, window)
    listed = [PodMetrics(namespace, name, found) for (namespace, name), found in sorted(pods.items())]
    used = share(Measured(machine, after.machine_memory_bytes), listed, neighbours)
    return Metrics(after.taken_at, window, listed, used)


def _rate(before: int, after: int, window: float) -> int:
    return max(0, round((after - before) / window))


def machine_usage(proc: Path = Path("/proc")) -> tuple[int, int]:
    """CPU time in nanoseconds since the machine's start, and memory in use in bytes, of the whole machine."""
    words = [int(word) for word in (proc / "stat").read_text().splitlines()[0].split()[1:9]]
    idle = words[3] + words[4]
    ticks = sum(words) - idle
    memory = dict(_meminfo_line(line) for line in (proc / "meminfo").read_text().splitlines())
    used = memory["MemTotal"] - memory.get("MemAvailable", memory["MemFree"])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"), used * 1024


def _meminfo_line(line: str) -> tuple[str, int]:
    name, _, rest = line.partition(":")
    return name, int(rest.split()[0])


class Meter:
    """Takes a sample every `INTERVAL`. `measure` gives one of all containers of the node."""

    def __init__(
        self,
        measure: Callable[[], Awaitable[Mapping[ContainerKey, Usage]]],
        neighbours: Callable[[], Sequence[Sequence[PodMetrics]]],
        clock: SystemClock,
    ) -> None:
        self._measure = measure
        self._neighbours = neighbours
        self._clock = clock
        self._newest: Sample | None = None
        self._metrics: Metrics | None = None
        self._task: asyncio.Task[None] | None = None
        self.used = Used(0, 0)

    @property
    def metrics(self) -> Metrics | None:
        """The latest; `None` until there have been two samples."""
        return self._metrics

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def take(self) -> None:
        """One sample more."""
        containers = await self._measure()
        sample = Sample(self._clock.host(), containers, *machine_usage())
        found = metrics_between(self._newest, sample, self._neighbours()) if self._newest is not None else None
        if found is not None:
            cpu = self.used.cpu_nanoseconds + round(found.machine.cpu_nanocores * found.window)
            self._metrics, self.used = self._in_cluster_time(found), Used(cpu, found.machine.memory_bytes)
        self._newest = sample

    def _in_cluster_time(self, metrics: Metrics) -> Metrics:
        """A rate is what programs get of the machine; autoscalers compare moment and window with their pods' times."""
        taken_at, window = self._clock.of_host(metrics.taken_at), metrics.window * self._clock.pace
        return replace(metrics, taken_at=taken_at, window=window)

    async def _run(self) -> None:
        while True:
            try:
                await self.take()
            except (OSError, ValueError) as error:
                log.warning("usage of pods: %s", error)
            await asyncio.sleep(max(SHORTEST_INTERVAL, INTERVAL / self._clock.pace))

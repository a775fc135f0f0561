"""What one container of a workload used, over all its pods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from podling.controllers.vpa.histogram import CPU, MEMORY, Histogram

LIGHTEST_SAMPLE = 0.1
"""CPU samples weigh as much as the container requests, in cores: a bigger container tells more; at least this."""
PEAK_INTERVAL = 24 * 3600.0
"""Of memory only the peak of each such interval counts: once out of memory is too often."""
SAMPLES_IN_A_DAY = 24 * 60
OOM_BUMP_RATIO = 1.2
OOM_BUMP_BYTES = 100 * 1024 * 1024
"""Who ran out of memory needs this much more than it used or requested, whichever bump is greater."""


class ContainerUse(NamedTuple):
    """What a container used at a time (Unix seconds): cores and bytes."""

    pod: str
    container: str
    at: float
    cores: float
    memory: float


class Measure(Protocol):
    """The newest readings of what containers use."""

    def containers(self, namespace: str) -> Iterable[ContainerUse]: ...


class NoMeasure:
    """A cluster without any metrics pipeline."""

    def containers(self, namespace: str) -> Iterable[ContainerUse]:
        return ()


@dataclass(slots=True)
class Peak:
    """The memory peak of one pod's container in its present interval."""

    bytes: float
    ends: float
    used: float = 0.0
    """Without what being out of memory added."""


@dataclass(slots=True)
class History:
    """Times are Unix seconds."""

    cpu: Histogram = field(default_factory=lambda: Histogram(CPU))
    memory: Histogram = field(default_factory=lambda: Histogram(MEMORY))
    first: float = 0.0
    last: float = 0.0
    samples: int = 0
    peaks: dict[str, Peak] = field(default_factory=dict[str, Peak])
    """By pod uid."""
    seen: dict[str, float] = field(default_factory=dict[str, float])
    """When the newest sample of each pod was taken: one is counted once."""
    ooms: dict[str, float] = field(default_factory=dict[str, float])
    """When each pod ran out of memory last: that counts once, too."""
    known_until: float = 0.0
    """What happened until then is in it already: it comes from a checkpoint."""

    def add(self, pod: str, at: float, *, cores: float, memory: float, requested_cores: float) -> None:
        """A sample of one pod; ignored unless it is newer than the last one."""
        if at <= self.seen.get(pod, 0.0):
            return
        self.seen[pod] = at
        self.cpu.add(cores, max(requested_cores, LIGHTEST_SAMPLE), at)
        self._add_memory(pod, at, memory)
        self.first = self.first or at
        self.last = max(self.last, at)
        self.samples += 1

    def _add_memory(self, pod: str, at: float, memory: float) -> None:
        self._add_peak(pod, at, memory)
        peak = self.peaks[pod]
        peak.used = max(peak.used, memory)

    def _add_peak(self, pod: str, at: float, memory: float) -> None:
        peak = self.peaks.get(pod)
        if peak is not None and at < peak.ends:
            if memory <= peak.bytes:
                return
            self.memory.subtract(peak.bytes, 1.0, peak.ends)
        else:
            begun = peak.ends if peak is not None else at
            intervals = (at - begun) // PEAK_INTERVAL + 1
            peak = self.peaks[pod] = Peak(memory, begun + intervals * PEAK_INTERVAL)
        peak.bytes = memory
        self.memory.add(memory, 1.0, peak.ends)

    def out_of_memory(self, pod: str, at: float, requested: float) -> None:
        """A pod's container ended for lack of memory; `requested` are bytes."""
        peak = self.peaks.get(pod)
        if at <= max(self.ooms.get(pod, 0.0), self.known_until):
            return
        self.ooms[pod] = at
        if peak is not None and at < peak.ends - PEAK_INTERVAL:
            return
        used = max(requested, peak.used if peak is not None else 0.0)
        self._add_peak(pod, at, max(used + OOM_BUMP_BYTES, used * OOM_BUMP_RATIO))

    def keep(self, pods: set[str]) -> None:
        """Only these are still there; what the others used stays in the history."""
        for kept in (self.peaks, self.seen, self.ooms):
            for pod in kept.keys() - pods:
                del kept[pod]

    @property
    def confidence(self) -> float:
        """In days: how long was measured, or how much would have been in that time, whichever is less."""
        return min((self.last - self.first) / 86400, self.samples / SAMPLES_IN_A_DAY)

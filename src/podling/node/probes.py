"""Probes over time: when each is made, and what a run of results means.

A `Prober` belongs to one run of one container and drives up to three probes by timers of the event loop; between two
checks it costs a timer and nothing else. `Count` holds the thresholds, pure. Rules: the kubelet's prober worker.

A probe without an initial delay is first counted one period after the start, as with a kubelet, whose ticks begin
before the container does. Beyond the kubelet: until a readiness or startup probe has succeeded once, it is also tried
between its periods, at once and then ever less often. Such a try can only report success. So a pod that listens after
80 ms is ready after about 100 ms, also with `periodSeconds: 10`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from podling.node.checks import Outcome, Verdict
from podling.store.types import Object

Kind = Literal["startup", "readiness", "liveness"]
KINDS: tuple[Kind, ...] = ("startup", "readiness", "liveness")
_TITLES = {"startup": "Startup", "readiness": "Readiness", "liveness": "Liveness"}

FIRST_PAUSE = 0.02
FIRST_PAUSE_EXEC = 0.1
PAUSE_GROWTH = 1.5
"""Seconds until the first try between periods (a command costs more than a connection), and how pauses grow."""

Check = Callable[[Object], Awaitable[Outcome]]
"""Carries out one probe (the object in the spec); bounded by the probe's own timeout."""


@dataclass(slots=True)
class Count:
    """Consecutive equal results against the thresholds of a probe."""

    success_threshold: int = 1
    failure_threshold: int = 3
    last: bool | None = None
    run: int = 0

    def add(self, success: bool) -> bool | None:
        """The new state of the probe when this result decides it, else `None`."""
        self.run = self.run + 1 if success is self.last else 1
        self.last = success
        threshold = self.success_threshold if success else self.failure_threshold
        return success if self.run >= threshold else None


class Note(NamedTuple):
    """An event to be told about a container."""

    reason: str
    message: str


def note_of(kind: Kind, outcome: Outcome) -> Note | None:
    """The kubelet's event about one check; `None` for a plain success."""
    match outcome.verdict:
        case Verdict.SUCCESS:
            return None
        case Verdict.WARNING:
            return Note("ProbeWarning", f"{_TITLES[kind]} probe warning: {outcome.output}")
        case Verdict.FAILURE:
            return Note("Unhealthy", f"{_TITLES[kind]} probe failed: {outcome.output}")
        case Verdict.UNKNOWN:
            return Note("Unhealthy", f"{_TITLES[kind]} probe errored and resulted in unknown state: {outcome.output}")


class Prober:
    """The probes of one run of a container.

    `report(kind, healthy)` is called when a probe's state is decided anew; `tell(note)` for each event.
    """

    def __init__(
        self,
        container: Object,
        check: Check,
        *,
        report: Callable[[Kind, bool], None],
        tell: Callable[[Note], None],
        age: float = 0.0,
        started: bool = False,
        ready: bool = False,
    ) -> None:
        """`age`: seconds since the container's start; `started`, `ready`: what was known before, of an adopted one."""
        self._check = check
        self._report = report
        self._tell = tell
        self._age = age
        self._started = started or "startupProbe" not in container
        self._ready = ready
        self._probes: dict[Kind, Object] = {
            kind: container[f"{kind}Probe"] for kind in KINDS if container.get(f"{kind}Probe")
        }
        self._tasks: dict[Kind, asyncio.Task[None]] = {}
        self._decided: dict[Kind, bool] = {}

    def start(self) -> None:
        kinds: Iterable[Kind] = ("readiness", "liveness") if self._started else ("startup",)
        for kind in kinds:
            if kind in self._probes and kind not in self._tasks:
                self._tasks[kind] = _spawn(self._drive(kind, self._probes[kind]))

    def stop(self, *kinds: Kind) -> None:
        """Ends the given probes, or all."""
        for kind in kinds or KINDS:
            task = self._tasks.get(kind)
            if task is not None:
                task.cancel()

    async def _drive(self, kind: Kind, probe: Object) -> None:
        """Checks once a period until the container's fate is decided."""
        loop = asyncio.get_running_loop()
        count = Count(probe.get("successThreshold", 1), probe.get("failureThreshold", 3))
        period = float(probe.get("periodSeconds", 10))
        delay = float(probe.get("initialDelaySeconds", 0))
        await asyncio.sleep(max(0.0, delay - self._age))
        tick = loop.time() + (0.0 if delay else period)
        eager = kind == "startup" or (kind == "readiness" and not self._ready)
        pauses = _growing_pauses(probe) if eager else iter(())
        while True:
            if await self._succeeds_before(tick, probe, pauses):
                pauses = iter(())
                if self._counted(kind, Outcome(Verdict.SUCCESS), count):
                    return
            await asyncio.sleep(tick - loop.time())
            outcome = await self._check(probe)
            if self._counted(kind, outcome, count):
                return
            if outcome.verdict in (Verdict.SUCCESS, Verdict.WARNING):
                pauses = iter(())
            tick = max(tick + period, loop.time())

    async def _succeeds_before(self, deadline: float, probe: Object, pauses: Iterator[float]) -> bool:
        """Tries between periods; failures are kept to itself."""
        loop = asyncio.get_running_loop()
        for pause in pauses:
            if loop.time() + pause >= deadline:
                return False
            await asyncio.sleep(pause)
            outcome = await self._check(probe)
            if outcome.verdict in (Verdict.SUCCESS, Verdict.WARNING):
                return True
        return False

    def _counted(self, kind: Kind, outcome: Outcome, count: Count) -> bool:
        """Tells and counts one result; `True` when this probe is to be made no more."""
        note = note_of(kind, outcome)
        if note is not None:
            self._tell(note)
        if outcome.verdict is Verdict.UNKNOWN:
            return False
        decided = count.add(outcome.verdict is not Verdict.FAILURE)
        if decided is None:
            return False
        if self._decided.get(kind) is not decided:
            self._decided[kind] = decided
            self._report(kind, decided)
        if kind == "startup" and decided:
            self._started = True
            self.start()
        return kind == "startup" or (kind == "liveness" and not decided)


def _growing_pauses(probe: Object) -> Iterator[float]:
    pause = FIRST_PAUSE_EXEC if "exec" in probe else FIRST_PAUSE
    while True:
        yield pause
        pause *= PAUSE_GROWTH


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_swallow_cancel)
    return task


def _swallow_cancel(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        task.result()

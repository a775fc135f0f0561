"""Metrics of pods' own, from their Prometheus endpoints: what `prometheus-adapter` and Prometheus do together.

Nothing is asked of a pod unless somebody asks for a metric of it. Who asks (an autoscaler does every 15 s) makes an
*interest*: for a minute the pods that it means are scraped every few seconds, and of what they tell only the series
that were asked for are kept. The last interest gone, the scraping ends.

Names follow prometheus-adapter's rules. A counter answers as its rate per second, summed over its series:
`http_requests_total` under `http_requests_per_second`, `http_requests` and its own name, `x_seconds_total` as `x` too.
Everything else answers as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from podling.api import meta
from podling.api.resources import Reader
from podling.api.selectors import LabelSelector
from podling.metrics import exposition, scraping
from podling.metrics.exposition import Exposition, Labels
from podling.metrics.scraping import ScrapeFailed, Target
from podling.store.types import Object

_log = logging.getLogger(__name__)

PERIOD: Final = 5.0
"""Seconds from one scrape to the next."""
WINDOW: Final = 30.0
"""Seconds over which a rate is taken."""
REMEMBERED: Final = 60.0
"""Seconds for which an interest lasts."""
MOST: Final = 200
"""Interests at a time; the oldest gives way."""
_STALE: Final = 3 * PERIOD
_AT_ONCE: Final = 8

Scrape = Callable[[Target], Awaitable[str]]


class Interest(NamedTuple):
    """The pods of a namespace that `selector` picks (or one of them), and one metric."""

    namespace: str
    selector: LabelSelector
    metric: str
    pod: str = ""


class Value(NamedTuple):
    """Of one series of one pod."""

    pod: Object
    labels: Labels
    value: float
    at: float
    """Unix seconds."""
    window: float | None
    """The seconds over which a rate was taken; `None` for what is no rate."""


@dataclass(slots=True)
class _Track:
    """One series of one pod over the last window."""

    is_counter: bool
    points: deque[tuple[float, float]] = field(default_factory=deque[tuple[float, float]])

    def add(self, at: float, value: float) -> None:
        self.points.append((at, value))
        while self.points[0][0] < at - WINDOW - PERIOD / 2:
            self.points.popleft()

    @property
    def last(self) -> float:
        return self.points[-1][0]

    def now(self) -> tuple[float, float | None] | None:
        """The value, or for a counter its rate and the time it was taken over; `None` before that can be told."""
        (first, before), (last, value) = self.points[0], self.points[-1]
        if not self.is_counter:
            return value, None
        if last <= first:
            return None
        grown = 0.0
        for _, after in list(self.points)[1:]:
            grown += after - before if after >= before else after  # one that fell began anew
            before = after
        return grown / (last - first), last - first


@dataclass(slots=True)
class _Followed:
    """A pod that is scraped."""

    pod: Object
    target: Target
    names: frozenset[str] = frozenset()
    seen: frozenset[str] = frozenset()
    """The names that the last scrape looked for."""
    at: float = 0.0
    """When that was."""
    problem: str = ""
    """Why the last scrape came to nothing."""
    counters: frozenset[str] = frozenset()
    tracks: dict[tuple[str, Labels], _Track] = field(default_factory=dict[tuple[str, Labels], _Track])

    def add(self, told: Exposition, at: float) -> None:
        for series in told.series:
            track = self.tracks.get((series.name, series.labels))
            if track is None:
                track = self.tracks[series.name, series.labels] = _Track(series.is_counter)
                if series.is_counter and series.name in self.seen:
                    track.add(self.at, 0.0)  # it was not there then: it counted nothing
            track.add(at, series.value)
        self.tracks = {key: t for key, t in self.tracks.items() if t.last > at - WINDOW}
        self.seen, self.at, self.counters = self.names, at, told.counters

    def failed(self, problem: str) -> None:
        if problem != self.problem:
            _log.info("no metrics of pod %s/%s: %s", meta.namespace(self.pod), meta.name(self.pod), problem)
        self.problem = problem

    def values(self, metric: str, now: float) -> Iterator[Value]:
        """Of the first name under which the metric is known here."""
        if self.at < now - _STALE:
            return
        names = candidates(metric)
        for name in names:
            tracks = [(labels, t) for (of, labels), t in self.tracks.items() if of == name and t.last == self.at]
            if name != metric:
                tracks = [(labels, track) for labels, track in tracks if track.is_counter]
            if tracks:
                yield from self._told(tracks)
                return
        if self.counters.intersection(names):
            yield Value(self.pod, (), 0.0, self.at, PERIOD)

    def _told(self, tracks: Sequence[tuple[Labels, _Track]]) -> Iterator[Value]:
        for labels, track in tracks:
            told = track.now()
            if told is not None:
                yield Value(self.pod, labels, told[0], self.at, told[1])


def candidates(metric: str) -> Sequence[str]:
    """The series that a metric may mean, the likeliest first."""
    names = [metric, f"{metric}_total", f"{metric}_seconds_total"]
    base = metric.removesuffix("_per_second")
    if base != metric and base:
        names += [f"{base}_total", base]
    return names


class Adapter:
    """Follows pods for those who ask. `clock` tells Unix seconds."""

    def __init__(self, reader: Reader, clock: Callable[[], float], scrape: Scrape = scraping.scrape) -> None:
        self._reader = reader
        self._clock = clock
        self._scrape = scrape
        self._interests: dict[Interest, float] = {}
        self._followed: dict[str, _Followed] = {}
        self._rounds: asyncio.Task[None] | None = None

    async def ask(self, interest: Interest) -> list[Value]:
        """What is known of a metric now; the first who asks waits for the first scrape."""
        self._interests.pop(interest, None)
        self._interests[interest] = self._clock()
        if len(self._interests) > MOST:
            del self._interests[next(iter(self._interests))]
        self._follow()
        mine = [self._followed[meta.uid(pod)] for pod in self._pods(interest) if meta.uid(pod) in self._followed]
        await self._look(followed for followed in mine if followed.names - followed.seen)
        if self._rounds is None:
            self._rounds = asyncio.get_running_loop().create_task(self._go_on())
        now = self._clock()
        return [value for followed in mine for value in followed.values(interest.metric, now)]

    def metrics(self) -> Sequence[Interest]:
        """What is asked for at this moment."""
        return tuple(self._interests)

    async def close(self) -> None:
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait([self._rounds])

    async def round(self) -> None:
        """Scrapes whoever is meant by what is asked for."""
        self._follow()
        await self._look(self._followed.values())

    async def _go_on(self) -> None:
        try:
            while self._interests:
                await asyncio.sleep(PERIOD)
                await self.round()
        except Exception:  # noqa: BLE001  its supervisor: whoever asks next begins anew
            _log.exception("scraping ended")
        finally:
            self._rounds = None

    def _follow(self) -> None:
        """Forgets old interests, and follows exactly the pods that the others mean."""
        now = self._clock()
        self._interests = {interest: at for interest, at in self._interests.items() if at > now - REMEMBERED}
        names: dict[str, set[str]] = {}
        pods: dict[str, tuple[Object, Target]] = {}
        for interest in self._interests:
            for pod in self._pods(interest):
                target = scraping.target_of(pod)
                if target is not None:
                    names.setdefault(meta.uid(pod), set()).update(candidates(interest.metric))
                    pods[meta.uid(pod)] = pod, target
        self._followed = {uid: self._follow_pod(uid, *pods[uid], names[uid]) for uid in pods}

    def _follow_pod(self, uid: str, pod: Object, target: Target, names: Iterable[str]) -> _Followed:
        followed = self._followed.get(uid) or _Followed(pod, target)
        followed.pod, followed.target, followed.names = pod, target, frozenset(names)
        return followed

    def _pods(self, interest: Interest) -> Iterator[Object]:
        for pod in self._reader.list("pods", interest.namespace):
            if interest.pod in ("", meta.name(pod)) and interest.selector.matches(meta.labels(pod)):
                yield pod

    async def _look(self, those: Iterable[_Followed]) -> None:
        room = asyncio.Semaphore(_AT_ONCE)

        async def look(followed: _Followed) -> None:
            async with room:
                try:
                    text = await self._scrape(followed.target)
                except ScrapeFailed as error:
                    followed.failed(str(error))
                    return
            followed.problem = ""
            followed.add(exposition.parse(text, followed.names), self._clock())

        await asyncio.gather(*map(look, list(those)))

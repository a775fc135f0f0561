"""In which order pods are tried, and when a pod that could not be placed is tried again.

Three places: *ready* (by priority, then by age), *backing off* (tried lately: 1 s, doubling up to 10 s), and
*waiting* for a change in the cluster that could help. A change wakes only pods whose rejecting plugins care about
that kind of change; after five minutes everything is tried once more. The queue knows keys, not the time of day:
`now` is a parameter, in seconds of any clock that only moves forward.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from podling.controllers.runtime import ObjectKey

BACKOFF_FIRST = 1.0
BACKOFF_LAST = 10.0
FLUSH_AFTER = 300.0


class Happening(Enum):
    """What can happen in the cluster that may help a waiting pod."""

    NODE = auto()
    """A node came, or its labels, taints, resources or schedulability changed."""
    POD_GONE = auto()
    """An assigned pod ended."""
    POD_PLACED = auto()
    """A pod was assigned, or an assigned pod's labels changed."""
    STORAGE = auto()
    """A claim, volume or storage class changed."""
    NAMESPACE = auto()


NO_NODES = frozenset({"NoNodes"})
"""The rejection where there is no node at all. It does not count as an attempt: the pods that a cluster starts with
shall not back off only because its node comes a moment later."""

CARES: Mapping[str, frozenset[Happening]] = {
    "NoNodes": frozenset({Happening.NODE}),
    "NodeUnschedulable": frozenset({Happening.NODE}),
    "TaintToleration": frozenset({Happening.NODE}),
    "NodeAffinity": frozenset({Happening.NODE}),
    "NodePorts": frozenset({Happening.NODE, Happening.POD_GONE}),
    "NodeResourcesFit": frozenset({Happening.NODE, Happening.POD_GONE}),
    "VolumeRestrictions": frozenset({Happening.NODE, Happening.POD_GONE, Happening.STORAGE}),
    "VolumeBinding": frozenset({Happening.NODE, Happening.STORAGE}),
    "PodTopologySpread": frozenset({Happening.NODE, Happening.POD_GONE, Happening.POD_PLACED}),
    "InterPodAffinity": frozenset({Happening.NODE, Happening.POD_GONE, Happening.POD_PLACED, Happening.NAMESPACE}),
}


def backoff(attempts: int) -> float:
    """Seconds after so many attempts."""
    return 0.0 if attempts == 0 else min(BACKOFF_FIRST * 2.0 ** (attempts - 1), BACKOFF_LAST)


@dataclass(slots=True)
class _Queued:
    key: ObjectKey
    priority: int
    since: float
    attempts: int = 0
    tried: float = 0.0
    plugins: frozenset[str] = field(default_factory=frozenset[str])
    """Who rejected it at the last attempt; empty: an error, any change helps."""
    woken: bool = False
    """Something that may help happened during the attempt."""


class SchedulingQueue:
    def __init__(self) -> None:
        self._ready: list[tuple[int, float, int, ObjectKey]] = []
        self._backing_off: list[tuple[float, int, ObjectKey]] = []
        self._items: dict[ObjectKey, _Queued] = {}
        self._waiting: dict[ObjectKey, _Queued] = {}
        self._trying: dict[ObjectKey, _Queued] = {}
        self._numbers = itertools.count()

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._items

    def add(self, key: ObjectKey, priority: int, now: float) -> None:
        """A pod that wants a node; one that is known already gets another try."""
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Queued(key, priority, now)
        elif key in self._trying:
            item.woken = True
            return
        elif key not in self._waiting:
            return
        item.priority = priority
        self._waiting.pop(key, None)
        self._push(item)

    def remove(self, key: ObjectKey) -> None:
        self._items.pop(key, None)
        self._waiting.pop(key, None)
        self._trying.pop(key, None)

    def _push(self, item: _Queued) -> None:
        heapq.heappush(self._ready, (-item.priority, item.since, next(self._numbers), item.key))

    def pop(self, now: float) -> ObjectKey | None:
        """The next pod to try, or `None`. It stays known until `remove`d or given back."""
        self._end_backoffs(now)
        while self._ready:
            *_, key = heapq.heappop(self._ready)
            item = self._items.get(key)
            if item is not None and key not in self._trying and key not in self._waiting:
                item.attempts += 1
                item.tried, item.woken = now, False
                self._trying[key] = item
                return key
        return None

    def give_back(self, key: ObjectKey, plugins: frozenset[str], now: float) -> None:
        """The try failed; with no plugins it was an error, and time alone may help."""
        item = self._trying.pop(key, None)
        if item is None or key not in self._items:
            return
        item.plugins = plugins
        if plugins == NO_NODES:
            item.attempts = 0
        if item.woken or not plugins:
            self._back_off(item)
        else:
            self._waiting[key] = item

    def _back_off(self, item: _Queued) -> None:
        due = item.tried + backoff(item.attempts)
        heapq.heappush(self._backing_off, (due, next(self._numbers), item.key))

    def happened(self, happening: Happening, now: float) -> None:
        """Wakes the waiting pods that this may help."""
        for item in self._trying.values():
            item.woken = True
        for key, item in list(self._waiting.items()):
            if any(happening in CARES.get(plugin, frozenset()) for plugin in item.plugins):
                self._wake(key, item, now)

    def _wake(self, key: ObjectKey, item: _Queued, now: float) -> None:
        del self._waiting[key]
        if item.tried + backoff(item.attempts) <= now:
            self._push(item)
        else:
            self._back_off(item)

    def _end_backoffs(self, now: float) -> None:
        for key, item in list(self._waiting.items()):
            if item.tried + FLUSH_AFTER <= now:
                self._wake(key, item, now)
        while self._backing_off and self._backing_off[0][0] <= now:
            *_, key = heapq.heappop(self._backing_off)
            item = self._items.get(key)
            if item is not None:
                self._push(item)

    def next_due(self) -> float | None:
        """When a pod becomes ready by time alone; `None` if no pod waits."""
        dues = [self._backing_off[0][0]] if self._backing_off else []
        dues += [item.tried + FLUSH_AFTER for item in self._waiting.values()]
        return min(dues, default=None)

"""How many replicas one metric asks for: pure arithmetic on samples, in floats as Kubernetes does it.

Source: "Horizontal Pod Autoscaling", algorithm details; pkg/controller/podautoscaler, `ReplicaCalculator`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from podling.api import meta
from podling.api.podresources import amounts, pod_requests
from podling.controllers import pods as podlib
from podling.controllers.hpa.metrics import MetricsUnavailable, Sample
from podling.store.types import Object

TOLERANCE = 0.1
INITIALIZATION = timedelta(minutes=5)
"""After its start, in which a pod's cpu samples only count if it is ready."""
READINESS_DELAY = timedelta(seconds=30)
"""After its start, in which a pod that became unready was never really ready."""
MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Tolerances:
    up: float = TOLERANCE
    down: float = TOLERANCE

    def near(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Groups:
    """Pods by what their samples are worth."""

    measured: Mapping[str, int]
    missing: frozenset[str]
    unready: frozenset[str]


def group(pods: Sequence[Object], samples: Mapping[str, Sample], resource: str | None, now: datetime) -> Groups:
    """Sorts pods: those that count, those without a sample, and those that are not ready yet."""
    measured: dict[str, int] = {}
    missing: set[str] = set()
    unready: set[str] = set()
    for pod in pods:
        name = meta.name(pod)
        if meta.deleting(pod) or podlib.phase(pod) == "Failed":
            continue
        sample = samples.get(name)
        if podlib.phase(pod) == "Pending":
            unready.add(name)
        elif sample is None:
            missing.add(name)
        elif resource == "cpu" and not _counts(pod, sample, now):
            unready.add(name)
        else:
            measured[name] = sample.milli
    return Groups(measured, frozenset(missing), frozenset(unready))


def _counts(pod: Object, sample: Sample, now: datetime) -> bool:
    """Whether a cpu sample shows the pod at work, not at its start."""
    condition, started = meta.condition(pod, "Ready"), meta.status(pod).get("startTime")
    if condition is None or not started:
        return False
    start, since = meta.parse_time(started), meta.parse_time(condition.get("lastTransitionTime") or started)
    ready = condition["status"] != "False"
    if start + INITIALIZATION > now:
        return ready and sample.at >= since + timedelta(seconds=sample.window)
    return ready or start + READINESS_DELAY <= since


class Use(NamedTuple):
    """Of some pods together."""

    ratio: float
    """To the target; 1 is just right."""
    average: int
    """Thousandths for each pod."""
    percent: int | None = None
    """Of what they request."""


class Goal(Protocol):
    """What a metric should be for each pod."""

    def use(self, values: Mapping[str, int]) -> Use:
        """Raises `MetricsUnavailable`."""
        ...

    def full(self, pod: str) -> int:
        """What a pod without a sample is taken to use when there seem to be too many pods."""
        ...


@dataclass(frozen=True, slots=True)
class AverageValue:
    """So many thousandths for each pod."""

    target: int

    def use(self, values: Mapping[str, int]) -> Use:
        average = sum(values.values()) // len(values)
        return Use(average / self.target, average)

    def full(self, pod: str) -> int:
        return self.target


@dataclass(frozen=True, slots=True)
class Utilization:
    """So many per cent of what each pod requests (in thousandths); counted in whole per cents."""

    requests: Mapping[str, int]
    target: int

    def use(self, values: Mapping[str, int]) -> Use:
        requested = sum(self.requests[pod] for pod in values)
        if not requested:
            raise MetricsUnavailable("no metrics returned matched known pods")
        used = sum(values.values())
        percent = used * 100 // requested
        return Use(percent / self.target, used // len(values), percent)

    def full(self, pod: str) -> int:
        return self.requests[pod] * max(100, self.target) // 100


def wanted(current: int, groups: Groups, goal: Goal, tolerances: Tolerances) -> tuple[int, Use]:
    """The replicas for which the average would be the goal, and the present use.

    Pods without a sample count so that they never cause a change: fully used when scaling down, unused when scaling
    up; pods that are not ready yet count as unused when scaling up. Raises `MetricsUnavailable`.
    """
    use = goal.use(groups.measured)
    ratio = use.ratio
    with_unready = bool(groups.unready) and ratio > 1
    if not with_unready and not groups.missing:
        return (current if tolerances.near(ratio) else replicas(ratio, len(groups.measured))), use
    filled = dict(groups.measured)
    if ratio != 1:
        filled |= {pod: goal.full(pod) if ratio < 1 else 0 for pod in groups.missing}
    if with_unready:
        filled |= dict.fromkeys(groups.unready, 0)
    new = goal.use(filled).ratio
    size = replicas(new, len(filled))
    if tolerances.near(new) or _turned(ratio, new) or (new < 1 and size > current) or (new > 1 and size < current):
        return current, use
    return size, use


def _turned(old: float, new: float) -> bool:
    return (old < 1 < new) or (old > 1 > new)


def replicas(ratio: float, pods: int) -> int:
    return min(math.ceil(ratio * pods), MOST)


def by_total(current: int, ready: int, value: int, target: int, tolerances: Tolerances) -> int:
    """The replicas for one value (in thousandths) that all pods share, of which `ready` ones do the work."""
    ratio = value / target
    if not current:
        return replicas(ratio, 1)
    return current if tolerances.near(ratio) else replicas(ratio, ready)


def by_share(present: int, value: int, target: int, tolerances: Tolerances) -> int:
    """The replicas for which each one's share of the value is the target."""
    if present and tolerances.near(value / (target * present)):
        return present
    return replicas(value / target, 1)


def requested(pods: Sequence[Object], resource: str, container: str | None) -> dict[str, int]:
    """What each pod (or its container) requests, in thousandths. Raises `MetricsUnavailable` if one requests nothing.

    Requests of the pod as a whole come before those of its containers (KEP-2837).
    """
    return {meta.name(pod): _request(pod, resource, container) for pod in pods}


def _request(pod: Object, resource: str, container: str | None) -> int:
    of_pod = meta.part(pod, "spec", "resources", "requests")
    if of_pod and container is None:
        if resource not in of_pod:
            raise MetricsUnavailable(f"missing pod-level request for {resource} in Pod {meta.name(pod)}")
        return pod_requests(pod)[resource] // 10**6
    running = [*meta.items(pod, "spec", "containers"), *podlib.sidecars(pod)]
    found = [c for c in running if container in (None, c["name"])]
    if not found:
        raise MetricsUnavailable(f"container {container} not found in Pod {meta.name(pod)}")
    total = 0
    for one in found:
        own = amounts(meta.part(one, "resources", "requests"))
        if resource not in own:
            where = f"container {one['name']} of Pod {meta.name(pod)}"
            raise MetricsUnavailable(f"missing request for {resource} in {where}")
        total += own[resource] // 10**6
    return total

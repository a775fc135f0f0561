"""How many replicas one metric asks for: pure arithmetic on samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from podling.api import meta
from podling.api.podresources import amounts, pod_requests
from podling.controllers import pods as podlib
from podling.controllers.hpa.metrics import MetricsUnavailable, Sample
from podling.store.types import Object

TOLERANCE = Fraction(1, 10)
INITIALIZATION = 300.0
"""Seconds after its start in which a pod's cpu samples only count if it is ready."""
READINESS_DELAY = 30.0
"""Seconds after its start in which a pod that became unready was never really ready."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    up: Fraction = TOLERANCE
    down: Fraction = TOLERANCE

    def near(self, ratio: Fraction) -> bool:
        return 1 - self.down <= ratio <= 1 + self.up


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
    ready = condition["status"] == "True"
    if start + timedelta(seconds=INITIALIZATION) > now:
        return ready and sample.at >= since + timedelta(seconds=sample.window)
    return ready or start + timedelta(seconds=READINESS_DELAY) <= since


def wanted(current: int, groups: Groups, target: Mapping[str, int] | int, tolerances: Tolerances) -> int:
    """The replicas for which the average would be the target.

    `target` is the value per pod; a mapping gives it for each pod (its share of what it requests). Pods without a
    sample count so that they never cause a change: fully used when scaling down, unused when scaling up; pods that
    are not ready yet count as unused when scaling up.
    """
    if not groups.measured:
        raise MetricsUnavailable("did not receive metrics for targeted pods (pods might be unready)")
    ratio = _ratio(groups.measured, target)
    fill_unready = bool(groups.unready) and ratio > 1
    if not fill_unready and not groups.missing:
        if tolerances.near(ratio):
            return current
        return math.ceil(ratio * len(groups.measured))
    filled = dict(groups.measured)
    for name in groups.missing:
        filled[name] = _of(target, name) if ratio < 1 else 0
    if fill_unready:
        filled |= dict.fromkeys(groups.unready, 0)
    new = _ratio(filled, target)
    if tolerances.near(new) or (ratio < 1 < new) or (ratio > 1 > new):
        return current
    count = math.ceil(new * len(filled))
    if (new < 1 and count > current) or (new > 1 and count < current):
        return current
    return count


def _of(target: Mapping[str, int] | int, name: str) -> int:
    return target if isinstance(target, int) else target[name]


def _ratio(values: Mapping[str, int], target: Mapping[str, int] | int) -> Fraction:
    total = sum(_of(target, name) for name in values)
    return Fraction(sum(values.values()), total) if total else Fraction(0)


def requested(pods: Sequence[Object], resource: str, container: str | None, share: int) -> dict[str, int]:
    """For each pod `share` per cent of what it requests, in thousandths. Raises if one requests nothing."""
    targets: dict[str, int] = {}
    for pod in pods:
        amount = _request(pod, resource, container)
        if amount is None:
            where = f"container {container} of Pod" if container else "containers of Pod"
            raise MetricsUnavailable(f"missing request for {resource} in {where} {meta.name(pod)}")
        targets[meta.name(pod)] = amount * share // 100
    return targets


def _request(pod: Object, resource: str, container: str | None) -> int | None:
    if container is None:
        complete = all(resource in meta.part(c, "resources", "requests") for c in meta.items(pod, "spec", "containers"))
        return pod_requests(pod).get(resource, 0) // 10**6 if complete else None
    for found in meta.items(pod, "spec", "containers"):
        if found["name"] == container:
            nanos = amounts(meta.part(found, "resources", "requests")).get(resource)
            return nanos // 10**6 if nanos is not None else None
    return None

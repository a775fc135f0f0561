"""How fast the size may change: stabilization windows and policies (`spec.behavior`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from podling.api import meta
from podling.store.types import Object

_DEFAULTS: Object = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    },
}


@dataclass(slots=True)
class Past:
    """What an autoscaler recommended and did lately."""

    recommendations: list[tuple[datetime, int]] = field(default_factory=list[tuple[datetime, int]])
    changes: list[tuple[datetime, int]] = field(default_factory=list[tuple[datetime, int]])
    """By how many replicas the size changed: up is positive."""


@dataclass(frozen=True, slots=True)
class Limited:
    """The size that is allowed, and what held it back."""

    size: int
    stabilized: str | None
    """`ScaleUpStabilized` or `ScaleDownStabilized`."""
    limit: str
    """The reason of the condition ScalingLimited; `DesiredWithinRange` if nothing limits."""


def rules_of(hpa: Object, direction: str) -> Object:
    given = meta.part(hpa, "spec", "behavior", direction)
    return {**_DEFAULTS[direction], **{k: v for k, v in given.items() if v is not None}}


def limited(hpa: Object, current: int, recommended: int, past: Past, now: datetime) -> Limited:
    """The recommended size after stabilization and within all limits. Adds the recommendation to the past."""
    stable = _stabilized(hpa, current, recommended, past, now)
    reason = None
    if stable != recommended:
        reason = "ScaleUpStabilized" if recommended > current else "ScaleDownStabilized"
    low, high = _bounds(hpa)
    if stable > current:
        rate = max(current, _up_limit(rules_of(hpa, "scaleUp"), current, past, now))
        ceiling, why = (high, "TooManyReplicas") if high <= rate else (rate, "ScaleUpLimit")
        return Limited(min(stable, ceiling), reason, why if stable > ceiling else "DesiredWithinRange")
    if stable < current:
        rate = min(current, _down_limit(rules_of(hpa, "scaleDown"), current, past, now))
        floor, why = (low, "TooFewReplicas") if low >= rate else (rate, "ScaleDownLimit")
        return Limited(max(stable, floor), reason, why if stable < floor else "DesiredWithinRange")
    within = min(max(stable, low), high)
    limit = "DesiredWithinRange" if within == stable else ("TooFewReplicas" if stable < low else "TooManyReplicas")
    return Limited(within, reason, limit)


def _bounds(hpa: Object) -> tuple[int, int]:
    spec = meta.spec(hpa)
    low = spec.get("minReplicas")
    return (1 if low is None else low), spec["maxReplicas"]


def _stabilized(hpa: Object, current: int, recommended: int, past: Past, now: datetime) -> int:
    """The recommendation, held between the lowest of the up window and the highest of the down window."""
    windows = {d: timedelta(seconds=rules_of(hpa, d)["stabilizationWindowSeconds"]) for d in ("scaleUp", "scaleDown")}
    longest = max(windows.values())
    past.recommendations = [(t, r) for t, r in past.recommendations if t > now - longest]
    lowest = min([recommended, *(r for t, r in past.recommendations if t > now - windows["scaleUp"])])
    highest = max([recommended, *(r for t, r in past.recommendations if t > now - windows["scaleDown"])])
    past.recommendations.append((now, recommended))
    return min(max(current, lowest), highest)


def _changed(past: Past, seconds: int, now: datetime, sign: int) -> int:
    """By how many replicas the size went in that direction within the period."""
    since = now - timedelta(seconds=seconds)
    return sum(abs(count) for moment, count in past.changes if moment > since and count * sign > 0)


def _up_limit(rules: Object, current: int, past: Past, now: datetime) -> int:
    limits: list[int] = []
    for policy in meta.items(rules, "policies"):
        start = current - _changed(past, policy["periodSeconds"], now, 1)
        if policy["type"] == "Pods":
            limits.append(start + policy["value"])
        else:
            limits.append(math.ceil(start * (100 + policy["value"]) / 100))
    return _selected(rules, limits, current, most=True)


def _down_limit(rules: Object, current: int, past: Past, now: datetime) -> int:
    limits: list[int] = []
    for policy in meta.items(rules, "policies"):
        start = current + _changed(past, policy["periodSeconds"], now, -1)
        if policy["type"] == "Pods":
            limits.append(start - policy["value"])
        else:
            limits.append(start * (100 - policy["value"]) // 100)
    return _selected(rules, limits, current, most=False)


def _selected(rules: Object, limits: Sequence[int], current: int, *, most: bool) -> int:
    """`Max` is the policy that allows the greatest change, `Min` the one that allows the least."""
    if rules["selectPolicy"] == "Disabled" or not limits:
        return current
    return max(limits) if most == (rules["selectPolicy"] == "Max") else min(limits)

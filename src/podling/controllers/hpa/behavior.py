"""How fast the size may change: stabilization windows and policies (`spec.behavior`), and the rules without any.

Source: "Configurable scaling behavior"; pkg/controller/podautoscaler, `normalizeDesiredReplicas*`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
"""Of a behavior that leaves them out."""
STABILIZATION = timedelta(minutes=5)
"""Of an autoscaler without any behavior."""
_LONGEST_WINDOW = timedelta(hours=1)
_LONGEST_PERIOD = timedelta(minutes=30)
"""Longer ones are refused by validation."""


@dataclass(frozen=True, slots=True)
class Past:
    """What an autoscaler recommended and did lately."""

    recommendations: tuple[tuple[datetime, int], ...] = ()
    changes: tuple[tuple[datetime, int], ...] = ()
    """By how many replicas the size changed: up is positive."""

    def recommended(self, size: int, now: datetime) -> Past:
        kept = tuple((t, r) for t, r in self.recommendations if t >= now - _LONGEST_WINDOW)
        return replace(self, recommendations=(*kept, (now, size)))

    def changed(self, by: int, now: datetime) -> Past:
        kept = tuple((t, c) for t, c in self.changes if t > now - _LONGEST_PERIOD)
        return replace(self, changes=(*kept, (now, by)))


@dataclass(frozen=True, slots=True)
class Limited:
    """The size that is allowed, and what held it back."""

    size: int
    stabilized: str | None
    """`ScaleUpStabilized` or `ScaleDownStabilized`."""
    limit: str
    """The reason of the condition ScalingLimited; `DesiredWithinRange` if nothing limits."""


WITHIN = "DesiredWithinRange"


def bounds(hpa: Object) -> tuple[int, int]:
    """`minReplicas` and `maxReplicas`."""
    low: int | None = meta.spec(hpa).get("minReplicas")
    return (1 if low is None else low), meta.spec(hpa)["maxReplicas"]


def rules_of(hpa: Object, direction: str) -> Object:
    given = meta.part(hpa, "spec", "behavior", direction)
    return {**_DEFAULTS[direction], **{k: v for k, v in given.items() if v is not None}}


def limited(hpa: Object, current: int, recommended: int, past: Past, now: datetime) -> Limited:
    """The recommended size after stabilization and within all limits."""
    if meta.spec(hpa).get("behavior") is None:
        return _limited_simply(hpa, current, recommended, past, now)
    stable = _stabilized(hpa, current, recommended, past, now)
    reason = None
    if stable != recommended:
        reason = "ScaleUpStabilized" if recommended >= current else "ScaleDownStabilized"
    low, high = bounds(hpa)
    if stable > current:
        rate = max(current, _up_limit(rules_of(hpa, "scaleUp"), current, past, now))
        ceiling, why = (rate, "ScaleUpLimit") if high > rate else (high, "TooManyReplicas")
        return Limited(min(stable, ceiling), reason, why if stable > ceiling else WITHIN)
    if stable < current:
        rate = min(current, _down_limit(rules_of(hpa, "scaleDown"), current, past, now))
        floor, why = (rate, "ScaleDownLimit") if low < rate else (low, "TooFewReplicas")
        return Limited(max(stable, floor), reason, why if stable < floor else WITHIN)
    return Limited(stable, reason, WITHIN)


def _limited_simply(hpa: Object, current: int, recommended: int, past: Past, now: datetime) -> Limited:
    """Without a behavior: the highest recommendation of five minutes, at most doubled (or 4) at a time."""
    stable = max([recommended, *(r for t, r in past.recommendations if t >= now - STABILIZATION)])
    reason = "ScaleDownStabilized" if stable != recommended else None
    low, high = bounds(hpa)
    rate = max(2 * current, 4)
    ceiling, why = (rate, "ScaleUpLimit") if high > rate else (high, "TooManyReplicas")
    if stable < low:
        return Limited(low, reason, "TooFewReplicas")
    return Limited(min(stable, ceiling), reason, why if stable > ceiling else WITHIN)


def _stabilized(hpa: Object, current: int, recommended: int, past: Past, now: datetime) -> int:
    """The recommendation, held between the lowest of the up window and the highest of the down window."""

    def lately(direction: str) -> list[int]:
        since = now - timedelta(seconds=rules_of(hpa, direction)["stabilizationWindowSeconds"])
        return [recommended, *(r for t, r in past.recommendations if t > since)]

    return min(max(current, min(lately("scaleUp"))), max(lately("scaleDown")))


def _at_start(policy: Object, current: int, past: Past, now: datetime) -> int:
    """The size at the start of a policy's period."""
    since = now - timedelta(seconds=policy["periodSeconds"])
    return current - sum(by for moment, by in past.changes if moment > since)


def _up_limit(rules: Object, current: int, past: Past, now: datetime) -> int:
    limits: list[int] = []
    for policy in meta.items(rules, "policies"):
        start, value = _at_start(policy, current, past, now), policy["value"]
        limits.append(start + value if policy["type"] == "Pods" else math.ceil(start * (1 + value / 100)))
    return _selected(rules, limits, current, most=True)


def _down_limit(rules: Object, current: int, past: Past, now: datetime) -> int:
    limits: list[int] = []
    for policy in meta.items(rules, "policies"):
        start, value = _at_start(policy, current, past, now), policy["value"]
        limits.append(start - value if policy["type"] == "Pods" else int(start * (1 - value / 100)))
    return _selected(rules, limits, current, most=False)


def _selected(rules: Object, limits: Sequence[int], current: int, *, most: bool) -> int:
    """`Max` is the policy that allows the greatest change, `Min` the one that allows the least."""
    if rules["selectPolicy"] == "Disabled" or not limits:
        return current
    return max(limits) if most == (rules["selectPolicy"] == "Max") else min(limits)

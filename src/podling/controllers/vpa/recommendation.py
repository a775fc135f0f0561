"""Target and bounds of a container's requests: percentiles of its history with a margin, the less sure the wider.

`target` is the 90th percentile. Between `lowerBound` (the 50th) and `upperBound` (the 95th) a running pod is left
alone. With little history the lower bound falls and the upper bound rises: after one day the upper bound is twice the
percentile, after a week 1.14 times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.api.podresources import amounts
from podling.api.quantity import NANO, Format, Quantity, of
from podling.controllers.vpa.usage import History
from podling.store.types import Object

MARGIN = 0.15
LEAST_MILLICORES = 25
LEAST_BYTES = 250 * 1024 * 1024
RESOURCES = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Estimator:
    """`percentile * (1 + MARGIN) * (1 + multiplier / confidence) ** exponent`."""

    percentile: float
    multiplier: float = 0.0
    exponent: float = 0.0

    def of(self, history: History) -> Mapping[str, float]:
        """Millicores and bytes, by resource."""
        scale = (1 + MARGIN) * self._doubt(history.confidence)
        return {
            "cpu": history.cpu.percentile(self.percentile) * 1000 * scale,
            "memory": history.memory.percentile(self.percentile) * scale,
        }

    def _doubt(self, confidence: float) -> float:
        if not self.exponent:
            return 1.0
        return (1 + self.multiplier / max(confidence, _LEAST_CONFIDENCE)) ** self.exponent


_LEAST_CONFIDENCE = 1e-6
"""A tenth of a second of history; keeps the upper bound finite."""
_LARGEST = {"cpu": 1e8, "memory": 1e15}
"""What a bound can be at most: far beyond any machine, and within what a quantity holds."""
TARGET = Estimator(0.9)
LOWER_BOUND = Estimator(0.5, 0.001, -2.0)
UPPER_BOUND = Estimator(0.95, 1.0, 1.0)


def policy_of(vpa: Object, container: str) -> Object:
    """The container's own policy, else the one of `*`."""
    policies = {p.get("containerName"): p for p in meta.items(vpa, "spec", "resourcePolicy", "containerPolicies")}
    return policies.get(container) or policies.get("*") or {}


def recommend(vpa: Object, histories: Mapping[str, History]) -> Sequence[Object]:
    """`status.recommendation.containerRecommendations`, by name; nothing for containers that the policy leaves out."""
    wanted = {
        name: history
        for name, history in histories.items()
        if history.samples and policy_of(vpa, name).get("mode") != "Off"
    }
    return [_container(vpa, name, wanted[name], len(wanted)) for name in sorted(wanted)]


def _container(vpa: Object, name: str, history: History, count: int) -> Object:
    policy = policy_of(vpa, name)
    controlled = policy.get("controlledResources") or RESOURCES
    least = {"cpu": LEAST_MILLICORES / count, "memory": LEAST_BYTES / count}

    def amount(estimator: Estimator, *, capped: bool = True) -> Object:
        estimated = estimator.of(history)
        values = {r: min(max(estimated[r], least[r]), _LARGEST[r]) for r in RESOURCES if r in controlled}
        return _quantities(_capped(values, policy) if capped else values)

    return {
        "containerName": name,
        "lowerBound": amount(LOWER_BOUND),
        "target": amount(TARGET),
        "uncappedTarget": amount(TARGET, capped=False),
        "upperBound": amount(UPPER_BOUND),
    }


def _capped(values: Mapping[str, float], policy: Object) -> Mapping[str, float]:
    low, high = _limits(policy.get("minAllowed")), _limits(policy.get("maxAllowed"))
    return {r: max(min(v, high.get(r, v)), low.get(r, 0.0)) for r, v in values.items()}


def _limits(allowed: Object | None) -> Mapping[str, float]:
    return {r: nanos / (10**6 if r == "cpu" else NANO) for r, nanos in amounts(allowed or {}).items()}


def _quantities(values: Mapping[str, float]) -> Object:
    units = {"cpu": 10**6, "memory": NANO}
    return {r: str(Quantity(int(v) * units[r], Format.DECIMAL_SI)) for r, v in values.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far what a pod requests is from what is recommended."""

    outside: bool
    """Of the bounds, in some container."""
    grows: bool
    """Some container needs more."""
    difference: float
    """As a share of what is requested, over all resources."""


def compare(vpa: Object, pod: Object, recommended: Mapping[str, Object]) -> Comparison:
    """`recommended` are container recommendations by name."""
    outside = grows = False
    requested: dict[str, int] = {}
    wanted: dict[str, int] = {}
    for container, recommendation in recommended_containers(vpa, pod, recommended):
        requests = amounts(meta.part(container, "resources", "requests"))
        low, high = amounts(recommendation["lowerBound"]), amounts(recommendation["upperBound"])
        for resource, target in amounts(recommendation["target"]).items():
            request = requests.get(resource, 0)
            grows = grows or target > request
            outside = outside or not low.get(resource, 0) <= request <= high.get(resource, request)
            outside = outside or resource not in requests
            requested[resource] = requested.get(resource, 0) + request
            wanted[resource] = wanted.get(resource, 0) + target
    least = NANO // 1000
    shares = (abs(requested[r] - wanted[r]) / max(requested[r], least) for r in wanted)
    return Comparison(outside, grows, sum(shares))


def recommended_containers(
    vpa: Object, pod: Object, recommended: Mapping[str, Object]
) -> Iterator[tuple[Object, Object]]:
    """The pod's containers for which there is a recommendation, with what of it they can have."""
    for container in meta.items(pod, "spec", "containers"):
        found = recommended.get(container["name"])
        if found is not None:
            kinds = ("target", "lowerBound", "upperBound")
            yield container, {**found, **{kind: possible(vpa, container, found.get(kind, {})) for kind in kinds}}


def possible(vpa: Object, container: Object, target: Mapping[str, str]) -> Object:
    """Where limits stay as they are, no request may be above its limit."""
    if _scales_limits(vpa, container):
        return dict(target)
    limits: Object = meta.part(container, "resources").get("limits") or {}
    return {r: limits[r] if r in limits and of(limits[r]).nanos < of(v).nanos else v for r, v in target.items()}


def _scales_limits(vpa: Object, container: Object) -> bool:
    return policy_of(vpa, container["name"]).get("controlledValues") != "RequestsOnly"


def resources_for(vpa: Object, container: Object, target: Mapping[str, str]) -> Object:
    """A container's `resources` with the recommended requests; limits keep their proportion to requests."""
    old: Object = meta.part(container, "resources")
    changed: Object = {**old, "requests": {**(old.get("requests") or {}), **possible(vpa, container, target)}}
    if _scales_limits(vpa, container) and old.get("limits"):
        changed["limits"] = {**old["limits"], **_scaled_limits(old, target)}
    return changed


def _scaled_limits(old: Object, target: Mapping[str, str]) -> Object:
    requests = amounts(old.get("requests") or {})
    limits = amounts(old["limits"])
    scaled: Object = {}
    for resource in target.keys() & limits.keys():
        before, wanted = requests.get(resource) or limits[resource], of(target[resource])
        scaled[resource] = str(Quantity(limits[resource] * wanted.nanos // before, wanted.format))
    return scaled

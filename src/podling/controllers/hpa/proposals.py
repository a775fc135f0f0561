"""From one entry of `spec.metrics` and what was read for it to a proposed size, or to why there is none.

The words are those of the HPA controller, of which each kind of metric has its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import gotext, meta
from podling.api.quantity import Format, Quantity, of
from podling.controllers import pods as podlib
from podling.controllers.hpa.metrics import MetricsUnavailable, Reading, Sample
from podling.controllers.hpa.replicas import (
    AverageValue,
    Groups,
    Tolerances,
    Use,
    Utilization,
    by_share,
    by_total,
    group,
    requested,
    wanted,
)
from podling.store.types import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be scaled. `replicas` are wanted, `present` is how many its status counts."""

    namespace: str
    replicas: int
    present: int
    pods: Sequence[Object]
    tolerances: Tolerances
    now: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    size: int
    name: str
    """What asks for it, in words."""
    status: Object
    """For `status.currentMetrics`."""


@dataclass(frozen=True, slots=True)
class Failure:
    reason: str
    message: str
    """For the condition and the event of this metric."""
    error: str
    """For the event about all metrics."""

    @property
    def status(self) -> Object:
        """The empty MetricStatus that keeps `status.currentMetrics` in step with `spec.metrics`."""
        return {"type": ""}


def propose(metric: Object, reading: Reading, subject: Subject) -> Proposal | Failure:
    match metric["type"]:
        case "Resource":
            return _resource(metric["resource"], None, reading, subject)
        case "ContainerResource":
            source = metric["containerResource"]
            return _resource(source, source["container"], reading, subject)
        case "Pods":
            return _pods(metric["pods"], reading, subject)
        case "Object":
            return _object(metric["object"], reading, subject)
        case _:
            return _external(metric["external"], reading, subject)


def _resource(source: Object, container: str | None, reading: Reading, subject: Subject) -> Proposal | Failure:
    name, target = source["name"], source["target"]
    is_plain = target.get("averageValue") is not None
    try:
        size, use = _resource_replicas(source, container, reading, subject)
    except MetricsUnavailable as error:
        message = f"failed to get {name} {'usage' if is_plain else 'utilization'}: {error}"
        if container is None:
            return Failure("FailedGetResourceMetric", message, f"failed to get {name} resource metric value: {message}")
        told = f"failed to get {container} container metric value: {message}"
        return Failure("FailedGetContainerResourceMetric", message, told)
    current: Object = {"averageValue": _quantity(use.average, binary=name == "memory")}
    if use.percent is not None:
        current["averageUtilization"] = use.percent
    words = f"{name} resource"
    if not is_plain:
        words = f"{name}{' container' if container else ''} resource utilization (percentage of request)"
    if container is None:
        return Proposal(size, words, {"type": "Resource", "resource": {"name": name, "current": current}})
    status = {"name": name, "container": container, "current": current}
    return Proposal(size, words, {"type": "ContainerResource", "containerResource": status})


def _resource_replicas(source: Object, container: str | None, reading: Reading, subject: Subject) -> tuple[int, Use]:
    name, target = source["name"], source["target"]
    samples = _samples(reading, f"unable to get metrics for resource {name}")
    groups = _groups(samples, name, subject)
    if target.get("averageValue") is not None:
        goal = AverageValue(_milli(target["averageValue"]))
    else:
        goal = Utilization(requested(subject.pods, name, container), target["averageUtilization"])
    return wanted(subject.replicas, groups, goal, subject.tolerances)


def _pods(source: Object, reading: Reading, subject: Subject) -> Proposal | Failure:
    metric = source["metric"]
    try:
        samples = _samples(reading, f"unable to get metric {metric['name']}")
        groups = _groups(samples, None, subject)
        goal = AverageValue(_milli(source["target"]["averageValue"]))
        size, use = wanted(subject.replicas, groups, goal, subject.tolerances)
    except MetricsUnavailable as error:
        return Failure("FailedGetPodsMetric", str(error), f"failed to get pods metric value: {error}")
    status: Object = {"metric": metric, "current": {"averageValue": _quantity(use.average)}}
    return Proposal(size, f"pods metric {metric['name']}", {"type": "Pods", "pods": status})


def _object(source: Object, reading: Reading, subject: Subject) -> Proposal | Failure:
    metric, reference, target = source["metric"], source["describedObject"], source["target"]
    is_average = target["type"] == "AverageValue"
    try:
        if isinstance(reading, MetricsUnavailable):
            # Kubernetes' own message has its parts in this order.
            place = f"{reference['kind']} on {subject.namespace} {reference['name']}/{reading}"
            raise MetricsUnavailable(f"unable to get metric {metric['name']}: {place}")
        size, current = _by_value("averageValue" if is_average else "value", target, reading, subject)
    except MetricsUnavailable as error:
        about = f"failed to get {metric['name']} object metric: " if is_average else ""
        return Failure("FailedGetObjectMetric", str(error), f"failed to get object metric value: {about}{error}")
    status: Object = {"metric": metric, "describedObject": reference, "current": current}
    words = _named(metric) if is_average else f"{reference['kind']} metric {metric['name']}"
    return Proposal(size, words, {"type": "Object", "object": status})


def _external(source: Object, reading: Reading, subject: Subject) -> Proposal | Failure:
    metric, target = source["metric"], source["target"]
    name = metric["name"]
    is_average = target.get("averageValue") is not None
    try:
        if isinstance(reading, MetricsUnavailable):
            selector = gotext.label_selector(metric.get("selector"))
            what = f"{subject.namespace}/{name}/{selector}"
            raise MetricsUnavailable(f"unable to get external metric {what}: {reading}")
        size, current = _by_value("averageValue" if is_average else "value", target, reading, subject)
    except MetricsUnavailable as error:
        about = f"failed to get {name} external metric" if is_average else f"failed to get external metric {name}"
        told = f"failed to get {name} external metric value: {about}: {error}"
        return Failure("FailedGetExternalMetric", str(error), told)
    status: Object = {"metric": metric, "current": current}
    return Proposal(size, _named(metric), {"type": "External", "external": status})


def _named(metric: Object) -> str:
    return f"external metric {metric['name']}({gotext.label_selector(metric.get('selector'))})"


def _by_value(key: str, target: Object, reading: Reading, subject: Subject) -> tuple[int, Object]:
    """One value for all: as a total, or as each replica's share of it."""
    assert isinstance(reading, int)
    goal = _milli(target[key])
    if key == "averageValue":
        size = by_share(subject.present, reading, goal, subject.tolerances)
        return size, {key: _quantity(math.ceil(reading / max(1, subject.present)))}
    if subject.replicas and not subject.pods:
        raise MetricsUnavailable(f"unable to calculate ready pods: {_NO_PODS}")
    ready = sum(podlib.phase(p) == "Running" and meta.condition_is(p, "Ready") for p in subject.pods)
    size = by_total(subject.replicas, ready, reading, goal, subject.tolerances)
    return size, {key: _quantity(reading)}


_NO_PODS = "no pods returned by selector while calculating replica count"


def _samples(reading: Reading, prefix: str) -> Mapping[str, Sample]:
    if isinstance(reading, MetricsUnavailable):
        raise MetricsUnavailable(f"{prefix}: {reading}")
    assert not isinstance(reading, int)
    return reading


def _groups(samples: Mapping[str, Sample], resource: str | None, subject: Subject) -> Groups:
    if not subject.pods:
        raise MetricsUnavailable(_NO_PODS)
    groups = group(subject.pods, samples, resource, subject.now)
    if not groups.measured:
        raise MetricsUnavailable("did not receive metrics for targeted pods (pods might be unready)")
    return groups


def _milli(text: str) -> int:
    return of(text).milli


def _quantity(milli: int, *, binary: bool = False) -> str:
    """`binary` as memory is written."""
    return str(Quantity(milli * 10**6, Format.BINARY_SI if binary else Format.DECIMAL_SI))

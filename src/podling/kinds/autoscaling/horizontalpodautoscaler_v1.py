"""HorizontalPodAutoscaler (autoscaling/v1): the form that knows only CPU.

What it cannot say travels in annotations, so that a client of the old form loses nothing
(`pkg/apis/autoscaling/v1/conversion.go`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

import orjson

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.autoscaling import horizontalpodautoscaler_v2 as v2
from podling.kinds.core.workload import keep_status
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"
_METRICS: Final = f"{_PREFIX}metrics"
_BEHAVIOR: Final = f"{_PREFIX}behavior"
_CURRENT: Final = f"{_PREFIX}current-metrics"
_CONDITIONS: Final = f"{_PREFIX}conditions"
_OURS: Final = (_METRICS, _BEHAVIOR, _CURRENT, _CONDITIONS)


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    annotations = part(obj, "metadata", "annotations")
    if spec.get("targetCPUUtilizationPercentage") is None and _METRICS not in annotations:
        spec["targetCPUUtilizationPercentage"] = v2.DEFAULT_CPU
    obj.setdefault("status", {})


def prepare(write: Write) -> None:
    keep_status(write)
    status: Object = write.new["status"]
    for key in ("currentReplicas", "desiredReplicas"):
        status.setdefault(key, 0)


def validate(write: Write) -> list[FieldError]:
    return object_meta(write) + v2.rules(to_v2(write.new), write.subresource)


# To the stored form


def to_v2(obj: Object) -> Object:
    meta = part(obj, "metadata")
    annotations = part(meta, "annotations")
    spec, status = dict(part(obj, "spec")), dict(part(obj, "status"))
    metrics = [_metric_to_v2(m) for m in _parsed(annotations, _METRICS) or ()]
    share = spec.pop("targetCPUUtilizationPercentage", None)
    if share is not None:
        metrics.append(_cpu(share))
    if metrics:
        spec["metrics"] = metrics
    if behavior := _parsed(annotations, _BEHAVIOR):
        spec["behavior"] = _recased(behavior, _lower)
    current = [_current_to_v2(m) for m in _parsed(annotations, _CURRENT) or ()]
    measured = status.pop("currentCPUUtilizationPercentage", None)
    if measured is not None:
        found = {"averageUtilization": measured, "averageValue": "0"}
        current.append({"type": "Resource", "resource": {"name": "cpu", "current": found}})
    status["currentMetrics"] = current or None
    if conditions := _parsed(annotations, _CONDITIONS):
        status["conditions"] = conditions
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)
    return {**obj, "apiVersion": "autoscaling/v2", "metadata": _without_ours(meta), "spec": spec, "status": status}


def _cpu(share: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": share}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _parsed(annotations: Mapping[str, str], key: str) -> Any:
    try:
        return orjson.loads(annotations.get(key, "null"))
    except orjson.JSONDecodeError:
        return None


def _without_ours(meta: Object) -> Object:
    annotations = part(meta, "annotations")
    kept = {k: v for k, v in annotations.items() if k not in _OURS}
    if len(kept) == len(annotations):
        return meta
    rest = {k: v for k, v in meta.items() if k != "annotations"}
    return {**rest, "annotations": kept} if kept else rest


def _lower(key: str) -> str:
    return key[:1].lower() + key[1:]


def _upper(key: str) -> str:
    return key[:1].upper() + key[1:]


def _recased(value: Any, case: Any) -> Any:
    """The behaviour is kept in the annotation with Go's field names."""
    if isinstance(value, dict):
        items = cast(dict[str, Any], value).items()
        return {case(k): _recased(v, case) for k, v in items if v is not None or case is _upper}
    if isinstance(value, list):
        return [_recased(v, case) for v in cast(list[Any], value)]
    return value


_OLD_NAMES: Final = {"metricName": "name", "metricSelector": "selector", "selector": "selector"}


def _metric_to_v2(metric: Object) -> Object:
    kind = text(metric, "type")
    key = _lower(kind)
    old = part(metric, key)
    target: Object = {}
    for name, new in (
        ("targetAverageUtilization", "averageUtilization"),
        ("targetAverageValue", "averageValue"),
        ("averageValue", "averageValue"),
        ("targetValue", "value"),
    ):
        if old.get(name) is not None:
            target[new] = old[name]
    target["type"] = _target_type(target)
    source: Object = {"target": target}
    if key in ("resource", "containerResource"):
        source |= {k: old[k] for k in ("name", "container") if k in old}
    else:
        source["metric"] = {new: old[name] for name, new in _OLD_NAMES.items() if old.get(name) is not None}
    if key == "object":
        source["describedObject"] = part(old, "target")
    return {"type": kind, key: source}


def _target_type(target: Object) -> str:
    if "averageUtilization" in target:
        return "Utilization"
    return "Value" if "value" in target else "AverageValue"


def _current_to_v2(metric: Object) -> Object:
    kind = text(metric, "type")
    key = _lower(kind)
    if not key:
        return {"type": kind}  # of a metric that could not be read
    old = part(metric, key)
    names = {
        "currentAverageUtilization": "averageUtilization",
        "currentAverageValue": "averageValue",
        "averageValue": "averageValue",
        "currentValue": "value",
    }
    source: Object = {"current": {new: old[name] for name, new in names.items() if old.get(name) is not None}}
    if "metricName" in old:
        source["metric"] = {new: old[name] for name, new in _OLD_NAMES.items() if old.get(name) is not None}
    if key == "object":
        source["describedObject"] = part(old, "target")
    source |= {k: old[k] for k in ("name", "container") if k in old}
    return {"type": kind, key: source}


# From the stored form


def from_v2(obj: Object) -> Object:
    meta, spec, status = part(obj, "metadata"), dict(part(obj, "spec")), dict(part(obj, "status"))
    annotations: Object = {k: v for k, v in part(meta, "annotations").items() if k not in _OURS}
    metrics, others = _split(spec.pop("metrics", None) or [], "target")
    if metrics is not None:
        spec["targetCPUUtilizationPercentage"] = metrics
    if others:
        annotations[_METRICS] = _json([_metric_to_v1(m) for m in others])
    if behavior := spec.pop("behavior", None):
        annotations[_BEHAVIOR] = _json(_behavior_to_v1(behavior))
    measured, more = _split(status.pop("currentMetrics", None) or [], "current")
    if measured is not None:
        status["currentCPUUtilizationPercentage"] = measured
    if more:
        annotations[_CURRENT] = _json([_current_to_v1(m) for m in more])
    if conditions := status.pop("conditions", None):
        annotations[_CONDITIONS] = _json(conditions)
    for key in ("currentReplicas", "desiredReplicas"):
        status.setdefault(key, 0)
    shown = {k: v for k, v in meta.items() if k != "annotations"}
    if annotations:
        shown["annotations"] = annotations
    return {**obj, "apiVersion": "autoscaling/v1", "metadata": shown, "spec": spec, "status": status}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _split(metrics: list[Object], key: str) -> tuple[int | None, list[Object]]:
    """The share of CPU, which v1 has a field for, and the other metrics."""
    share: int | None = None
    others: list[Object] = []
    for metric in metrics:
        source = part(metric, "resource")
        found = part(source, key).get("averageUtilization")
        if share is None and text(source, "name") == "cpu" and found is not None:
            share = found
        else:
            others.append(metric)
    return share, others


def _metric_to_v1(metric: Object) -> Object:
    kind = text(metric, "type")
    key = _lower(kind)
    source = part(metric, key)
    target = part(source, "target")
    old = _identified(key, source)
    old |= {k: source[k] for k in ("name",) if k in source}
    average = "averageValue" if key == "object" else "targetAverageValue"
    for name, new in (
        ("value", "targetValue"),
        ("averageUtilization", "targetAverageUtilization"),
        ("averageValue", average),
    ):
        if target.get(name) is not None:
            old[new] = target[name]
    if "container" in source:
        old["container"] = source["container"]
    return {"type": kind, key: old}


def _current_to_v1(metric: Object) -> Object:
    kind = text(metric, "type")
    key = _lower(kind)
    if not key:
        return {"type": kind}
    source = part(metric, key)
    current = part(source, "current")
    old = _identified(key, source)
    old |= {k: source[k] for k in ("name", "container") if k in source}
    plain = ("averageValue",) if key == "object" else ()
    old |= {name if name in plain else f"current{_upper(name)}": value for name, value in current.items()}
    return {"type": kind, key: old}


def _identified(key: str, source: Object) -> Object:
    """Which metric, and of what."""
    old: Object = {"target": source.get("describedObject")} if key == "object" else {}
    identifier = part(source, "metric")
    if identifier:
        old["metricName"] = text(identifier, "name")
        if identifier.get("selector") is not None:
            old["metricSelector" if key == "external" else "selector"] = identifier["selector"]
    return old


def _behavior_to_v1(behavior: Object) -> Object:
    """All of Go's fields, in Go's order."""
    return {_upper(key): _rules_to_v1(behavior.get(key)) for key in ("scaleUp", "scaleDown")}


def _rules_to_v1(rules: Object | None) -> Object | None:
    if rules is None:
        return None
    policies = [
        {"Type": text(p, "type"), "Value": p.get("value", 0), "PeriodSeconds": p.get("periodSeconds", 0)}
        for p in entries(rules, "policies")
    ]
    return {
        "StabilizationWindowSeconds": rules.get("stabilizationWindowSeconds"),
        "SelectPolicy": rules.get("selectPolicy"),
        "Policies": policies or None,
        "Tolerance": rules.get("tolerance"),
    }


def row(obj: Object, now: datetime) -> list[Any]:
    return v2.row(to_v2(obj), now)


def resource() -> Resource:
    return Resource(
        group="autoscaling",
        version="v1",
        kind="HorizontalPodAutoscaler",
        plural="horizontalpodautoscalers",
        singular="horizontalpodautoscaler",
        namespaced=True,
        schema="io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        short_names=("hpa",),
        categories=("all",),
        status=True,
        to_storage=to_v2,
        from_storage=from_v2,
        strategy=Strategy(default=default, prepare=prepare, validate=validate, generation=None),
        columns=v2.columns(),
        row=row,
    )

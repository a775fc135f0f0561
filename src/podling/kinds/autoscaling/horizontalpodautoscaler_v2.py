"""HorizontalPodAutoscaler (autoscaling/v2): as many pods as a metric asks for. This is the stored form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.poddefaults import fill
from podling.kinds.core.requirements import canonical, nanos
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import UNKNOWN, UNSET, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

DEFAULT_CPU: Final = 80
_SOURCES: Final = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "External": "external",
    "ContainerResource": "containerResource",
}
_METRIC_TYPES: Final = ("ContainerResource", "External", "Object", "Pods", "Resource")
_SELECT: Final = ("Disabled", "Max", "Min")
_POLICY_TYPES: Final = ("Percent", "Pods")
_MAX_WINDOW: Final = 3600
_MAX_PERIOD: Final = 1800
_SHOWN_METRICS: Final = 2
_UP: Final = (("Pods", 4, 15), ("Percent", 100, 15))
_DOWN: Final = (("Percent", 100, 15),)


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("scaleTargetRef", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": DEFAULT_CPU}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior: Object | None = spec.get("behavior")
    if behavior is not None:
        _behavior(behavior, "scaleUp", 0, _UP)
        _behavior(behavior, "scaleDown", None, _DOWN)
    obj.setdefault("status", {})


def _behavior(behavior: Object, key: str, window: int | None, policies: Sequence[tuple[str, int, int]]) -> None:
    rules: Object = part(behavior, key)
    behavior[key] = rules
    if rules.get("stabilizationWindowSeconds") is None and window is not None:
        rules["stabilizationWindowSeconds"] = window
    fill(rules, "selectPolicy", "Max")
    if rules.get("policies") is None:
        rules["policies"] = [{"type": t, "value": v, "periodSeconds": p} for t, v, p in policies]


def prepare(write: Write) -> None:
    keep_status(write)
    status: Object = write.new["status"]
    status.setdefault("desiredReplicas", 0)
    status.setdefault("currentMetrics", None)


def validate(write: Write) -> list[FieldError]:
    return object_meta(write) + rules(write.new, write.subresource)


def rules(obj: Object, subresource: str) -> list[FieldError]:
    """The rules of the stored form, which v1 is held to as well."""
    if subresource == "status":
        status = part(obj, "status")
        keys = ("currentReplicas", "desiredReplicas")
        return [e for key in keys for e in fields.non_negative(f"status.{key}", status.get(key))]
    return _spec(part(obj, "spec"))


def _spec(spec: Object) -> list[FieldError]:
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    metrics: Sequence[Object] = entries(spec, "metrics")
    errors: list[FieldError] = []
    if least is not None and least < 1:
        errors.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        errors.append(required("spec.maxReplicas", "must be set and greater than 0"))
    if least is not None and most < least:
        errors.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    errors += _target_reference(part(spec, "scaleTargetRef"), "spec.scaleTargetRef")
    errors += _metrics(metrics, least)
    return errors + _behavior_rules(spec.get("behavior"), "spec.behavior")


def _target_reference(reference: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("kind", "name"):
        value = text(reference, key)
        if not value:
            errors.append(required(f"{path}.{key}"))
        else:
            errors += fields.check(f"{path}.{key}", value, names.path_segment)
    version = text(reference, "apiVersion")
    if "/" not in version and not (version == "v1" and reference.get("kind") == "ReplicationController"):
        errors.append(invalid_value(f"{path}.apiVersion", version, "apiVersion must specify API group"))
    return errors


def _metrics(metrics: Sequence[Object], least: int | None) -> list[FieldError]:
    errors: list[FieldError] = []
    outside = False
    for at, metric in each("spec.metrics", metrics):
        errors += _metric(metric, at)
        outside = outside or text(metric, "type") in ("Object", "External")
    if least == 0 and not outside:
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(forbidden_field("spec.metrics", detail))
    return errors


def _metric(metric: Object, path: str) -> list[FieldError]:
    kind = text(metric, "type")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in _SOURCES:
        # Two checks say the same.
        return [*errors, *[not_supported(f"{path}.type", kind, _METRIC_TYPES)] * 2]
    given = [key for key in _SOURCES.values() if metric.get(key) is not None]
    wanted = _SOURCES[kind]
    if metric.get(wanted) is not None:
        errors += _METRICS[wanted](metric[wanted], f"{path}.{wanted}")
    else:
        errors.append(required(f"{path}.{wanted}", "must populate information for the given metric source"))
    for key in given:
        if key != wanted:
            errors.append(forbidden_field(f"{path}.{key}", "must populate the given metric source only"))
    return errors


def _metric_identifier(source: Object, path: str) -> list[FieldError]:
    metric = part(source, "metric")
    value = text(metric, "name")
    if not value:
        return [required(f"{path}.metric.name", "must specify a metric name")]
    return fields.check(f"{path}.metric.name", value, names.path_segment)


def _object_metric(source: Object, path: str) -> list[FieldError]:
    errors = _target_reference(part(source, "describedObject"), f"{path}.describedObject")
    errors += _metric_identifier(source, path)
    return errors + _target(source, path, ("value", "averageValue"), "must set either a target value or averageValue")


def _pods_metric(source: Object, path: str) -> list[FieldError]:
    errors = _metric_identifier(source, path)
    target = part(source, "target")
    errors += _target_type(target, f"{path}.target")
    amount = target.get("averageValue")
    if amount is None or nanos(amount) <= 0:
        errors.append(required(f"{path}.target.averageValue", "must specify a positive target averageValue"))
    return errors


def _external_metric(source: Object, path: str) -> list[FieldError]:
    errors = _metric_identifier(source, path)
    target = part(source, "target")
    detail = "must set either a target value for metric or a per-pod target"
    errors += _target(source, path, ("value", "averageValue"), detail)
    if target.get("value") is not None and target.get("averageValue") is not None:
        both = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden_field(f"{path}.target.value", both))
    return errors


def _resource_metric(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("name") else [required(f"{path}.name", "must specify a resource name")]
    target = part(source, "target")
    detail = "must set either a target raw value or a target utilization"
    errors += _target(source, path, ("averageUtilization", "averageValue"), detail)
    if target.get("averageUtilization") is not None and target.get("averageValue") is not None:
        both = "may not set both a target raw value and a target utilization"
        errors.append(forbidden_field(f"{path}.target.averageValue", both))
    return errors


def _container_metric(source: Object, path: str) -> list[FieldError]:
    errors = _resource_metric(source, path)
    if not source.get("container"):
        errors.insert(0, required(f"{path}.container", "must specify a container"))
    return errors


_METRICS: Final[Mapping[str, Any]] = {
    "object": _object_metric,
    "pods": _pods_metric,
    "resource": _resource_metric,
    "external": _external_metric,
    "containerResource": _container_metric,
}


def _target(source: Object, path: str, keys: tuple[str, str], missing: str) -> list[FieldError]:
    target = part(source, "target")
    errors = _target_type(target, f"{path}.target")
    if all(target.get(key) is None for key in keys):
        errors.append(required(f"{path}.target.{keys[0]}", missing))
    return errors


def _target_type(target: Object, path: str) -> list[FieldError]:
    kind = text(target, "type")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        detail = "must be either Utilization, Value, or AverageValue"
        errors.append(invalid_value(f"{path}.type", kind, detail))
    for key in ("value", "averageValue"):
        amount = target.get(key)
        if amount is not None and nanos(amount) <= 0:
            errors.append(invalid_value(f"{path}.{key}", canonical(amount), "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        errors.append(invalid_value(f"{path}.averageUtilization", share, "must be greater than 0"))
    return errors


def _behavior_rules(behavior: Object | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("scaleUp", "scaleDown"):
        scaling: Object | None = (behavior or {}).get(key)
        if scaling is not None:
            errors += _scaling_rules(scaling, f"{path}.{key}")
    return errors


def _scaling_rules(scaling: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    window = scaling.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        detail = "must be greater than or equal to zero"
        errors.append(invalid_value(f"{path}.stabilizationWindowSeconds", window, detail))
    if window is not None and window > _MAX_WINDOW:
        detail = f"must be less than or equal to {_MAX_WINDOW}"
        errors.append(invalid_value(f"{path}.stabilizationWindowSeconds", window, detail))
    if (select := scaling.get("selectPolicy")) is not None:
        errors += fields.one_of(f"{path}.selectPolicy", select, _SELECT)
    policies: Sequence[Object] = entries(scaling, "policies")
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for at, policy in each(f"{path}.policies", policies):
        errors += _policy(policy, at)
    tolerance = scaling.get("tolerance")
    if tolerance is not None and nanos(tolerance) < 0:
        errors.append(invalid_value(f"{path}.tolerance", canonical(tolerance), fields.NON_NEGATIVE))
    return errors


def _policy(policy: Object, path: str) -> list[FieldError]:
    errors = fields.one_of(f"{path}.type", text(policy, "type"), _POLICY_TYPES)
    value, period = policy.get("value") or 0, policy.get("periodSeconds") or 0
    if value <= 0:
        errors.append(invalid_value(f"{path}.value", value, "must be greater than zero"))
    if period <= 0:
        errors.append(invalid_value(f"{path}.periodSeconds", period, "must be greater than zero"))
    if period > _MAX_PERIOD:
        errors.append(invalid_value(f"{path}.periodSeconds", period, f"must be less than or equal to {_MAX_PERIOD}"))
    return errors


def columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Reference", description=doc("autoscaling.v2.HorizontalPodAutoscalerSpec.scaleTargetRef")),
        Column("Targets", description=doc("autoscaling.v2.HorizontalPodAutoscalerSpec.metrics")),
        Column("MinPods", description=doc("autoscaling.v2.HorizontalPodAutoscalerSpec.minReplicas")),
        Column("MaxPods", description=doc("autoscaling.v2.HorizontalPodAutoscalerSpec.maxReplicas")),
        Column("Replicas", description=doc("autoscaling.v2.HorizontalPodAutoscalerStatus.currentReplicas")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    reference = part(spec, "scaleTargetRef")
    least = spec.get("minReplicas")
    return [
        name(obj),
        f"{text(reference, 'kind')}/{text(reference, 'name')}",
        _targets(entries(spec, "metrics"), entries(status, "currentMetrics")),
        str(least) if least is not None else UNSET,
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(obj, now),
    ]


def _targets(metrics: Sequence[Object], current: Sequence[Object]) -> str:
    if not metrics:
        return "<none>"
    shown = [_metric_text(m, current[i] if i < len(current) else {}) for i, m in enumerate(metrics)]
    listed = ", ".join(shown[:_SHOWN_METRICS])
    more = len(shown) - _SHOWN_METRICS
    return f"{listed} + {more} more..." if more > 0 else listed


def _metric_text(metric: Object, current: Object) -> str:
    """`cpu: 10%/50%`, or `<unknown>/1k` where nothing was measured yet."""
    key = _SOURCES.get(text(metric, "type"), "")
    source, measured = part(metric, key), part(current, key, "current")
    target = part(source, "target")
    if key in ("resource", "containerResource"):
        prefix = f"{text(source, 'name')}: "
        if target.get("averageValue") is not None:
            return f"{prefix}{measured.get('averageValue', UNKNOWN)}/{target['averageValue']}"
        share = measured.get("averageUtilization")
        now = f"{share}%" if share is not None else UNKNOWN
        wanted = target.get("averageUtilization")
        return f"{prefix}{now}/{f'{wanted}%' if wanted is not None else '<auto>'}"
    if not key:
        return "<unknown type>"
    average = key == "pods" or target.get("averageValue") is not None
    which = "averageValue" if average else "value"
    suffix = " (avg)" if average and key in ("external", "object") else ""
    return f"{measured.get(which, UNKNOWN)}/{target.get(which)}{suffix}"


def resource() -> Resource:
    return Resource(
        group="autoscaling",
        version="v2",
        kind="HorizontalPodAutoscaler",
        plural="horizontalpodautoscalers",
        singular="horizontalpodautoscaler",
        namespaced=True,
        schema="io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        short_names=("hpa",),
        categories=("all",),
        status=True,
        strategy=Strategy(default=default, prepare=prepare, validate=validate, generation=None),
        columns=columns(),
        row=row,
    )

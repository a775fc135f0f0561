"""Deployment: replicas of a pod, replaced by a strategy when their template changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.api.resources import Column, Resource, ScalePaths, Strategy, Write, spec_differs
from podling.kinds import printing
from podling.kinds.core import poddefaults, workload
from podling.kinds.printing import age, age_column, containers, doc, name, name_column, template_columns
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    obj.setdefault("status", {})
    workload.fill(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    poddefaults.pod_template(spec.setdefault("template", {}))
    strategy: Object = spec["strategy"]
    poddefaults.fill(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        workload.fill(strategy, rollingUpdate={})
        workload.fill(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.subresource == "status":
        return errors + _status(part(write.new, "status")) + workload.collisions_kept(write)
    spec = part(write.new, "spec")
    errors += _spec(spec, "spec")
    if write.old is not None:
        errors += fields.immutable_selector(spec, part(write.old, "spec"))
    return errors


def _spec(spec: Object, path: str) -> list[FieldError]:
    errors = fields.non_negative(f"{path}.replicas", spec.get("replicas"))
    errors += workload.selector(spec, path, "deployment")
    errors += workload.template(spec, path, "ReplicaSet")
    errors += _strategy(part(spec, "strategy"), f"{path}.strategy")
    ready = spec.get("minReadySeconds") or 0
    errors += fields.non_negative(f"{path}.minReadySeconds", ready)
    errors += fields.non_negative(f"{path}.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        errors += fields.non_negative(f"{path}.progressDeadlineSeconds", deadline)
        if deadline <= ready:
            detail = "must be greater than minReadySeconds"
            errors.append(invalid_value(f"{path}.progressDeadlineSeconds", deadline, detail))
    return errors


def _strategy(strategy: Object, path: str) -> list[FieldError]:
    rolling = strategy.get("rollingUpdate")
    match text(strategy, "type"):
        case "Recreate":
            if rolling is None:
                return []
            detail = "may not be specified when strategy `type` is 'Recreate'"
            return [forbidden_field(f"{path}.rollingUpdate", detail)]
        case "RollingUpdate":
            if rolling is None:
                return [required(f"{path}.rollingUpdate", "this should be defaulted and never be nil")]
            return _rolling(rolling, f"{path}.rollingUpdate")
        case other:
            return [
                not_supported(path, {"Type": other, "RollingUpdate": _shown(rolling)}, ("Recreate", "RollingUpdate"))
            ]


def _shown(rolling: Object | None) -> Object | None:
    return rolling and {"MaxUnavailable": rolling.get("maxUnavailable"), "MaxSurge": rolling.get("maxSurge")}


def _rolling(rolling: Object, path: str) -> list[FieldError]:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    errors = fields.int_or_percent(f"{path}.maxUnavailable", unavailable)
    errors += fields.int_or_percent(f"{path}.maxSurge", surge)
    if fields.int_or_percent_is_zero(unavailable) and fields.int_or_percent_is_zero(surge):
        detail = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid_value(f"{path}.maxUnavailable", unavailable, detail))
    return errors + fields.at_most_100_percent(f"{path}.maxUnavailable", unavailable)


_COUNTS = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


def _status(status: Object) -> list[FieldError]:
    errors = workload.status_counts(status, (*_COUNTS, "unavailableReplicas", "terminatingReplicas", "collisionCount"))
    for key in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        errors += workload.not_above(status, key, "replicas")
    return errors + workload.not_above(status, "availableReplicas", "readyReplicas", "readyReplicas")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Ready", description="Number of the pod with ready state"),
        Column("Up-to-date", description=doc("apps.v1.DeploymentStatus.updatedReplicas")),
        Column("Available", description=doc("apps.v1.DeploymentStatus.availableReplicas")),
        age_column(),
        *template_columns(doc("apps.v1.DeploymentSpec.selector")),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    return [
        name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(obj, now),
        *containers(part(spec, "template")),
        printing.selector(spec.get("selector")),
    ]


def _changed(old: Object, new: Object) -> bool:
    """Annotations count as well: the controller passes them on to ReplicaSets."""
    return spec_differs(old, new) or old["metadata"].get("annotations") != new["metadata"].get("annotations")


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="Deployment",
        plural="deployments",
        singular="deployment",
        namespaced=True,
        schema="io.k8s.api.apps.v1.Deployment",
        short_names=("deploy",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
        strategy=Strategy(
            default=default,
            prepare=workload.keep_status,
            validate=validate,
            warn=workload.warn_named_template,
            generation=_changed,
            resets={"": ("status",), "status": ("spec", "metadata.labels")},
        ),
        columns=_columns(),
        row=row,
    )

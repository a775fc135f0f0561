"""DaemonSet: one pod of a template on every node that it fits."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, not_supported, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds import printing
from podling.kinds.core import poddefaults, workload
from podling.kinds.printing import age, age_column, containers, doc, name, name_column, template_columns
from podling.kinds.validation import fields, meta
from podling.kinds.validation.fields import part, text
from podling.store.types import Object

_GENERATION: Final = "deprecated.daemonset.template.generation"
_COUNTS: Final = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
_MORE_COUNTS: Final = ("observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable")


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    workload.fill(spec, updateStrategy={}, revisionHistoryLimit=10)
    strategy: Object = spec["updateStrategy"]
    poddefaults.fill(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        workload.fill(strategy, rollingUpdate={})
        workload.fill(strategy["rollingUpdate"], maxUnavailable=1, maxSurge=0)
    poddefaults.pod_template(spec.setdefault("template", {}))
    _status(obj.setdefault("status", {}))


def _status(status: Object) -> None:
    for key in _COUNTS:
        status.setdefault(key, 0)


def prepare(write: Write) -> None:
    """Counts template generations, for controllers that came before revisions; kept as an annotation."""
    workload.keep_status(write)
    _status(write.new["status"])
    if write.subresource:
        return
    meta: Object = write.new["metadata"]
    annotations: Object = dict(part(meta, "annotations"))
    annotations[_GENERATION] = str(_template_generation(write))
    meta["annotations"] = annotations


def _template_generation(write: Write) -> int:
    if write.old is None:
        return 1
    old = int(part(write.old, "metadata", "annotations").get(_GENERATION) or 0)
    return old + (part(write.old, "spec").get("template") != part(write.new, "spec").get("template"))


def validate(write: Write) -> list[FieldError]:
    errors = meta.object_meta(write)
    if write.subresource == "status":
        keys = (*_COUNTS, *_MORE_COUNTS, "collisionCount")
        return errors + workload.status_counts(part(write.new, "status"), keys) + workload.collisions_kept(write)
    spec = part(write.new, "spec")
    errors += _spec(spec, "spec", strict=not workload.lenient_selector(write))
    if write.old is None:
        return errors
    return errors + fields.immutable_selector(spec, part(write.old, "spec"))


def _spec(spec: Object, path: str, *, strict: bool) -> list[FieldError]:
    selector: Object | None = spec.get("selector")
    errors = fields.label_selector(f"{path}.selector", selector, check_values=strict)
    errors += workload.selected_template(spec, path)
    if selector is not None and fields.selector_empty(selector):
        errors.append(invalid_value(f"{path}.selector", {}, "empty selector is invalid for daemonset"))
    errors += workload.podspec.template(part(spec, "template"), f"{path}.template")
    template = part(spec, "template", "spec")
    errors += workload.podspec.always_restarting(template, f"{path}.template.spec", "DaemonSet")
    errors += fields.non_negative(f"{path}.minReadySeconds", spec.get("minReadySeconds"))
    errors += _strategy(part(spec, "updateStrategy"), f"{path}.updateStrategy")
    return errors + fields.non_negative(f"{path}.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _strategy(strategy: Object, path: str) -> list[FieldError]:
    rolling: Object | None = strategy.get("rollingUpdate")
    match text(strategy, "type"):
        case "OnDelete":
            return []
        case "RollingUpdate":
            if rolling is None:
                return [required(f"{path}.rollingUpdate")]
            return _rolling(rolling, f"{path}.rollingUpdate")
        case other:
            shown = rolling and {"MaxUnavailable": rolling.get("maxUnavailable"), "MaxSurge": rolling.get("maxSurge")}
            return [not_supported(path, {"Type": other, "RollingUpdate": shown}, ("RollingUpdate", "OnDelete"))]


def _rolling(rolling: Object, path: str) -> list[FieldError]:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    errors = fields.int_or_percent(f"{path}.maxUnavailable", unavailable)
    errors += fields.int_or_percent(f"{path}.maxSurge", surge)
    errors += fields.at_most_100_percent(f"{path}.maxUnavailable", unavailable)
    errors += fields.at_most_100_percent(f"{path}.maxSurge", surge)
    some_unavailable = not fields.int_or_percent_is_zero(unavailable)
    some_surge = not fields.int_or_percent_is_zero(surge)
    if some_unavailable and some_surge:
        detail = "may not be set when maxUnavailable is non-zero"
        errors.append(invalid_value(f"{path}.maxSurge", surge, detail))
    elif not some_unavailable and not some_surge:
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Desired", "integer", description=doc("apps.v1.DaemonSetStatus.desiredNumberScheduled")),
        Column("Current", "integer", description=doc("apps.v1.DaemonSetStatus.currentNumberScheduled")),
        Column("Ready", "integer", description=doc("apps.v1.DaemonSetStatus.numberReady")),
        Column("Up-to-date", "integer", description=doc("apps.v1.DaemonSetStatus.updatedNumberScheduled")),
        Column("Available", "integer", description=doc("apps.v1.DaemonSetStatus.numberAvailable")),
        Column("Node Selector", description=doc("core.v1.PodSpec.nodeSelector")),
        age_column(),
        *template_columns(doc("apps.v1.DaemonSetSpec.selector")),
    )


_PRINTED: Final = (
    "desiredNumberScheduled",
    "currentNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
)


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    return [
        name(obj),
        *(status.get(key, 0) for key in _PRINTED),
        printing.labels(part(spec, "template", "spec").get("nodeSelector")),
        age(obj, now),
        *containers(part(spec, "template")),
        printing.selector(spec.get("selector")),
    ]


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="DaemonSet",
        plural="daemonsets",
        singular="daemonset",
        namespaced=True,
        schema="io.k8s.api.apps.v1.DaemonSet",
        short_names=("ds",),
        categories=("all",),
        status=True,
        strategy=Strategy(default=default, prepare=prepare, validate=validate, warn=workload.warn_template),
        columns=_columns(),
        row=row,
    )

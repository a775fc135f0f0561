"""PodDisruptionBudget: how many pods of a set must stay when somebody chooses to take some away."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import workload
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.conditions import conditions
from podling.kinds.validation.fields import part
from podling.kinds.validation.meta import common, metadata
from podling.store.types import Object

_EVICTION: Final = ("AlwaysAllow", "IfHealthyBudget")
_COUNTS: Final = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    _status(obj.setdefault("status", {}))


def _status(status: Object) -> None:
    for key in _COUNTS:
        status.setdefault(key, 0)


def prepare(write: Write) -> None:
    workload.keep_status(write)
    _status(write.new["status"])


def validate(write: Write) -> list[FieldError]:
    """Kubernetes' rules for budgets leave metadata to the API machinery, which looks at it when all else is well."""
    errors = common(write)
    if write.subresource == "status":
        return errors + _validate_status(part(write.new, "status"))
    errors += _spec(part(write.new, "spec"), strict=not workload.lenient_selector(write))
    if write.old is None and not errors:
        return metadata(write.new, namespaced=True, name=names.segment_name)
    return errors


def _spec(spec: Object, *, strict: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    available, unavailable = spec.get("minAvailable"), spec.get("maxUnavailable")
    if available is not None and unavailable is not None:
        detail = "minAvailable and maxUnavailable cannot be both set"
        errors.append(invalid_value("spec", _shown(spec), detail))
    for key, value in (("minAvailable", available), ("maxUnavailable", unavailable)):
        if value is not None:
            errors += fields.int_or_percent(f"spec.{key}", value)
            errors += fields.at_most_100_percent(f"spec.{key}", value)
    errors += fields.label_selector("spec.selector", spec.get("selector"), check_values=strict)
    if (policy := spec.get("unhealthyPodEvictionPolicy")) is not None:
        errors += fields.one_of("spec.unhealthyPodEvictionPolicy", policy, _EVICTION)
    return errors


def _validate_status(status: Object) -> list[FieldError]:
    return conditions("status.conditions", status.get("conditions")) + workload.status_counts(status, _COUNTS)


def _shown(spec: Object) -> Object:
    return {
        "MinAvailable": spec.get("minAvailable"),
        "Selector": None if spec.get("selector") is None else fields.shown_selector(spec["selector"]),
        "MaxUnavailable": spec.get("maxUnavailable"),
        "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
    }


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Min Available", description="The minimum number of pods that must be available."),
        Column("Max Unavailable", description="The maximum number of pods that may be unavailable."),
        Column(
            "Allowed Disruptions",
            "integer",
            description="Calculated number of pods that may be disrupted at this time.",
        ),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    shares = [str(spec[key]) if spec.get(key) is not None else "N/A" for key in ("minAvailable", "maxUnavailable")]
    return [name(obj), *shares, part(obj, "status").get("disruptionsAllowed", 0), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="policy",
        version="v1",
        kind="PodDisruptionBudget",
        plural="poddisruptionbudgets",
        singular="poddisruptionbudget",
        namespaced=True,
        schema="io.k8s.api.policy.v1.PodDisruptionBudget",
        short_names=("pdb",),
        status=True,
        strategy=Strategy(unconditional_update=False, default=default, prepare=prepare, validate=validate),
        columns=_columns(),
        row=row,
    )

"""PriorityClass: a name for how important pods are."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.podspec import SYSTEM_PRIORITY_CLASSES
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_HIGHEST: Final = 1_000_000_000
_SYSTEM: Final = "system-"


def default(obj: Object) -> None:
    if obj.get("preemptionPolicy") is None:
        obj["preemptionPolicy"] = "PreemptLowerPriority"


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.old is not None:
        if (write.new.get("value") or 0) != (write.old.get("value") or 0):
            errors.append(forbidden_field("value", "may not be changed in an update."))
        return errors + fields.immutable(
            "preemptionPolicy", write.new.get("preemptionPolicy"), write.old.get("preemptionPolicy")
        )
    return errors + _value(write.new) + _policy(write.new)


def _value(obj: Object) -> list[FieldError]:
    given, value = text(part(obj, "metadata"), "name"), obj.get("value") or 0
    if given.startswith(_SYSTEM):
        if given not in SYSTEM_PRIORITY_CLASSES:
            why = f"{given} is not a known system priority class"
        elif value != SYSTEM_PRIORITY_CLASSES[given]:
            why = f"value of {given} PriorityClass must be {SYSTEM_PRIORITY_CLASSES[given]}"
        elif obj.get("globalDefault"):
            why = f"globalDefault of {given} PriorityClass must be false"
        else:
            return []
        detail = f"priority class names with '{_SYSTEM}' prefix are reserved for system use only. error: {why}"
        return [forbidden_field("metadata.name", detail)]
    if value > _HIGHEST:
        detail = f"maximum allowed value of a user defined priority is {_HIGHEST}"
        return [forbidden_field("value", detail)]
    return []


def _policy(obj: Object) -> list[FieldError]:
    policy = obj.get("preemptionPolicy")
    if policy is None:
        return []
    return fields.one_of_required("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Value", "integer", description=doc("scheduling.v1.PriorityClass.value")),
        Column("Global-Default", "boolean", description=doc("scheduling.v1.PriorityClass.globalDefault")),
        age_column(),
        Column("PreemptionPolicy", description=doc("scheduling.v1.PriorityClass.preemptionPolicy")),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    default_, policy = bool(obj.get("globalDefault")), obj.get("preemptionPolicy") or ""
    return [name(obj), obj.get("value", 0), default_, age(obj, now), policy]


def resource() -> Resource:
    return Resource(
        group="scheduling.k8s.io",
        version="v1",
        kind="PriorityClass",
        plural="priorityclasses",
        singular="priorityclass",
        namespaced=False,
        schema="io.k8s.api.scheduling.v1.PriorityClass",
        short_names=("pc",),
        strategy=Strategy(default=default, validate=validate, generation=lambda _old, _new: False),
        columns=_columns(),
        row=row,
    )

"""StorageClass: how volumes are made for claims that name it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, invalid_value, required, too_long
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_RECLAIM: Final = ("Delete", "Retain")
_BINDING: Final = ("Immediate", "WaitForFirstConsumer")
_MAX_PARAMETERS: Final = 512
_MAX_PARAMETER_BYTES: Final = 256 * 1024
_DEFAULT_MARKS: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def default(obj: Object) -> None:
    if obj.get("reclaimPolicy") is None:
        obj["reclaimPolicy"] = "Delete"
    if obj.get("volumeBindingMode") is None:
        obj["volumeBindingMode"] = "Immediate"


def validate(write: Write) -> list[FieldError]:
    new, old = write.new, write.old
    errors = meta.common(write) + meta.whole(write)
    errors += provisioner(text(new, "provisioner"), "provisioner")
    errors += parameters(new.get("parameters"), "parameters")
    if policy := text(new, "reclaimPolicy"):
        errors += fields.one_of("reclaimPolicy", policy, _RECLAIM)
    errors += fields.one_of("volumeBindingMode", text(new, "volumeBindingMode"), _BINDING)
    errors += _topologies(new)
    if old is not None:
        errors += meta.changed(write)
        errors += fields.immutable("parameters", fields.go_map(new.get("parameters")), old.get("parameters"))
        for key in ("provisioner", "reclaimPolicy", "volumeBindingMode"):
            errors += fields.immutable(key, new.get(key), old.get(key))
    return errors


def provisioner(driver: str, path: str) -> list[FieldError]:
    if not driver:
        return [required(path)]
    return fields.says(path, driver.lower(), names.qualified_name(driver.lower()))


def parameters(values: Object | None, path: str) -> list[FieldError]:
    given = values or {}
    if len(given) > _MAX_PARAMETERS:
        return [too_long(path, _MAX_PARAMETERS)]
    errors = [invalid_value(path, key, "field can not be empty.") for key in given if not key]
    if sum(len(k.encode()) + len(v.encode()) for k, v in given.items()) > _MAX_PARAMETER_BYTES:
        errors.append(too_long(path, _MAX_PARAMETER_BYTES))
    return errors


def _topologies(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    # Kubernetes compares with as many empty terms as there are terms, too.
    known: list[dict[str, set[str]]] = [{} for _ in entries(obj, "allowedTopologies")]
    for at, term in each("allowedTopologies", obj.get("allowedTopologies")):
        values, wrong = _topology(term, at)
        errors += wrong
        errors += [duplicate(f"{at}.matchLabelExpressions", "") for other in known if other == values]
        known.append(values)
    return errors


def _topology(term: Object, path: str) -> tuple[dict[str, set[str]], list[FieldError]]:
    """The values that a term allows for each key, and what is wrong with it."""
    allowed: dict[str, set[str]] = {}
    errors: list[FieldError] = []
    for at, expression in each(f"{path}.matchLabelExpressions", term.get("matchLabelExpressions")):
        key, values = text(expression, "key"), entries(expression, "values")
        if not values:
            errors.append(required(f"{at}.values"))
        for index, value in enumerate(values):
            if value in values[:index]:
                errors.append(duplicate(f"{at}.values[{index}]", value))
        errors += fields.check(f"{at}.key", key, names.qualified_name)
        if key in allowed:
            errors.append(duplicate(f"{at}.key", key))
        allowed[key] = set(values)
    return allowed, errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Provisioner", description=doc("storage.v1.StorageClass.provisioner")),
        Column("ReclaimPolicy", description=doc("storage.v1.StorageClass.reclaimPolicy")),
        Column("VolumeBindingMode", description=doc("storage.v1.StorageClass.volumeBindingMode")),
        Column("AllowVolumeExpansion", description=doc("storage.v1.StorageClass.allowVolumeExpansion")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    marks = part(obj, "metadata", "annotations")
    is_default = any(marks.get(mark) == "true" for mark in _DEFAULT_MARKS)
    return [
        name(obj) + (" (default)" if is_default else ""),
        text(obj, "provisioner"),
        text(obj, "reclaimPolicy") or "Delete",
        text(obj, "volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="StorageClass",
        plural="storageclasses",
        singular="storageclass",
        namespaced=False,
        schema="io.k8s.api.storage.v1.StorageClass",
        short_names=("sc",),
        strategy=Strategy(default=default, validate=validate, generation=None, returns_deleted=True),
        columns=_columns(),
        row=row,
    )

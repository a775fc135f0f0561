"""ConfigMap: settings that pods read."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import entries, part
from podling.kinds.validation.meta import changed, common, whole
from podling.store.types import Object

_MAX_SIZE: Final = 1024 * 1024


def validate(write: Write) -> list[FieldError]:
    errors = common(write) + changed(write)
    if part(write.old or {}).get("immutable"):
        errors += _frozen(write.new, write.old or {})
    return errors + whole(write) + _data(write.new)


def _frozen(new: Object, old: Object) -> list[FieldError]:
    detail = "field is immutable when `immutable` is set"
    errors: list[FieldError] = []
    if not new.get("immutable"):
        errors.append(forbidden_field("immutable", detail))
    for key in ("data", "binaryData"):
        if part(new, key) != part(old, key):
            errors.append(forbidden_field(key, detail))
    return errors


def _data(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    data: dict[str, str] = part(obj, "data")
    binary: dict[str, str] = part(obj, "binaryData")
    size = sum(len(v.encode()) for v in data.values())
    for key in data:
        errors += fields.check(f"data[{key}]", key, names.config_map_key)
        if key in binary:
            errors.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key, value in binary.items():
        errors += fields.check(f"binaryData[{key}]", key, names.config_map_key)
        size += len(value) * 3 // 4 - value.count("=")
    if size > _MAX_SIZE:
        message = f"Too long: may not be more than {_MAX_SIZE} bytes"
        errors.append(FieldError("FieldValueTooLong", "", message))
    return errors


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), len(entries(obj, "data")) + len(entries(obj, "binaryData")), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ConfigMap",
        plural="configmaps",
        singular="configmap",
        namespaced=True,
        schema="io.k8s.api.core.v1.ConfigMap",
        short_names=("cm",),
        strategy=Strategy(validate=validate, generation=None),
        columns=(name_column(), Column("Data", description=doc("core.v1.ConfigMap.data")), age_column()),
        row=row,
    )

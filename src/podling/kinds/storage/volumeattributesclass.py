"""VolumeAttributesClass: qualities of a volume that can change while it is in use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, forbidden_field, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.storage.storageclass import parameters, provisioner
from podling.kinds.validation import meta
from podling.kinds.validation.fields import text
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    new, old = write.new, write.old
    whole = meta.whole(write) + provisioner(text(new, "driverName"), "driverName")
    whole += parameters(new.get("parameters"), "parameters")
    if not new.get("parameters"):
        whole.append(required("parameters", "must contain at least one key/value pair"))
    if old is None:
        return whole
    errors = meta.common(write) + meta.changed(write)
    for key in ("driverName", "parameters"):
        if (new.get(key) or None) != (old.get(key) or None):
            errors.append(forbidden_field(key, f"updates to {key} are forbidden."))
    return errors + whole


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), text(obj, "driverName"), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="VolumeAttributesClass",
        plural="volumeattributesclasses",
        singular="volumeattributesclass",
        namespaced=False,
        schema="io.k8s.api.storage.v1.VolumeAttributesClass",
        short_names=("vac",),
        strategy=Strategy(validate=validate, generation=None),
        columns=(
            name_column(),
            Column("DriverName", description=doc("storage.v1.VolumeAttributesClass.driverName")),
            age_column(),
        ),
        row=row,
    )

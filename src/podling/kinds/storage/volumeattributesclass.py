"""VolumeAttributesClass: qualities of a volume that can change while it is in use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.volumes import csi_driver
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.storage.storageclass import parameters
from podling.kinds.validation import fields
from podling.kinds.validation.fields import text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.old is not None:
        for key in ("driverName", "parameters"):
            errors += fields.immutable(key, write.new.get(key), write.old.get(key))
        return errors
    errors += csi_driver(text(write.new, "driverName"), "driverName")
    if not write.new.get("parameters"):
        return [*errors, required("parameters", "must contain at least one key/value pair")]
    return errors + parameters(write.new["parameters"], "parameters")


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

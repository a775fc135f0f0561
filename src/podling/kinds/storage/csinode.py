"""CSINode: the storage drivers of one node."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.volumes import csi_driver
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    for at, driver in each("spec.drivers", part(write.new, "spec").get("drivers")):
        errors += csi_driver(text(driver, "name"), f"{at}.name")
        if not driver.get("nodeID"):
            errors.append(required(f"{at}.nodeID"))
        errors += fields.non_negative(f"{at}.allocatable.count", part(driver, "allocatable").get("count"))
    return errors


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), len(entries(part(obj, "spec"), "drivers")), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="CSINode",
        plural="csinodes",
        singular="csinode",
        namespaced=False,
        schema="io.k8s.api.storage.v1.CSINode",
        strategy=Strategy(validate=validate, generation=None, returns_deleted=True),
        columns=(
            name_column(),
            Column("Drivers", "integer", description=doc("storage.v1.CSINodeSpec.drivers")),
            age_column(),
        ),
        row=row,
    )

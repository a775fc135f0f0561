"""CSIStorageCapacity: how much room a driver has in some part of the cluster."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.requirements import canonical, nanos
from podling.kinds.printing import UNSET, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    new = write.new
    errors = object_meta(write)
    errors += fields.label_selector("nodeTopology", new.get("nodeTopology"))
    errors += fields.check("storageClassName", text(new, "storageClassName"), names.dns1123_subdomain)
    for key in ("capacity", "maximumVolumeSize"):
        if new.get(key) is not None and nanos(new[key]) < 0:
            errors.append(invalid_value(key, canonical(new[key]), fields.NON_NEGATIVE))
    if write.old is not None:
        for key in ("nodeTopology", "storageClassName"):
            errors += fields.immutable(key, new.get(key), write.old.get(key))
    return errors


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), text(obj, "storageClassName"), obj.get("capacity") or UNSET, age(obj, now)]


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("StorageClassName", description=doc("storage.v1.CSIStorageCapacity.storageClassName")),
        Column("Capacity", description=doc("storage.v1.CSIStorageCapacity.capacity")),
        age_column(),
    )


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="CSIStorageCapacity",
        plural="csistoragecapacities",
        singular="csistoragecapacity",
        namespaced=True,
        schema="io.k8s.api.storage.v1.CSIStorageCapacity",
        strategy=Strategy(validate=validate, generation=None),
        columns=_columns(),
        row=row,
    )

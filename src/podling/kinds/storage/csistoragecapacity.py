"""CSIStorageCapacity: how much room a driver has in some part of the cluster."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.requirements import canonical, nanos
from podling.kinds.printing import UNSET, doc, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import text
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    new, old = write.new, write.old
    errors = meta.common(write) + meta.whole(write)
    errors += fields.label_selector("nodeTopology", new.get("nodeTopology"))
    errors += fields.check("storageClassName", text(new, "storageClassName"), names.dns1123_subdomain)
    if new.get("capacity") is not None and nanos(new["capacity"]) < 0:
        errors.append(invalid_value("capacity", canonical(new["capacity"]), fields.NON_NEGATIVE))
    if old is None:
        return errors
    errors += meta.changed(write)
    if (new.get("nodeTopology") or None) != (old.get("nodeTopology") or None):
        shown = fields.shown_selector(new["nodeTopology"]) if new.get("nodeTopology") is not None else None
        errors.append(invalid_value("nodeTopology", shown, fields.IMMUTABLE))
    return errors + fields.immutable("storageClassName", text(new, "storageClassName"), text(old, "storageClassName"))


def row(obj: Object, now: datetime) -> list[Any]:  # noqa: ARG001  a Row: this kind shows no age
    return [name(obj), text(obj, "storageClassName"), obj.get("capacity") or UNSET]


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("StorageClassName", description=doc("storage.v1.CSIStorageCapacity.storageClassName")),
        Column("Capacity", description=doc("storage.v1.CSIStorageCapacity.capacity")),
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
        strategy=Strategy(unconditional_update=False, validate=validate, generation=None),
        columns=_columns(),
        row=row,
    )

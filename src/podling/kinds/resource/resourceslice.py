"""ResourceSlice: the devices of a node or a network, as their driver tells them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    errors += fields.check_required("spec.driver", text(spec, "driver"), names.dns1123_subdomain)
    if write.old is not None:
        before = part(write.old, "spec")
        for key in ("driver", "nodeName"):
            errors += fields.immutable(f"spec.{key}", spec.get(key), before.get(key))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Node", description=doc("resource.v1.ResourceSliceSpec.nodeName")),
        Column("Driver", description=doc("resource.v1.ResourceSliceSpec.driver")),
        Column("Pool", description=doc("resource.v1.ResourcePool.name")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    return [
        name(obj),
        spec.get("nodeName") or "<unset>",
        text(spec, "driver"),
        text(part(spec, "pool"), "name"),
        age(obj, now),
    ]


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="ResourceSlice",
        plural="resourceslices",
        singular="resourceslice",
        namespaced=False,
        schema="io.k8s.api.resource.v1.ResourceSlice",
        strategy=Strategy(validate=validate),
        columns=_columns(),
        row=row,
    )

"""ResourceClaim: devices that a pod asks for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.old is not None and write.subresource != "status":
        errors += fields.immutable("spec", write.new.get("spec"), write.old.get("spec"))
    return errors


def _columns() -> tuple[Column, ...]:
    state = "A summary of the current state (allocated, pending, reserved, etc.)."
    return (name_column(), Column("State", description=state), age_column())


def row(obj: Object, now: datetime) -> list[Any]:
    status = part(obj, "status")
    words = ["deleted"] if part(obj, "metadata").get("deletionTimestamp") else []
    if status.get("allocation") is None:
        words.append("pending")
    else:
        words.append("allocated")
        if status.get("reservedFor"):
            words.append("reserved")
    return [name(obj), ",".join(words), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="ResourceClaim",
        plural="resourceclaims",
        singular="resourceclaim",
        namespaced=True,
        schema="io.k8s.api.resource.v1.ResourceClaim",
        status=True,
        strategy=Strategy(prepare=keep_status, validate=validate, generation=None),
        columns=_columns(),
        row=row,
    )

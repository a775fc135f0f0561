"""RuntimeClass: another way of running containers, and what it costs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import requirements, scheduling
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    handler = text(write.new, "handler")
    errors += fields.check("handler", handler, names.dns1123_label)
    overhead = part(write.new, "overhead", "podFixed")
    errors += requirements.requirements({"requests": overhead}, "overhead.podFixed") if overhead else []
    placing = part(write.new, "scheduling")
    errors += fields.labels("scheduling.nodeSelector", placing.get("nodeSelector"))
    errors += scheduling.tolerations(placing.get("tolerations"), "scheduling.tolerations")
    if write.old is not None and handler != text(write.old, "handler"):
        errors.append(invalid_value("handler", handler, fields.IMMUTABLE))
    return errors


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), text(obj, "handler"), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="node.k8s.io",
        version="v1",
        kind="RuntimeClass",
        plural="runtimeclasses",
        singular="runtimeclass",
        namespaced=False,
        schema="io.k8s.api.node.v1.RuntimeClass",
        strategy=Strategy(validate=validate, generation=None),
        columns=(name_column(), Column("Handler"), age_column()),
        row=row,
    )

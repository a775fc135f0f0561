"""RuntimeClass: another way of running containers, and what it costs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, duplicate
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import requirements, scheduling
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import part, text
from podling.store.types import Object

_TOLERATION_KEYS: Final = ("key", "operator", "value", "effect")
"""What tells tolerations apart."""


def validate(write: Write) -> list[FieldError]:
    errors = meta.common(write) + meta.whole(write, any_finalizer=True)
    handler = text(write.new, "handler")
    errors += fields.check_required("handler", handler, names.dns1123_label)
    overhead = part(write.new, "overhead", "podFixed")
    errors += requirements.requirements({"limits": overhead}, "overhead") if overhead else []
    placing = part(write.new, "scheduling")
    errors += fields.labels("scheduling.nodeSelector", placing.get("nodeSelector"))
    errors += _tolerations(placing.get("tolerations"), "scheduling.tolerations")
    if write.old is not None:
        errors += meta.changed(write, any_finalizer=True) + fields.immutable(
            "handler", handler, text(write.old, "handler")
        )
    return errors


def _tolerations(items: list[Object] | None, path: str) -> list[FieldError]:
    errors = scheduling.tolerations(items, path)
    seen: list[list[str]] = []
    for at, toleration in fields.each(path, items):
        identity = [text(toleration, key) for key in _TOLERATION_KEYS]
        if identity in seen:
            errors.append(duplicate(at, _shown(toleration)))
        seen.append(identity)
    return errors


def _shown(toleration: Object) -> Object:
    """A toleration as Go prints it."""
    shown = {key.capitalize(): text(toleration, key) for key in _TOLERATION_KEYS}
    return {**shown, "TolerationSeconds": toleration.get("tolerationSeconds")}


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
        strategy=Strategy(create_on_update=True, unconditional_update=False, validate=validate, generation=None),
        columns=(name_column(), Column("Handler"), age_column()),
        row=row,
    )

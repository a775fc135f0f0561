"""ControllerRevision: one version of a template, kept so that a rollout can go back to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, required
from podling.api.meta import controller_reference
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = meta.whole(write)
    if write.new.get("data") is None:
        errors.append(required("data", "data is mandatory"))
    errors += fields.non_negative("revision", write.new.get("revision"))
    if write.old is not None:
        errors = meta.common(write) + meta.changed(write) + errors
        errors += fields.immutable("data", write.new.get("data"), write.old.get("data"))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Controller", description="Controller of the object"),
        Column("Revision", description=doc("apps.v1.ControllerRevision.revision")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), _controller(obj), obj.get("revision", 0), age(obj, now)]


def _controller(obj: Object) -> str:
    """`statefulset.apps/web`."""
    owner = controller_reference(obj)
    if owner is None:
        return NONE
    group = owner["apiVersion"].rpartition("/")[0]
    return f"{owner['kind'].lower()}{'.' if group else ''}{group}/{owner['name']}"


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="ControllerRevision",
        plural="controllerrevisions",
        singular="controllerrevision",
        namespaced=True,
        schema="io.k8s.api.apps.v1.ControllerRevision",
        strategy=Strategy(validate=validate, generation=None),
        columns=_columns(),
        row=row,
    )

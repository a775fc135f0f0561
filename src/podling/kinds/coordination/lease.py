"""Lease: who holds something, and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_COORDINATED: Final = ("strategy", "preferredHolder")


def default(obj: Object) -> None:
    obj.setdefault("spec", {})


def prepare(write: Write) -> None:
    """Coordinated leader election is off in 1.36: its fields stay only where they are already in use."""
    spec: Object = write.new["spec"]
    for key in _COORDINATED:
        if write.old is None or part(write.old, "spec").get(key) is None:
            spec.pop(key, None)


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, any_finalizer=True)
    spec = part(write.new, "spec")
    errors += fields.positive("spec.leaseDurationSeconds", spec.get("leaseDurationSeconds"))
    errors += fields.non_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
    return errors


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), text(part(obj, "spec"), "holderIdentity"), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="coordination.k8s.io",
        version="v1",
        kind="Lease",
        plural="leases",
        singular="lease",
        namespaced=True,
        schema="io.k8s.api.coordination.v1.Lease",
        strategy=Strategy(
            default=default,
            prepare=prepare,
            validate=validate,
            generation=None,
            create_on_update=True,
            unconditional_update=False,
        ),
        columns=(
            name_column(),
            Column("Holder", description=doc("coordination.v1.LeaseSpec.holderIdentity")),
            age_column(),
        ),
        row=row,
    )

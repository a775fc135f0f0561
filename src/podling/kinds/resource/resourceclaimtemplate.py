"""ResourceClaimTemplate: claims for devices, one for each pod."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import age_columns, age_row
from podling.kinds.validation import fields
from podling.kinds.validation.meta import object_meta


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.old is not None:
        errors += fields.immutable("spec", write.new.get("spec"), write.old.get("spec"))
    return errors


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="ResourceClaimTemplate",
        plural="resourceclaimtemplates",
        singular="resourceclaimtemplate",
        namespaced=True,
        schema="io.k8s.api.resource.v1.ResourceClaimTemplate",
        strategy=Strategy(validate=validate, generation=None),
        columns=age_columns(),
        row=age_row,
    )

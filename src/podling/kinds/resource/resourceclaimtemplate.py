"""ResourceClaimTemplate: claims for devices, one for each pod."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import age_columns, age_row
from podling.kinds.resource import devices
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("metadata", {})
    devices.default(spec.setdefault("spec", {}))


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    if write.old is not None:
        return errors + fields.immutable("spec", spec, part(write.old, "spec"))
    namespace = write.reader.get("namespaces", "", text(part(write.new, "metadata"), "namespace"))
    claim, meta = part(spec, "spec"), part(spec, "metadata")
    errors = devices.admin_access(claim, namespace, "spec.spec") + errors
    errors += fields.annotation_map("spec.metadata.annotations", meta.get("annotations"))
    errors += fields.labels("spec.metadata.labels", meta.get("labels"))
    return errors + devices.claim_spec(claim, "spec.spec")


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="ResourceClaimTemplate",
        plural="resourceclaimtemplates",
        singular="resourceclaimtemplate",
        namespaced=True,
        schema="io.k8s.api.resource.v1.ResourceClaimTemplate",
        strategy=Strategy(default=default, validate=validate, generation=None),
        columns=age_columns(),
        row=age_row,
    )

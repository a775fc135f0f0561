"""VolumeAttachment: that a volume is to be attached to a node."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.volumes import csi_driver
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def default(obj: Object) -> None:
    obj.setdefault("status", {}).setdefault("attached", False)


def prepare(write: Write) -> None:
    if write.old is None:
        write.new["status"] = {"attached": False}
    elif write.subresource != "status":
        write.new["status"] = write.old.get("status") or {"attached": False}


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    if write.old is not None:
        return errors + fields.immutable("spec", spec, part(write.old, "spec"))
    errors += csi_driver(text(spec, "attacher"), "spec.attacher")
    source = part(spec, "source")
    given = [key for key in ("inlineVolumeSpec", "persistentVolumeName") if source.get(key) is not None]
    if not given:
        errors.append(required("spec.source", "must specify either inlineVolumeSpec and persistentVolumeName"))
    elif len(given) > 1:
        detail = "cannot specify both inlineVolumeSpec and persistentVolumeName"
        errors.append(invalid_value("spec.source", source, detail))
    return errors + fields.check_required("spec.nodeName", text(spec, "nodeName"), names.dns1123_subdomain)


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Attacher", format="name", description=doc("storage.v1.VolumeAttachmentSpec.attacher")),
        Column("PV", description=doc("storage.v1.VolumeAttachmentSource.persistentVolumeName")),
        Column("Node", description=doc("storage.v1.VolumeAttachmentSpec.nodeName")),
        Column("Attached", "boolean", description=doc("storage.v1.VolumeAttachmentStatus.attached")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    return [
        name(obj),
        text(spec, "attacher"),
        text(part(spec, "source"), "persistentVolumeName"),
        text(spec, "nodeName"),
        bool(part(obj, "status").get("attached")),
        age(obj, now),
    ]


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="VolumeAttachment",
        plural="volumeattachments",
        singular="volumeattachment",
        namespaced=False,
        schema="io.k8s.api.storage.v1.VolumeAttachment",
        status=True,
        strategy=Strategy(default=default, prepare=prepare, validate=validate, generation=None, returns_deleted=True),
        columns=_columns(),
        row=row,
    )

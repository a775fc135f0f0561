"""VolumeAttachment: that a volume is to be attached to a node."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required, too_long
from podling.api.resources import STATUS_ALONE, Column, Resource, Strategy, Write
from podling.kinds.core.volumes import access_modes, csi_driver
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import part, text
from podling.store.types import Object

_MAX_METADATA: Final = 256 * 1024
_MAX_MESSAGE: Final = 1024
_MAX_INT32: Final = 2**31 - 1


def default(obj: Object) -> None:
    obj.setdefault("status", {}).setdefault("attached", False)


def prepare(write: Write) -> None:
    if write.old is None:
        write.new["status"] = {"attached": False}
    elif write.subresource != "status":
        write.new["status"] = write.old.get("status") or {"attached": False}


def validate(write: Write) -> list[FieldError]:
    spec = part(write.new, "spec")
    whole = meta.whole(write) + _spec(spec, "spec") + _status(part(write.new, "status"), "status")
    if write.old is None:
        return whole + _new(spec, "spec")
    if write.subresource == "status":
        return meta.common(write) + whole
    return meta.common(write) + whole + fields.immutable("spec", spec, part(write.old, "spec"))


def _spec(spec: Object, path: str) -> list[FieldError]:
    errors = [] if text(spec, "attacher") else [required(f"{path}.attacher")]
    errors += _source(part(spec, "source"), f"{path}.source")
    return errors + fields.check(f"{path}.nodeName", text(spec, "nodeName"), names.dns1123_subdomain)


def _new(spec: Object, path: str) -> list[FieldError]:
    """What has been asked of new ones only, since v1."""
    errors = csi_driver(text(spec, "attacher"), f"{path}.attacher")
    volume = part(spec, "source").get("persistentVolumeName")
    if volume is not None:
        errors += fields.check(f"{path}.source.persistentVolumeName", volume, names.dns1123_subdomain)
    return errors


def _source(source: Object, path: str) -> list[FieldError]:
    inline: Object | None = source.get("inlineVolumeSpec")
    volume: str | None = source.get("persistentVolumeName")
    detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and volume is None:
        return [required(path, detail)]
    if inline is not None and volume is not None:
        return [forbidden_field(path, detail)]
    if inline is not None:
        return _inline(inline, f"{path}.inlineVolumeSpec")
    return [] if volume else [required(f"{path}.persistentVolumeName", "must specify non empty persistentVolumeName")]


def _inline(spec: Object, path: str) -> list[FieldError]:
    errors = [
        forbidden_field(f"{path}.{key}", "may not be specified in the context of inline volumes")
        for key in ("claimRef", "capacity")
        if spec.get(key)
    ]
    if spec.get("csi") is None:
        errors.append(required(f"{path}.csi", "has to be specified in the context of inline volumes"))
    if not spec.get("accessModes"):
        return [*errors, required(f"{path}.accessModes")]
    return errors + access_modes(spec["accessModes"], f"{path}.accessModes")


def _status(status: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    metadata: Object = part(status, "attachmentMetadata")
    if sum(len(k.encode()) + len(v.encode()) for k, v in metadata.items()) > _MAX_METADATA:
        errors.append(too_long(f"{path}.attachmentMetadata", _MAX_METADATA))
    for key in ("attachError", "detachError"):
        error = part(status, key)
        if len(text(error, "message").encode()) > _MAX_MESSAGE:
            # The limit that Kubernetes tells is the other one.
            errors.append(too_long(f"{path}.{key}.message", _MAX_METADATA))
        code = error.get("errorCode")
        if code is not None and code < 0:
            detail = f"must be between 0 and {_MAX_INT32}, inclusive"
            errors.append(invalid_value(f"{path}.{key}.errorCode", code, detail))
    return errors


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
        strategy=Strategy(
            unconditional_update=False,
            default=default,
            prepare=prepare,
            validate=validate,
            generation=None,
            returns_deleted=True,
            resets=STATUS_ALONE,
        ),
        columns=_columns(),
        row=row,
    )

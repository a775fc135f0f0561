"""PersistentVolumeClaim: what somebody needs of storage, and the volume that was found for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import poddefaults, podwarnings, requirements, volumes
from podling.kinds.core.internal import STRUCTS
from podling.kinds.core.persistentvolume import BETA_CLASS, access_modes, storage_class, warn_old_class
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import UNSET, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import changed, common, object_meta, whole
from podling.store.types import Object


def default(obj: Object) -> None:
    poddefaults.claim_spec(obj.setdefault("spec", {}))
    poddefaults.fill(obj.setdefault("status", {}), "phase", "Pending")


def prepare(write: Write) -> None:
    keep_status(write)
    if write.old is None:
        write.new["status"]["phase"] = "Pending"
    if write.subresource != "status":
        _same_sources(write.new["spec"], part(write.old or {}, "spec"))


def _same_sources(spec: Object, before: Object) -> None:
    """`dataSource` and `dataSourceRef` mean the same where both can say it.

    A source in another namespace belongs to a feature that is off, and is dropped; so is a `dataSource` of a kind that
    claims could not be filled from at first.
    """
    reference: Object | None = spec.get("dataSourceRef")
    if reference and reference.get("namespace") and before.get("dataSourceRef") is None:
        reference = spec.pop("dataSourceRef", None) and None
    source: Object | None = spec.get("dataSource")
    held = before.get("dataSource") is not None or before.get("dataSourceRef") is not None
    if source is not None and reference is None and not held and not _restorable(source):
        del spec["dataSource"]
    elif source is not None and reference is None:
        spec["dataSourceRef"] = _reference(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = _reference(reference)


def _reference(source: Object) -> Object:
    return {key: source[key] for key in ("apiGroup", "kind", "name") if key in source}


def _restorable(source: Object) -> bool:
    """Whether it is one of the two kinds that claims could be filled from first."""
    known = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))
    return (text(source, "apiGroup"), text(source, "kind")) in known


def validate(write: Write) -> list[FieldError]:
    spec = part(write.new, "spec")
    if write.old is None:
        return object_meta(write) + volumes.claim_spec(spec, "spec")
    if write.subresource == "status":
        return object_meta(write) + _status(write.new)
    before = part(write.old, "spec")
    any_group = any(part(before, key).get("apiGroup") is not None for key in ("dataSource", "dataSourceRef"))
    errors = common(write) + changed(write) + whole(write) + volumes.claim_spec(spec, "spec", any_group=any_group)
    return errors + _update(write.new, write.old)


_RESIZE_STATUSES: Final = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)


def _status(obj: Object) -> list[FieldError]:
    status = part(obj, "status")
    errors: list[FieldError] = []
    if not part(obj, "spec").get("accessModes"):
        errors.append(required("Spec.accessModes"))
    for key, amount in part(status, "capacity").items():
        errors += _amount(amount, f"status.capacity[{key}]")
    path = "status.allocatedResourceStatuses"
    for key, value in part(status, "allocatedResourceStatuses").items():
        errors += _resource(key, path)
        if value not in _RESIZE_STATUSES:
            errors.append(not_supported(path, key, sorted(_RESIZE_STATUSES)))
    path = "status.allocatedResources"
    for key, amount in part(status, "allocatedResources").items():
        errors += _resource(key, path) or _amount(amount, f"{path}[{key}]")
    return errors


def _resource(key: str, path: str) -> list[FieldError]:
    """A claim holds storage; other people's controllers may count something of their own."""
    errors = fields.check(path, key, names.qualified_name)
    if errors or key == "storage" or not requirements.is_native(key):
        return errors
    return [not_supported(path, key, ("storage",))]


def _amount(amount: Any, path: str) -> list[FieldError]:
    value = requirements.quantity.of(amount).value
    return [invalid_value(path, value, "must be a valid resource quantity")] if value < 0 else []


def _update(obj: Object, old: Object) -> list[FieldError]:
    """The rules of `ValidatePersistentVolumeClaimUpdate`."""
    after, before, status = part(obj, "spec"), part(old, "spec"), part(old, "status")
    errors = _old_class(obj, old)
    held = before if text(before, "volumeName") else {**before, "volumeName": after.get("volumeName")}
    munged = _munged(after, held, old)
    if fields.comparable(munged) != fields.comparable(held):
        detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName"
        shown = STRUCTS.difference("PersistentVolumeClaimSpec", held, munged)
        errors.append(forbidden_field("spec", f"{detail} for bound claims\n{shown}"))
    size, was = (
        requirements.nanos(part(spec, "resources", "requests").get("storage", "0")) for spec in (after, before)
    )
    if size < was and size <= requirements.nanos(part(status, "capacity").get("storage", "0")):
        detail = "field can not be less than status.capacity"
        errors.append(forbidden_field("spec.resources.requests.storage", detail))
    errors += fields.immutable("volumeMode", after.get("volumeMode"), before.get("volumeMode"))
    class_, path = after.get("volumeAttributesClassName"), "spec.volumeAttributesClassName"
    if class_ != before.get("volumeAttributesClassName") and status.get("currentVolumeAttributesClassName") is not None:
        called = {None: "nil", "": "empty string"}.get(class_)
        if called:
            detail = f"update to {called} is forbidden when status.currentVolumeAttributesClassName is not nil"
            errors.append(forbidden_field(path, detail))
    return errors


def _class_moves(obj: Object, old: Object) -> bool:
    """Whether the class, once an annotation, is now said by the field."""
    class_, was = _annotated(obj), _annotated(old)
    spec, before = part(obj, "spec"), part(old, "spec")
    wanted = spec.get("storageClassName")
    return (
        was is not None
        and before.get("storageClassName") is None
        and wanted == was
        and (class_ is None or class_ == was)
    )


def _annotated(obj: Object) -> str | None:
    return part(obj, "metadata", "annotations").get(BETA_CLASS)


def _old_class(obj: Object, old: Object) -> list[FieldError]:
    if _class_moves(obj, old):
        return []
    class_, was = _annotated(obj) or "", _annotated(old) or ""
    if class_ == was:
        return []
    return [invalid_value(f"metadata.annotations.{BETA_CLASS}", class_, fields.IMMUTABLE)]


def _munged(after: Object, before: Object, old: Object) -> Object:
    """The new spec with everything taken back that may change: a class may come where none was said, a bound claim may
    grow and get another class of attributes."""
    spec = dict(after)
    if before.get("storageClassName") is None and _annotated(old) in (None, spec.get("storageClassName")):
        spec["storageClassName"] = None
    if text(part(old, "status"), "phase") == "Bound":
        resources: Object = part(spec, "resources")
        if resources.get("requests") is not None:
            storage = part(before, "resources", "requests").get("storage")
            spec["resources"] = {**resources, "requests": {**resources["requests"], "storage": storage}}
        spec["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
    return spec


def warn(write: Write) -> None:
    if write.subresource:
        return
    warn_old_class(write)
    write.warnings += podwarnings.of_claim(part(write.new, "spec"), "spec")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Status", description=doc("core.v1.PersistentVolumeClaimStatus.phase")),
        Column("Volume", description=doc("core.v1.PersistentVolumeClaimSpec.volumeName")),
        Column("Capacity", description=doc("core.v1.PersistentVolumeClaimStatus.capacity")),
        Column("Access Modes", description=doc("core.v1.PersistentVolumeClaimStatus.accessModes")),
        Column("StorageClass", description="StorageClass of the pvc"),
        Column("VolumeAttributesClass", description="VolumeAttributesClass of the pvc"),
        age_column(),
        Column("VolumeMode", description=doc("core.v1.PersistentVolumeClaimSpec.volumeMode"), priority=1),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    volume = text(spec, "volumeName")
    return [
        name(obj),
        "Terminating" if part(obj, "metadata").get("deletionTimestamp") else text(status, "phase"),
        volume,
        text(part(status, "capacity"), "storage") or "0" if volume else "",
        access_modes(status.get("accessModes")) if volume else "",
        storage_class(obj),
        spec.get("volumeAttributesClassName", UNSET),
        age(obj, now),
        text(spec, "volumeMode") or UNSET,
    ]


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="PersistentVolumeClaim",
        plural="persistentvolumeclaims",
        singular="persistentvolumeclaim",
        namespaced=True,
        schema="io.k8s.api.core.v1.PersistentVolumeClaim",
        short_names=("pvc",),
        status=True,
        strategy=Strategy(
            default=default, prepare=prepare, validate=validate, warn=warn, generation=None, returns_deleted=True
        ),
        columns=_columns(),
        row=row,
    )

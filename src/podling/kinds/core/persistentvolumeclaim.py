"""PersistentVolumeClaim: what somebody needs of storage, and the volume that was found for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import poddefaults, requirements, volumes
from podling.kinds.core.persistentvolume import access_modes, storage_class
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import UNSET, age, age_column, doc, name, name_column
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_LATER: Final = ("volumeName", "storageClassName", "resources", "volumeAttributesClassName")
"""What may change by rules of its own after creation."""


def default(obj: Object) -> None:
    poddefaults.claim_spec(obj.setdefault("spec", {}))
    poddefaults.fill(obj.setdefault("status", {}), "phase", "Pending")


def prepare(write: Write) -> None:
    keep_status(write)
    if write.old is None:
        write.new["status"]["phase"] = "Pending"
    if write.subresource != "status":
        _same_sources(write.new["spec"])


def _same_sources(spec: Object) -> None:
    """`dataSource` and `dataSourceRef` mean the same where both can say it."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source and not reference and not _restorable(source):
        del spec["dataSource"]
    elif source and not reference:
        spec["dataSourceRef"] = dict(source)
    elif reference and not source and not reference.get("namespace") and _restorable(reference):
        spec["dataSource"] = dict(reference)


def _restorable(source: Object) -> bool:
    """Whether it is one of the two kinds that claims could be filled from first."""
    known = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))
    return (text(source, "apiGroup"), text(source, "kind")) in known


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.subresource == "status":
        return errors + _status(part(write.new, "status"))
    spec = part(write.new, "spec")
    errors += volumes.claim_spec(spec, "spec")
    if write.old is not None:
        errors += _update(spec, write.old)
    return errors


def _status(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("capacity", "allocatedResources"):
        for name_, amount in part(status, key).items():
            errors += requirements.amount_value(name_, amount, f"status.{key}[{name_}]")
    return errors


def _update(spec: Object, old: Object) -> list[FieldError]:
    before = part(old, "spec")
    bound = text(part(old, "status"), "phase") == "Bound"
    errors: list[FieldError] = []
    if _rest(spec) != _rest(before) or not _allowed(spec, before, bound):
        detail = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName "
            f"for bound claims\n{_difference(spec, before)}"
        )
        errors.append(forbidden_field("spec", detail))
    elif bound and _storage(spec) < _storage(before):
        detail = "field can not be less than previous value"
        errors.append(forbidden_field("spec.resources.requests.storage", detail))
    return errors


def _storage(spec: Object) -> int:
    return requirements.nanos(part(spec, "resources", "requests").get("storage", "0"))


def _rest(spec: Object) -> Object:
    return {k: v for k, v in spec.items() if k not in _LATER and v not in (None, "", [], {})}


def _allowed(spec: Object, before: Object, bound: bool) -> bool:
    """A claim without a volume may get one; a class may come where none was said; a bound claim may grow."""
    volume = text(before, "volumeName") in ("", text(spec, "volumeName"))
    class_ = before.get("storageClassName") in (None, spec.get("storageClassName"))
    resources = bound or part(spec, "resources") == part(before, "resources")
    attributes = bound or spec.get("volumeAttributesClassName") == before.get("volumeAttributesClassName")
    return volume and class_ and resources and attributes


def _difference(after: Object, before: Object) -> str:
    changed = sorted(k for k in after.keys() | before.keys() if after.get(k) != before.get(k))
    return "".join(f"-{k}: {before.get(k)}\n+{k}: {after.get(k)}\n" for k in changed)


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
        text(part(status, "capacity"), "storage") if volume else "",
        access_modes(status.get("accessModes")) if volume else "",
        storage_class(obj),
        spec.get("volumeAttributesClassName") or UNSET,
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
        strategy=Strategy(default=default, prepare=prepare, validate=validate, generation=None, returns_deleted=True),
        columns=_columns(),
        row=row,
    )

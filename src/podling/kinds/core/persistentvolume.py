"""PersistentVolume: storage that exists apart from any pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, not_supported, required
from podling.api.meta import timestamp
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import scheduling, volumes
from podling.kinds.core.poddefaults import fill, volume_source
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import UNSET, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_RECLAIM: Final = ("Delete", "Recycle", "Retain")
SHORT_MODES: Final = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    fill(spec, "persistentVolumeReclaimPolicy", "Retain")
    fill(spec, "volumeMode", "Filesystem")
    volume_source(spec)
    fill(obj.setdefault("status", {}), "phase", "Pending")


def prepare(write: Write) -> None:
    keep_status(write)
    status: Object = write.new["status"]
    if write.old is None:
        status["phase"] = "Pending"
        status["lastPhaseTransitionTime"] = timestamp(write.now)
    elif write.subresource == "status" and status.get("phase") != part(write.old, "status").get("phase"):
        status["lastPhaseTransitionTime"] = timestamp(write.now)


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.subresource == "status":
        return errors
    spec = part(write.new, "spec")
    errors += _spec(spec)
    if write.old is not None:
        errors += _update(spec, part(write.old, "spec"))
    return errors


def _spec(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    capacity: Object = part(spec, "capacity")
    if not spec.get("accessModes"):
        errors.append(required("spec.accessModes"))
    else:
        errors += volumes.access_modes(spec["accessModes"], "spec.accessModes", "")
    if not capacity:
        errors.append(required("spec.capacity"))
    if set(capacity) != {"storage"}:
        errors.append(not_supported("spec.capacity", fields.go_map(spec.get("capacity")), ("storage",)))
    for key, amount in capacity.items():
        errors += volumes.positive_storage(amount, f"spec.capacity[{key}]")
    errors += _one_source(spec)
    errors += _policies(spec)
    errors += _affinity(spec)
    return errors


def _policies(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = text(spec, "persistentVolumeReclaimPolicy")
    if policy:
        errors += fields.one_of("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    if text(part(spec, "hostPath"), "path") == "/" and policy == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden_field("spec.persistentVolumeReclaimPolicy", detail))
    if class_ := text(spec, "storageClassName"):
        errors += fields.check("spec.storageClassName", class_, names.dns1123_subdomain)
    if (mode := spec.get("volumeMode")) is not None:
        errors += fields.one_of("spec.volumeMode", mode, volumes.VOLUME_MODES)
    if class_ := spec.get("volumeAttributesClassName"):
        errors += fields.check("spec.volumeAttributesClassName", class_, names.dns1123_subdomain)
        if spec.get("csi") is None:
            errors.append(required("spec.csi", "has to be specified when using volumeAttributesClassName"))
    return errors


def _affinity(spec: Object) -> list[FieldError]:
    affinity: Object | None = spec.get("nodeAffinity")
    if affinity is None:
        return [required("spec.nodeAffinity", "Local volume requires node affinity")] if spec.get("local") else []
    wanted = affinity.get("required")
    if wanted is None:
        return [required("spec.nodeAffinity.required", "must specify required node constraints")]
    return scheduling.node_selector(wanted, "spec.nodeAffinity.required")


def _local(source: Object, path: str) -> list[FieldError]:
    if not source.get("path"):
        return [required(f"{path}.path")]
    return volumes.containers.no_backsteps(source["path"], f"{path}.path")


_CSI_SECRETS: Final = (
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
)


def _csi(source: Object, path: str) -> list[FieldError]:
    errors = volumes.csi_driver(text(source, "driver"), f"{path}.driver")
    if not source.get("volumeHandle"):
        errors.append(required(f"{path}.volumeHandle"))
    for key in _CSI_SECRETS:
        secret: Object | None = source.get(key)
        if secret is not None:
            errors += [required(f"{path}.{key}.{which}") for which in ("name", "namespace") if not secret.get(which)]
    return errors


_SOURCES: Final[Mapping[str, volumes.Check]] = {
    **{
        kind: volumes.POD_SOURCES[kind]
        for kind in (
            "hostPath",
            "gcePersistentDisk",
            "awsElasticBlockStore",
            "glusterfs",
            "flocker",
            "nfs",
            "rbd",
            "quobyte",
            "cephfs",
            "iscsi",
            "cinder",
            "fc",
            "azureFile",
            "vsphereVolume",
            "photonPersistentDisk",
            "portworxVolume",
            "azureDisk",
            "scaleIO",
        )
    },
    "local": _local,
    "storageos": volumes.POD_SOURCES["storageos"],
    "csi": _csi,
}


def _one_source(spec: Object) -> list[FieldError]:
    given = [kind for kind in _SOURCES if spec.get(kind) is not None]
    if not given:
        return [required("spec", "must specify a volume type")]
    errors = _SOURCES[given[0]](spec[given[0]], f"spec.{given[0]}")
    return errors + [forbidden_field(f"spec.{k}", "may not specify more than 1 volume type") for k in given[1:]]


def _update(spec: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if any(spec.get(kind) != before.get(kind) for kind in _SOURCES):
        changed = "spec.persistentvolumesource is immutable after creation"
        errors.append(forbidden_field("spec.persistentvolumesource", changed))
    errors += fields.immutable("spec.volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    if before.get("nodeAffinity") is not None:
        errors += fields.immutable("spec.nodeAffinity", spec.get("nodeAffinity"), before["nodeAffinity"])
    return errors


def access_modes(modes: Sequence[str] | None) -> str:
    """`RWO,ROX`, each once and in Kubernetes' order."""
    return ",".join(short for mode, short in SHORT_MODES.items() if mode in (modes or ()))


def storage_class(obj: Object) -> str:
    """The class, by annotation (the old way) or by field."""
    old = text(part(obj, "metadata", "annotations"), "volume.beta.kubernetes.io/storage-class")
    return old or text(part(obj, "spec"), "storageClassName")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Capacity", description=doc("core.v1.PersistentVolumeSpec.capacity")),
        Column("Access Modes", description=doc("core.v1.PersistentVolumeSpec.accessModes")),
        Column("Reclaim Policy", description=doc("core.v1.PersistentVolumeSpec.persistentVolumeReclaimPolicy")),
        Column("Status", description=doc("core.v1.PersistentVolumeStatus.phase")),
        Column("Claim", description=doc("core.v1.PersistentVolumeSpec.claimRef")),
        Column("StorageClass", description="StorageClass of the pv"),
        Column("VolumeAttributesClass", description="VolumeAttributesClass of the pv"),
        Column("Reason", description=doc("core.v1.PersistentVolumeStatus.reason")),
        age_column(),
        Column("VolumeMode", description=doc("core.v1.PersistentVolumeSpec.volumeMode"), priority=1),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    claim = part(spec, "claimRef")
    phase = text(status, "phase")
    return [
        name(obj),
        text(part(spec, "capacity"), "storage"),
        access_modes(spec.get("accessModes")),
        text(spec, "persistentVolumeReclaimPolicy"),
        "Terminating" if part(obj, "metadata").get("deletionTimestamp") else phase,
        f"{text(claim, 'namespace')}/{text(claim, 'name')}" if claim else "",
        storage_class(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        text(status, "reason"),
        age(obj, now),
        text(spec, "volumeMode") or UNSET,
    ]


def warn(write: Write) -> None:
    if write.subresource:
        return
    spec = part(write.new, "spec")
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        write.warnings.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning."
        )


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="PersistentVolume",
        plural="persistentvolumes",
        singular="persistentvolume",
        namespaced=False,
        schema="io.k8s.api.core.v1.PersistentVolume",
        short_names=("pv",),
        status=True,
        strategy=Strategy(
            default=default, prepare=prepare, validate=validate, warn=warn, generation=None, returns_deleted=True
        ),
        columns=_columns(),
        row=row,
    )

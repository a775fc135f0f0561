"""PersistentVolume: storage that exists apart from any pod."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from podling.api import quantity
from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.api.meta import timestamp
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import podwarnings, scheduling, volumes
from podling.kinds.core.internal import STRUCTS
from podling.kinds.core.paths import backsteps
from podling.kinds.core.poddefaults import fill, volume_source
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import UNSET, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import common, object_meta, whole
from podling.store.types import Object

_RECLAIM: Final = ("Delete", "Recycle", "Retain")
BETA_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
SHORT_MODES: Final = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    fill(spec, "persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
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
    if write.old is None:
        return object_meta(write) + _spec(write.new)
    if write.subresource == "status":
        return object_meta(write)
    # Kubernetes checks the whole changed object twice, so each problem is told as often.
    checked = whole(write) + _spec(write.new)
    return common(write) + checked * 2 + _update(part(write.new, "spec"), part(write.old, "spec"))


def _spec(obj: Object) -> list[FieldError]:
    """The rules of `ValidatePersistentVolumeSpec`, in its order."""
    spec = part(obj, "spec")
    modes, capacity = spec.get("accessModes"), part(spec, "capacity")
    errors = [] if modes else [required("spec.accessModes")]
    errors += volumes.access_modes(modes, "spec.accessModes")
    if not capacity:
        errors.append(required("spec.capacity"))
    if set(capacity) != {"storage"}:
        errors.append(not_supported("spec.capacity", fields.go_map(spec.get("capacity")), ("storage",)))
    for key, amount in capacity.items():
        errors += _amount(amount, f"spec.capacity[{key}]")
    if policy := text(spec, "persistentVolumeReclaimPolicy"):
        errors += fields.one_of("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    errors += _affinity(spec)
    errors += _one_source(spec, text(part(obj, "metadata"), "name"))
    return errors + _classes(spec, policy)


def _amount(amount: Any, path: str) -> list[FieldError]:
    value = quantity.of(amount).value
    errors = [invalid_value(path, value, "must be a valid resource quantity")] if value < 0 else []
    return errors + volumes.positive_storage(amount, path)


def _classes(spec: Object, policy: str) -> list[FieldError]:
    errors: list[FieldError] = []
    host = part(spec, "hostPath").get("path")
    if host is not None and policy == "Recycle" and posixpath.normpath(host or ".") in ("/", "//"):
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden_field("spec.persistentVolumeReclaimPolicy", detail))
    if class_ := text(spec, "storageClassName"):
        errors += fields.check("spec.storageClassName", class_, names.dns1123_subdomain)
    if (mode := spec.get("volumeMode")) is not None:
        errors += fields.one_of("spec.volumeMode", mode, volumes.VOLUME_MODES)
    if (class_ := spec.get("volumeAttributesClassName")) is not None:
        at = "spec.volumeAttributesClassName"
        if class_:
            errors += fields.check(at, class_, names.dns1123_subdomain)
        else:
            errors.append(required(at, "an empty string is disallowed"))
        if spec.get("csi") is None:
            errors.append(required("spec.csi", "has to be specified when using volumeAttributesClassName"))
    return errors


def _affinity(spec: Object) -> list[FieldError]:
    affinity: Object | None = spec.get("nodeAffinity")
    if affinity is None:
        return []
    wanted = affinity.get("required")
    if wanted is None:
        return [required("spec.nodeAffinity.required", "must specify required node constraints")]
    return scheduling.node_selector(wanted, "spec.nodeAffinity.required")


def _local(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("path") else [required(f"{path}.path")]
    return errors + backsteps(text(source, "path"), f"{path}.path")


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
            at = f"{path}.{key}"
            errors += fields.check_required(f"{at}.name", text(secret, "name"), names.dns1123_subdomain)
            errors += fields.check_required(f"{at}.namespace", text(secret, "namespace"), names.dns1123_label)
    return errors


def _with_secret_place(kind: str) -> volumes.Check:
    """The rules of a pod's volume; the secret has a namespace besides."""

    def check(source: Object, path: str) -> list[FieldError]:
        return volumes.POD_SOURCES[kind]({**source, "secretRef": None}, path) + volumes.secret_place(source, path)

    return check


def _glusterfs(source: Object, path: str) -> list[FieldError]:
    errors = volumes.POD_SOURCES["glusterfs"](source, path)
    namespace, at = source.get("endpointsNamespace"), f"{path}.endpointsNamespace"
    if namespace == "":
        detail = "if the endpointnamespace is set, it must be a valid namespace name"
        errors.append(invalid_value(at, namespace, detail))
    return errors + (fields.check(at, namespace, names.dns1123_label) if namespace else [])


def _iscsi(source: Object, path: str) -> list[FieldError]:
    errors = volumes.iscsi(source, path, "must be valid format")
    secret: Object | None = source.get("secretRef")
    if secret is not None and not secret.get("name"):
        errors.append(required(f"{path}.secretRef.name"))
    return errors


def _azure_file(source: Object, path: str) -> list[FieldError]:
    errors = volumes.POD_SOURCES["azureFile"](source, path)
    return errors + ([required(f"{path}.secretNamespace")] if source.get("secretNamespace") == "" else [])


_OWN_RULES: Final[Mapping[str, volumes.Check]] = {
    "glusterfs": _glusterfs,
    "iscsi": _iscsi,
    "cinder": _with_secret_place("cinder"),
    "azureFile": _azure_file,
    "local": _local,
    "storageos": _with_secret_place("storageos"),
    "csi": _csi,
}
_SOURCES: Final = (
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
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
)
"""The sources in the order in which Kubernetes tries them: the first is checked, others are refused."""


def _one_source(spec: Object, volume: str) -> list[FieldError]:
    given = [kind for kind in _SOURCES if spec.get(kind) is not None]
    if not given:
        return [required("spec", "must specify a volume type")]
    errors: list[FieldError] = []
    for kind in given:
        if kind == given[0] or kind == "flexVolume":
            check = _OWN_RULES.get(kind) or volumes.POD_SOURCES[kind]
            errors += check(spec[kind], f"spec.{volumes.CHECKED_AS.get(kind, kind)}")
        else:
            detail = "may not specify more than 1 volume type"
            errors.append(forbidden_field(f"spec.{volumes.REFUSED_AS.get(kind, kind)}", detail))
    first = spec[given[0]]
    if given[0] == "iscsi" and volumes.iscsi_name_too_long(volume, first):
        errors.append(invalid_value("spec.iscsi.targetportal", text(first, "targetPortal"), volumes.ISCSI_TOO_LONG))
    if given[0] == "local" and spec.get("nodeAffinity") is None:
        errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return errors


def _update(spec: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    after = _without_late_secret(spec, before)
    sources = [fields.comparable({kind: whole.get(kind) for kind in _SOURCES}) for whole in (after, before)]
    if sources[0] != sources[1]:
        shown = STRUCTS.difference("PersistentVolumeSource", before, after)
        detail = f"spec.persistentvolumesource is immutable after creation\n{shown}"
        errors.append(forbidden_field("spec.persistentvolumesource", detail))
    errors += fields.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    affinity, held = spec.get("nodeAffinity"), before.get("nodeAffinity")
    if held is not None and _in_new_words(affinity, held) != fields.comparable(affinity):
        detail = f"{fields.IMMUTABLE}, except for updating from beta label to GA"
        errors.append(invalid_value("nodeAffinity", STRUCTS.shown("*VolumeNodeAffinity", affinity), detail))
    if before.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
        detail = "update from non-nil value to nil is forbidden"
        errors.append(forbidden_field("spec.volumeAttributesClassName", detail))
    return errors


def _without_late_secret(spec: Object, before: Object) -> Object:
    """The secret for growing a CSI volume may come later."""
    late = "controllerExpandSecretRef"
    if spec.get("csi") is None or before.get("csi") is None or before["csi"].get(late) is not None:
        return spec
    return {**spec, "csi": fields.without(spec["csi"], late)}


_NEW_LABELS: Final = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


def _in_new_words(after: Object | None, before: Object) -> Object:
    """The stored affinity, with the names of labels that the new one calls by their present names."""
    held: Object = orjson.loads(orjson.dumps(before))
    terms = [entries(part(affinity or {}, "required"), "nodeSelectorTerms") for affinity in (held, after)]
    for old, new in zip(*terms, strict=False):
        for key in ("matchExpressions", "matchFields"):
            for was, now in zip(entries(old, key), entries(new, key), strict=False):
                if _NEW_LABELS.get(text(was, "key")) == text(now, "key"):
                    was["key"] = now["key"]
    return fields.comparable(held)


def access_modes(modes: Sequence[str] | None) -> str:
    """`RWO,ROX`, each once and in Kubernetes' order."""
    return ",".join(short for mode, short in SHORT_MODES.items() if mode in (modes or ()))


def storage_class(obj: Object) -> str:
    """The class, by annotation (the old way) or by field."""
    old: str | None = part(obj, "metadata", "annotations").get(BETA_CLASS)
    return text(part(obj, "spec"), "storageClassName") if old is None else old


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
        text(part(spec, "capacity"), "storage") or "0",
        access_modes(spec.get("accessModes")),
        text(spec, "persistentVolumeReclaimPolicy"),
        "Terminating" if part(obj, "metadata").get("deletionTimestamp") else phase,
        f"{text(claim, 'namespace')}/{text(claim, 'name')}" if spec.get("claimRef") is not None else "",
        storage_class(obj),
        spec.get("volumeAttributesClassName", UNSET),
        text(status, "reason"),
        age(obj, now),
        text(spec, "volumeMode") or UNSET,
    ]


_DEPRECATED_ANNOTATIONS: Final = {
    BETA_CLASS: 'deprecated since v1.8; use "storageClassName" attribute instead',
    "volume.beta.kubernetes.io/mount-options": 'deprecated since v1.31; use "mountOptions" attribute instead',
}


def warn_old_class(write: Write) -> None:
    if BETA_CLASS in part(write.new, "metadata", "annotations"):
        write.warnings.append(f"metadata.annotations[{BETA_CLASS}]: {_DEPRECATED_ANNOTATIONS[BETA_CLASS]}")


def warn(write: Write) -> None:
    if write.subresource:
        return
    spec, annotations = part(write.new, "spec"), part(write.new, "metadata", "annotations")
    for key, says in _DEPRECATED_ANNOTATIONS.items():
        if key in annotations:
            write.warnings.append(f"metadata.annotations[{key}]: {says}")
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        write.warnings.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning."
        )
    terms = part(spec, "nodeAffinity", "required").get("nodeSelectorTerms")
    for at, term in fields.each("spec.nodeAffinity.required.nodeSelectorTerms", terms):
        write.warnings += podwarnings.node_selector_term(term, at)
    write.warnings += podwarnings.removed_source(spec, "spec")


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

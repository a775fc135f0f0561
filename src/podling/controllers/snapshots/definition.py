"""The three kinds as CustomResourceDefinitions, as clusters get them from the external-snapshotter project."""

from __future__ import annotations

from podling.controllers.addons import QUANTITY, STRING, TIME, definition, structure, version
from podling.store.types import Object

GROUP = "snapshot.storage.k8s.io"
SNAPSHOTS = f"volumesnapshots.{GROUP}"
CONTENTS = f"volumesnapshotcontents.{GROUP}"
CLASSES = f"volumesnapshotclasses.{GROUP}"
KINDS = (SNAPSHOTS, CONTENTS, CLASSES)
DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
APPROVED_BY = "https://github.com/kubernetes-csi/external-snapshotter/pull/955"

_POLICY: Object = {"type": "string", "enum": ["Delete", "Retain"]}


def definitions() -> list[Object]:
    return [
        definition(GROUP, "VolumeSnapshot", ["vs"], APPROVED_BY, _snapshot(), "Namespaced"),
        definition(GROUP, "VolumeSnapshotContent", ["vsc", "vscs"], APPROVED_BY, _content(), "Cluster"),
        definition(GROUP, "VolumeSnapshotClass", ["vsclass", "vsclasses"], APPROVED_BY, _class(), "Cluster"),
    ]


def default_class(driver: str) -> Object:
    """The class `standard`, so that a snapshot which names none can be taken."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {
            "name": "standard",
            "annotations": {DEFAULT_CLASS: "true"},
            "labels": {"addonmanager.kubernetes.io/mode": "EnsureExists"},
        },
        "driver": driver,
        "deletionPolicy": "Delete",
    }


def _object(properties: Object, required: list[str] | None = None, rules: dict[str, str] | None = None) -> Object:
    """`rules` are CEL by message."""
    found = structure(properties, required or ())
    if rules:
        found["x-kubernetes-validations"] = _rules(rules)
    return found


def _rules(rules: dict[str, str]) -> list[Object]:
    return [{"message": message, "rule": rule} for message, rule in rules.items()]


def _fixed(message: str) -> Object:
    return {"type": "string", "x-kubernetes-validations": _rules({message: "self == oldSelf"})}


def _one_for_good(first: str, second: str) -> dict[str, str]:
    """Exactly one of two fields, and that one for ever."""
    return {
        f"{first} is required once set": f"!has(oldSelf.{first}) || has(self.{first})",
        f"{second} is required once set": f"!has(oldSelf.{second}) || has(self.{second})",
        f"exactly one of {first} and {second} must be set": f"has(self.{first}) != has(self.{second})",
    }


def _error() -> Object:
    return _object({"message": STRING, "time": TIME})


def _snapshot() -> Object:
    claim, content = "persistentVolumeClaimName", "volumeSnapshotContentName"
    source = _object(
        {claim: _fixed(f"{claim} is immutable"), content: _fixed(f"{content} is immutable")},
        rules=_one_for_good(claim, content),
    )
    named = {"volumeSnapshotClassName must not be the empty string when set": "size(self) > 0"}
    spec = _object(
        {"source": source, "volumeSnapshotClassName": {"type": "string", "x-kubernetes-validations": _rules(named)}},
        ["source"],
    )
    status = _object(
        {
            "boundVolumeSnapshotContentName": STRING,
            "creationTime": TIME,
            "error": _error(),
            "readyToUse": {"type": "boolean"},
            "restoreSize": QUANTITY,
            "volumeGroupSnapshotName": STRING,
        }
    )
    columns = [
        ("ReadyToUse", "boolean", ".status.readyToUse"),
        ("SourcePVC", "string", f".spec.source.{claim}"),
        ("SourceSnapshotContent", "string", f".spec.source.{content}"),
        ("RestoreSize", "string", ".status.restoreSize"),
        ("SnapshotClass", "string", ".spec.volumeSnapshotClassName"),
        ("SnapshotContent", "string", ".status.boundVolumeSnapshotContentName"),
        ("CreationTime", "date", ".status.creationTime"),
    ]
    return version({"spec": spec, "status": status}, ["spec"], columns=columns, status=True)


def _content() -> Object:
    source = _object(
        {"snapshotHandle": _fixed("snapshotHandle is immutable"), "volumeHandle": _fixed("volumeHandle is immutable")},
        rules=_one_for_good("volumeHandle", "snapshotHandle"),
    )
    both = "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set"
    fields = ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
    reference = {
        **_object(dict.fromkeys(fields, STRING), rules={both: "has(self.name) && has(self.__namespace__)"}),
        "x-kubernetes-map-type": "atomic",
    }
    spec = _object(
        {
            "deletionPolicy": _POLICY,
            "driver": STRING,
            "source": source,
            "sourceVolumeMode": _fixed("sourceVolumeMode is immutable"),
            "volumeSnapshotClassName": STRING,
            "volumeSnapshotRef": reference,
        },
        ["deletionPolicy", "driver", "source", "volumeSnapshotRef"],
        {"sourceVolumeMode is required once set": ("!has(oldSelf.sourceVolumeMode) || has(self.sourceVolumeMode)")},
    )
    status = _object(
        {
            "creationTime": {"type": "integer", "format": "int64"},
            "error": _error(),
            "readyToUse": {"type": "boolean"},
            "restoreSize": {"type": "integer", "format": "int64", "minimum": 0},
            "snapshotHandle": STRING,
            "volumeGroupSnapshotHandle": STRING,
        }
    )
    columns = [
        ("ReadyToUse", "boolean", ".status.readyToUse"),
        ("RestoreSize", "integer", ".status.restoreSize"),
        ("DeletionPolicy", "string", ".spec.deletionPolicy"),
        ("Driver", "string", ".spec.driver"),
        ("VolumeSnapshotClass", "string", ".spec.volumeSnapshotClassName"),
        ("VolumeSnapshot", "string", ".spec.volumeSnapshotRef.name"),
        ("VolumeSnapshotNamespace", "string", ".spec.volumeSnapshotRef.namespace"),
    ]
    return version({"spec": spec, "status": status}, ["spec"], columns=columns, status=True)


def _class() -> Object:
    columns = [("Driver", "string", ".driver"), ("DeletionPolicy", "string", ".deletionPolicy")]
    properties: Object = {
        "deletionPolicy": _POLICY,
        "driver": STRING,
        "parameters": {"type": "object", "additionalProperties": STRING},
    }
    return version(properties, ["deletionPolicy", "driver"], columns=columns, status=False)

"""Volumes to order: a claim of a class of ours gets a directory of this machine, and gives it back.

What external-provisioner and external-resizer do beside a storage driver, in one controller for claims (provision,
resize) and one for volumes (reclaim). A volume is empty, or filled from a snapshot or another claim (`datasource`).
The directory itself belongs to the node, which is met through `Disk`. It is made before its volume is written and
removed before its volume goes, so that a crash in between is mended by the next look: nothing points at what is not
there, and nothing is left that nobody points at.

Sources: "Dynamic Volume Provisioning", "Storage Classes", "Persistent Volumes" (reclaiming, expanding), KEP-2644
(honor the reclaim policy when a volume is deleted before its claim).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import of
from podling.controllers import datasource, volumebinder
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Patch, Requeue
from podling.controllers.datasource import Filling
from podling.controllers.disk import Disk
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself, key_of, service_account
from podling.controllers.snapshots.definition import SNAPSHOTS
from podling.controllers.statuses import write_status
from podling.controllers.volumebinder import (
    BIND_COMPLETED,
    CLAIMS,
    CLASSES,
    DEFAULT_CLASS,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    VOLUMES,
    class_of,
)
from podling.store.types import Change, Object

NAME = "podling.dev/local"
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
HOSTNAME = "kubernetes.io/hostname"
COPIES = 20
"""How many claims are looked at at once: some copies take long, and nobody else shall wait for them."""


def default_class() -> Object:
    """The class `standard`, which a cluster has so that claims that name none get a volume."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {DEFAULT_CLASS: "true"},
            "labels": {"addonmanager.kubernetes.io/mode": "EnsureExists"},
        },
        "provisioner": NAME,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def has_default_class(client: Client) -> bool:
    """Whether claims that name no class get one already: then the owner of the cluster has chosen."""
    return volumebinder.default_class(client.list(CLASSES)) is not None


# Claims: provision and resize


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSnapshot:
    claim: Object
    storage_class: Object
    volume: Object | None
    """The volume of ours that the claim has, or that was made for it."""


def volume_name(claim: Object) -> str:
    return f"pvc-{meta.uid(claim)}"


def observe_claim(client: Client, key: ObjectKey) -> ClaimSnapshot | None:
    """Nothing for claims that are not ours."""
    claim = client.get(CLAIMS, key.namespace, key.name)
    if claim is None or meta.deleting(claim):
        return None
    found = client.get(CLASSES, "", class_of(claim))
    if found is None or found.get("provisioner") != NAME:
        return None
    volume = client.get(VOLUMES, "", meta.spec(claim).get("volumeName") or volume_name(claim))
    return ClaimSnapshot(claim=claim, storage_class=found, volume=volume)


def wants_volume(snapshot: ClaimSnapshot) -> bool:
    """The binder asked for one, and neither was one made nor another one bound."""
    asked = meta.annotations(snapshot.claim).get(PROVISIONER) == NAME
    return asked and snapshot.volume is None and not meta.spec(snapshot.claim).get("volumeName")


def refusal(claim: Object) -> str | None:
    """Why no volume can be made for the claim."""
    spec = meta.spec(claim)
    if spec.get("selector") is not None:
        return "claim Selector is not supported"
    if spec.get("volumeMode") == "Block":
        return "block volume provisioning is not supported"
    return None


def begin(snapshot: ClaimSnapshot) -> list[Action]:
    claim = snapshot.claim
    message = f'External provisioner is provisioning volume for claim "{key_of(claim)}"'
    return [_tell(claim, "Provisioning", message)]


def failed(snapshot: ClaimSnapshot, why: str) -> list[Action]:
    message = f'failed to provision volume with StorageClass "{meta.name(snapshot.storage_class)}": {why}'
    return [_tell(snapshot.claim, "ProvisioningFailed", message, "Warning")]


def left_to_others(snapshot: ClaimSnapshot) -> list[Action]:
    """A source of a kind that only its own controller (a volume populator, KEP-1495) knows to fill a volume from."""
    message = "Assuming an external populator will provision the volume"
    return [_tell(snapshot.claim, "Provisioning", message)]


def provisioned(snapshot: ClaimSnapshot, path: str) -> list[Action]:
    """Writes the volume that was made at `path`."""
    claim, volume = snapshot.claim, _volume(snapshot, path)
    why = f"claim {key_of(claim)} asks for it"
    done = Announce(
        regarding=claim, reason="ProvisioningSucceeded", message=f"Successfully provisioned volume {meta.name(volume)}"
    )
    return [Create(why=why, resource=VOLUMES, object=volume, done=done, exists_ok=True)]


def _volume(snapshot: ClaimSnapshot, path: str) -> Object:
    claim, storage_class = snapshot.claim, snapshot.storage_class
    spec = meta.spec(claim)
    metadata: Object = {"name": volume_name(claim), "annotations": {PROVISIONED_BY: NAME}}
    policy = storage_class.get("reclaimPolicy", "Delete")
    if policy == "Delete":
        metadata["finalizers"] = [FINALIZER]
    wanted: Object = {
        "accessModes": spec.get("accessModes") or [],
        "capacity": {"storage": _request(claim)},
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta.namespace(claim),
            "name": meta.name(claim),
            "uid": meta.uid(claim),
            "resourceVersion": meta.metadata(claim).get("resourceVersion"),
        },
        "local": {"path": path},
        "nodeAffinity": {"required": {"nodeSelectorTerms": _terms(snapshot)}},
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": meta.name(storage_class),
        "volumeMode": "Filesystem",
    }
    if storage_class.get("mountOptions"):
        wanted["mountOptions"] = storage_class["mountOptions"]
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": wanted}


def _terms(snapshot: ClaimSnapshot) -> list[Object]:
    """Where the volume can be reached.

    One that waited for its consumer stays with that pod's node, as local storage does. One that was made at once is
    for every node (all are this machine), within the topologies that the class allows.
    """
    node = meta.annotations(snapshot.claim).get(SELECTED_NODE)
    if node:
        return [{"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [node]}]}]
    allowed = meta.items(snapshot.storage_class, "allowedTopologies")
    if not allowed:
        return [{"matchExpressions": [{"key": HOSTNAME, "operator": "Exists"}]}]
    return [
        {
            "matchExpressions": [
                {"key": e["key"], "operator": "In", "values": e["values"]}
                for e in meta.items(topology, "matchLabelExpressions")
            ]
        }
        for topology in allowed
    ]


def _request(claim: Object) -> str:
    return meta.part(claim, "spec", "resources", "requests").get("storage", "0")


def resized(snapshot: ClaimSnapshot) -> list[Action]:
    """A directory has no size of its own: to grow is to say so, first on the volume, then on the claim."""
    claim, volume = snapshot.claim, snapshot.volume
    if volume is None or not _is_ours(volume) or BIND_COMPLETED not in meta.annotations(claim):
        return []
    wanted = _request(claim)
    if of(wanted).nanos <= of(meta.part(volume, "spec", "capacity").get("storage", "0")).nanos:
        return _told_capacity(claim, volume)
    if not snapshot.storage_class.get("allowVolumeExpansion"):
        return []
    patch: Object = {"metadata": {"uid": meta.uid(volume)}, "spec": {"capacity": {"storage": wanted}}}
    name = meta.name(volume)
    return [
        _tell(claim, "Resizing", f"External resizer is resizing volume {name}"),
        Patch(why=f"its claim asks for {wanted}", resource=VOLUMES, namespace="", name=name, patch=patch),
        *_status_capacity(claim, wanted),
        _tell(claim, "VolumeResizeSuccessful", "Resize volume succeeded"),
    ]


def _told_capacity(claim: Object, volume: Object) -> list[Action]:
    """What a crash between the two writes left untold."""
    capacity: str = meta.part(volume, "spec", "capacity").get("storage", "0")
    told = meta.part(claim, "status", "capacity").get("storage")
    return _status_capacity(claim, capacity) if told is not None and told != capacity else []


def _status_capacity(claim: Object, capacity: str) -> list[Action]:
    old = meta.status(claim)
    conditions = [c for c in meta.conditions(claim) if c["type"] not in ("Resizing", "FileSystemResizePending")]
    status: Object = {
        **old,
        "allocatedResources": {**(old.get("allocatedResources") or {}), "storage": capacity},
        "capacity": {**(old.get("capacity") or {}), "storage": capacity},
    }
    if conditions or "conditions" in old:
        status["conditions"] = conditions
    return [*write_status(CLAIMS, claim, status, f"its volume holds {capacity}")]


def _tell(regarding: Object, reason: str, message: str, type: str = "Normal") -> Emit:
    return Emit(why=message, event=Announce(regarding=regarding, reason=reason, message=message, type=type))


# Volumes: reclaim


def _is_ours(volume: Object) -> bool:
    return meta.annotations(volume).get(PROVISIONED_BY) == NAME


def observe_volume(client: Client, key: ObjectKey) -> Object | None:
    volume = client.get(VOLUMES, "", key.name)
    return volume if volume is not None and _is_ours(volume) else None


def to_be_removed(volume: Object) -> bool:
    """Whether nobody has a claim to the volume's data any more, and its policy is not to keep them."""
    if meta.spec(volume).get("persistentVolumeReclaimPolicy") != "Delete":
        return False
    if meta.deleting(volume):
        in_use = [f for f in meta.finalizers(volume) if f != FINALIZER]
        return not in_use and FINALIZER in meta.finalizers(volume)
    return meta.status(volume).get("phase") in ("Released", "Failed")


def removed(volume: Object) -> list[Action]:
    """Lets the volume go, whose directory is gone: it is deleted, and the look at that takes our finalizer away."""
    if meta.deleting(volume):
        return let_go(volume)
    why = "its claim is gone, and its policy is Delete"
    return [Delete(why=why, resource=VOLUMES, namespace="", name=meta.name(volume), uid=meta.uid(volume))]


def let_go(volume: Object) -> list[Action]:
    """Takes our finalizer away."""
    if FINALIZER not in meta.finalizers(volume):
        return []
    rest = [f for f in meta.finalizers(volume) if f != FINALIZER]
    patch: Object = {"metadata": {"uid": meta.uid(volume), "finalizers": rest or None}}
    why = "nothing of it is left that it would have to be kept for"
    return [Patch(why=why, resource=VOLUMES, namespace="", name=meta.name(volume), patch=patch)]


def removal_failed(volume: Object, error: str) -> list[Action]:
    status: Object = {**meta.status(volume), "phase": "Failed", "reason": "VolumeFailedDelete", "message": error}
    return [
        *write_status(VOLUMES, volume, status, "its directory could not be removed"),
        _tell(volume, "VolumeFailedDelete", error, "Warning"),
    ]


# Controllers


def _ours(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claims that a class concerns."""
    if change.entry.object.get("provisioner") != NAME:
        return
    for claim in client.list(CLAIMS):
        if class_of(claim) == change.entry.key.name:
            yield key_of(claim)


def _claim_of_volume(_client: Client, change: Change) -> Iterable[ObjectKey]:
    reference = meta.part(change.entry.object, "spec", "claimRef")
    if reference and _is_ours(change.entry.object):
        yield ObjectKey(reference.get("namespace", ""), reference.get("name", ""))


def claims(disk: Disk) -> Controller:
    async def reconcile(context: Context, key: ObjectKey) -> None:
        snapshot = observe_claim(context.client, key)
        if snapshot is None:
            return
        if not wants_volume(snapshot):
            await context.act(key, resized(snapshot))
            return
        if datasource.is_of_others(snapshot.claim):
            await context.act(key, left_to_others(snapshot))
            return
        await context.act(key, begin(snapshot))
        why = refusal(snapshot.claim)
        if why is not None:
            await context.act(key, failed(snapshot, why))
            return
        try:
            filling = datasource.find(context.client, snapshot.claim, NAME)
        except datasource.Unusable as unusable:
            again = Requeue(why="what it is to be filled from may be there by then", seconds=volumebinder.RESYNC)
            await context.act(key, [*failed(snapshot, str(unusable)), again])
            return
        try:
            if filling is not None:
                await context.act(key, filling.protect)
            path = await _fill(disk, volume_name(snapshot.claim), filling)
        except OSError as error:
            await context.act(key, failed(snapshot, str(error)))
            raise
        await context.act(key, provisioned(snapshot, path))

    return Controller(
        name=NAME,
        user=service_account("persistent-volume-binder"),
        resource=CLAIMS,
        watches=(
            Watch(resource=CLAIMS, keys=itself),
            Watch(resource=CLAIMS, keys=datasource.clones_of),
            Watch(resource=SNAPSHOTS, keys=datasource.restored_from),
            Watch(resource=CLASSES, keys=_ours),
            Watch(resource=VOLUMES, keys=_claim_of_volume),
        ),
        reconcile=reconcile,
        workers=COPIES,
    )


async def _fill(disk: Disk, volume: str, filling: Filling | None) -> str:
    if filling is None:
        return await disk.make(volume)
    return await (disk.restore if filling.is_snapshot else disk.clone)(volume, filling.source)


def volumes(disk: Disk) -> Controller:
    async def reconcile(context: Context, key: ObjectKey) -> None:
        volume = observe_volume(context.client, key)
        if volume is None:
            return
        if not to_be_removed(volume):
            if meta.deleting(volume) and meta.spec(volume).get("persistentVolumeReclaimPolicy") != "Delete":
                await context.act(key, let_go(volume))
            return
        try:
            await disk.remove(meta.name(volume))
        except OSError as error:
            await context.act(key, removal_failed(volume, str(error)))
            raise
        await context.act(key, removed(volume))

    return Controller(
        name=NAME,
        user=service_account("persistent-volume-binder"),
        resource=VOLUMES,
        watches=(Watch(resource=VOLUMES, keys=itself),),
        reconcile=reconcile,
    )


def controllers(disk: Disk) -> Sequence[Controller]:
    return (claims(disk), volumes(disk))

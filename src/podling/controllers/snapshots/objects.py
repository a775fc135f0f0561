"""What the parts say of snapshots, contents and the claims and volumes behind them."""

from __future__ import annotations

from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.runtime import ObjectKey
from podling.controllers.snapshots.definition import GROUP
from podling.controllers.volumebinder import CLAIMS, PROVISIONED_BY, VOLUMES
from podling.store.types import Object

SNAPSHOT_FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection"
BOUND_FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"
CONTENT_FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"
CLAIM_FINALIZER = "snapshot.storage.kubernetes.io/pvc-as-source-protection"
BEING_DELETED = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted"


def is_ready(obj: Object) -> bool:
    return meta.status(obj).get("readyToUse") is True


def source_claim(snapshot: Object) -> str:
    """The claim's name, `""` for a snapshot that was there before."""
    return meta.part(snapshot, "spec", "source").get("persistentVolumeClaimName") or ""


def content_name(snapshot: Object) -> str:
    """The content that the snapshot has, or will have."""
    given = meta.part(snapshot, "spec", "source").get("volumeSnapshotContentName")
    return given or f"snapcontent-{meta.uid(snapshot)}"


def snapshot_of(content: Object) -> ObjectKey:
    reference = meta.part(content, "spec", "volumeSnapshotRef")
    return ObjectKey(reference.get("namespace", ""), reference.get("name", ""))


def refers(content: Object, snapshot: Object) -> bool:
    """Whether the content says that it is the snapshot's; one of hand need not know the uid yet."""
    reference = meta.part(content, "spec", "volumeSnapshotRef")
    if (reference.get("namespace"), reference.get("name")) != (meta.namespace(snapshot), meta.name(snapshot)):
        return False
    by_hand = "snapshotHandle" in meta.part(content, "spec", "source")
    return reference.get("uid") == meta.uid(snapshot) or (by_hand and not reference.get("uid"))


def restores(claim: Object, kind: str, name: str) -> bool:
    """Whether a claim is still to be filled from the object."""
    source = meta.part(claim, "spec", "dataSource")
    group = GROUP if kind == "VolumeSnapshot" else ""
    is_it = (source.get("apiGroup") or "", source.get("kind"), source.get("name")) == (group, kind, name)
    return is_it and meta.status(claim).get("phase") == "Pending" and not meta.deleting(claim)


def volume_of(client: Client, claim: Object | None) -> Object | None:
    """The volume to which a claim is bound."""
    if claim is None or meta.status(claim).get("phase") != "Bound":
        return None
    return client.get(VOLUMES, "", meta.spec(claim).get("volumeName", ""))


def driver_and_handle(volume: Object) -> tuple[str, str] | None:
    """Who keeps the volume, and what it is called there; `None` where nobody can take snapshots of it."""
    csi = meta.part(volume, "spec", "csi")
    if csi:
        return csi.get("driver", ""), csi.get("volumeHandle", "")
    made_by = meta.annotations(volume).get(PROVISIONED_BY)
    return (made_by, meta.name(volume)) if made_by else None


def error(message: str, now: datetime) -> Object:
    return {"message": message, "time": meta.timestamp(now)}


def claim_of(client: Client, snapshot: Object) -> Object | None:
    name = source_claim(snapshot)
    return client.get(CLAIMS, meta.namespace(snapshot), name) if name else None

"""What a claim is to be filled from: a snapshot, or another claim of its namespace (`dataSource`, `dataSourceRef`).

Sources: "Volume Snapshots", "CSI Volume Cloning", KEP-1495 (other kinds are for volume populators). The texts are those
of external-provisioner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import of
from podling.controllers.actions import Action
from podling.controllers.finalizers import set_finalizers
from podling.controllers.runtime import ObjectKey, key_of
from podling.controllers.snapshots import objects
from podling.controllers.snapshots.definition import CONTENTS, GROUP, SNAPSHOTS
from podling.controllers.snapshots.protection import CLONING_FINALIZER
from podling.controllers.volumebinder import CLAIMS
from podling.store.types import Change, Object

_KINDS = {(GROUP, "VolumeSnapshot"), ("", "PersistentVolumeClaim")}


class Unusable(Exception):
    """It is not there, not ready, or does not fit; the text says which."""


@dataclass(frozen=True, slots=True)
class Filling:
    """`source` is what the content is called on the disk; `protect` comes before the copy."""

    source: str
    is_snapshot: bool
    protect: Sequence[Action] = ()


def _named(claim: Object) -> Object:
    spec = meta.spec(claim)
    source: Object = spec.get("dataSourceRef") or spec.get("dataSource") or {}
    return source


def _kind(source: Object) -> tuple[str, str]:
    return source.get("apiGroup") or "", source.get("kind", "")


def is_of_others(claim: Object) -> bool:
    """Whether the claim names a source of a kind that is not for a provisioner."""
    source = _named(claim)
    return bool(source) and _kind(source) not in _KINDS


def find(client: Client, claim: Object, driver: str) -> Filling | None:
    """What the claim is to be filled from; `None` where it shall be empty. Raises `Unusable`."""
    source = _named(claim)
    if not source:
        return None
    name, kind = source.get("name", ""), source.get("kind", "")
    try:
        if kind == "VolumeSnapshot":
            return _of_snapshot(client, claim, name, driver)
        return _of_claim(client, claim, name, driver)
    except Unusable as unusable:
        text = f"error getting handle for DataSource Type {kind} by Name {name}: {unusable}"
        raise Unusable(text) from unusable


def _requested(claim: Object) -> int:
    return of(meta.part(claim, "spec", "resources", "requests").get("storage", "0")).value


def _of_snapshot(client: Client, claim: Object, name: str, driver: str) -> Filling:
    snapshot = client.get(SNAPSHOTS, meta.namespace(claim), name)
    if snapshot is None:
        raise Unusable(f'error getting snapshot {name} from api server: {SNAPSHOTS} "{name}" not found')
    if meta.deleting(snapshot):
        raise Unusable(f"snapshot {name} is currently being deleted")
    bound = meta.status(snapshot).get("boundVolumeSnapshotContentName")
    if not bound:
        raise Unusable(f"snapshot {name} not bound")
    content = client.get(CONTENTS, "", bound)
    if content is None:
        where = f"snapshotcontent {bound} for snapshot {meta.namespace(claim)}/{name}"
        raise Unusable(f'error getting {where} from api server: {CONTENTS} "{bound}" not found')
    if not objects.refers(content, snapshot):
        raise Unusable(
            f"snapshotcontent {bound} for snapshot {meta.namespace(claim)}/{name} is bound to a different snapshot"
        )
    if not objects.is_ready(snapshot):
        raise Unusable(f"snapshot {name} is not Ready")
    if meta.spec(content).get("driver") != driver:
        raise Unusable(f"snapshot {name} is of driver {meta.spec(content).get('driver')}, not {driver}")
    size = meta.status(content).get("restoreSize") or 0
    if _requested(claim) < size:
        asked = f"requested volume size {_requested(claim)} is less than the size {size}"
        raise Unusable(f"{asked} for the source snapshot {name}")
    return Filling(meta.status(content).get("snapshotHandle", ""), is_snapshot=True)


def _of_claim(client: Client, claim: Object, name: str, driver: str) -> Filling:
    source = client.get(CLAIMS, meta.namespace(claim), name)
    if source is None:
        where = f'PVC {name} (namespace "{meta.namespace(claim)}")'
        raise Unusable(f'error getting {where} from api server: persistentvolumeclaims "{name}" not found')
    if meta.deleting(source):
        raise Unusable(f"the PVC {name} is currently being deleted")
    volume = objects.volume_of(client, source)
    if volume is None:
        raise Unusable(f"the PVC {name} is not bound: its phase is {meta.status(source).get('phase')}")
    keeper = objects.driver_and_handle(volume)
    if keeper is None or keeper[0] != driver:
        raise Unusable(f"the source PVC {name} is of a volume that {driver} has not made")
    wanted, given = (meta.spec(c).get("volumeMode") or "Filesystem" for c in (claim, source))
    if wanted != given:
        modes = f"Source is {given}, but new PVC requested {wanted}"
        raise Unusable(f"the source PVC and destination PVCs must have the same volume mode for cloning.  {modes}")
    size = of(meta.part(volume, "spec", "capacity").get("storage", "0")).value
    if _requested(claim) < size:
        asked = f"requested {_requested(claim)} but source is {size}"
        text = "error, new PVC request must be greater than or equal in size to the specified PVC data source"
        raise Unusable(f"{text}, {asked}")
    return Filling(keeper[1], is_snapshot=False, protect=_protect(source))


def _protect(source: Object) -> list[Action]:
    if CLONING_FINALIZER in meta.finalizers(source):
        return []
    wanted = [*meta.finalizers(source), CLONING_FINALIZER]
    return [set_finalizers(CLAIMS, source, wanted, "a clone of it is being made")]


# Who waits for a source


def clones_of(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claims that are to be filled from this one."""
    return _waiting(client, change, "PersistentVolumeClaim")


def restored_from(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claims that are to be filled from this snapshot."""
    return _waiting(client, change, "VolumeSnapshot")


def _waiting(client: Client, change: Change, kind: str) -> list[ObjectKey]:
    key = change.entry.key
    return [key_of(c) for c in client.list(CLAIMS, key.namespace) if objects.restores(c, kind, key.name)]

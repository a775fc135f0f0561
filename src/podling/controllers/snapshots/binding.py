"""A VolumeSnapshot and its content find each other: the part of external-snapshotter that knows no storage.

A snapshot of a claim gets a content of its own, which whoever keeps the claim's volume then fills; one that was there
before names its content, which names it in turn. The status follows the content's. Events and messages are those of
that project's snapshot-controller; unlike it, what failed is tried again whenever something that it needs changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import Format, Quantity
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Patch
from podling.controllers.addons import are_served
from podling.controllers.finalizers import set_finalizers
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself, key_of, service_account
from podling.controllers.snapshots import objects
from podling.controllers.snapshots.definition import CLASSES, CONTENTS, DEFAULT_CLASS, GROUP, KINDS, SNAPSHOTS
from podling.controllers.snapshots.objects import (
    BEING_DELETED,
    BOUND_FINALIZER,
    CLAIM_FINALIZER,
    SNAPSHOT_FINALIZER,
    content_name,
    is_ready,
    refers,
    snapshot_of,
    source_claim,
)
from podling.controllers.statuses import write_status
from podling.controllers.volumebinder import CLAIMS
from podling.store.types import Change, Object

NAME = "snapshot-controller"
_NANO = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    snapshot: Object
    content: Object | None
    """The one that it has or names, whomever that belongs to."""
    claim: Object | None
    volume: Object | None
    """To which the claim is bound."""
    classes: Sequence[Object]
    restoring: bool
    """Whether a claim is being filled from it."""


def observe(client: Client, key: ObjectKey) -> Situation | None:
    snapshot = client.get(SNAPSHOTS, key.namespace, key.name)
    if snapshot is None:
        return None
    claim = objects.claim_of(client, snapshot)
    name = meta.name(snapshot)
    claims = client.list(CLAIMS, key.namespace) if meta.deleting(snapshot) else ()
    return Situation(
        snapshot=snapshot,
        content=client.get(CONTENTS, "", content_name(snapshot)),
        claim=claim,
        volume=objects.volume_of(client, claim),
        classes=client.list(CLASSES),
        restoring=any(objects.restores(c, "VolumeSnapshot", name) for c in claims),
    )


def decide(seen: Situation, now: datetime) -> list[Action]:
    if meta.deleting(seen.snapshot):
        return _delete(seen)
    missing = _missing_finalizers(seen)
    if missing:
        wanted = [*meta.finalizers(seen.snapshot), *missing]
        return [set_finalizers(SNAPSHOTS, seen.snapshot, wanted, "what is needed shall not go")]
    fault = _fault(seen)
    if fault is not None:
        return _failed(seen.snapshot, *fault, now)
    if seen.content is None:
        return _create_content(seen, now)
    return [*_bind_content(seen.snapshot, seen.content), *_follow(seen.snapshot, seen.content)]


# Together with the content


def _fault(seen: Situation) -> tuple[str, str] | None:
    """What is wrong between the two: reason and message."""
    snapshot, content = seen.snapshot, seen.content
    by_hand = not source_claim(snapshot)
    if content is None:
        bound = is_ready(snapshot) and meta.status(snapshot).get("boundVolumeSnapshotContentName")
        return ("SnapshotContentMissing", "VolumeSnapshotContent is missing") if by_hand or bound else None
    name, source = meta.name(content), meta.part(content, "spec", "source")
    if by_hand and "snapshotHandle" not in source:
        message = "VolumeSnapshotContent is dynamically provisioned while expecting a pre-provisioned one"
        return "SnapshotContentMismatch", message
    if not by_hand and "volumeHandle" not in source:
        message = f"VolumeSnapshotContent {name} is pre-provisioned while expecting a dynamically provisioned one"
        return "SnapshotContentMismatch", message
    if refers(content, snapshot):
        return None
    if is_ready(snapshot):
        return "SnapshotMisbound", "VolumeSnapshotContent is not bound to the VolumeSnapshot correctly"
    return "SnapshotContentMisbound", f"VolumeSnapshotContent [{name}] is bound to a different snapshot"


def _bind_content(snapshot: Object, content: Object) -> list[Action]:
    """A content of hand learns which snapshot it is, and of which class."""
    reference = meta.part(content, "spec", "volumeSnapshotRef")
    wanted: Object = {}
    if reference.get("uid") != meta.uid(snapshot):
        wanted["volumeSnapshotRef"] = {**reference, "uid": meta.uid(snapshot)}
    class_name = meta.spec(snapshot).get("volumeSnapshotClassName")
    if class_name and "volumeSnapshotClassName" not in meta.spec(content):
        wanted["volumeSnapshotClassName"] = class_name
    if not wanted:
        return []
    patch: Object = {"metadata": {"uid": meta.uid(content)}, "spec": wanted}
    why = f"snapshot {key_of(snapshot)} names it"
    return [Patch(why=why, resource=CONTENTS, namespace="", name=meta.name(content), patch=patch)]


def _follow(snapshot: Object, content: Object) -> list[Action]:
    """The snapshot's status says what the content's says."""
    old, told = meta.status(snapshot), meta.status(content)
    if is_ready(snapshot) and meta.status(snapshot).get("boundVolumeSnapshotContentName"):
        return []
    status: Object = {"boundVolumeSnapshotContentName": meta.name(content), "readyToUse": is_ready(content)}
    if told.get("creationTime") is not None:
        status["creationTime"] = meta.timestamp(datetime.fromtimestamp(told["creationTime"] / _NANO, UTC))
    if told.get("restoreSize") is not None:
        status["restoreSize"] = str(Quantity(told["restoreSize"] * _NANO, Format.BINARY_SI))
    if told.get("error") and not status["readyToUse"]:
        status["error"] = told["error"]
    actions: list[Action] = [*write_status(SNAPSHOTS, snapshot, status, f"content {meta.name(content)} says so")]
    key = key_of(snapshot)
    if "creationTime" in status and "creationTime" not in old:
        message = f"Snapshot {key} was successfully created by the CSI driver."
        actions.append(_tell(snapshot, "SnapshotCreated", message))
    if status["readyToUse"]:
        actions.append(_tell(snapshot, "SnapshotReady", f"Snapshot {key} is ready to use."))
    return actions


# A content for a claim


class _Impossible(Exception):
    """No content can be made now."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def _create_content(seen: Situation, now: datetime) -> list[Action]:
    snapshot = seen.snapshot
    try:
        driver, handle = _source(seen)
        chosen = _class(seen, driver)
    except _Impossible as impossible:
        return _failed(snapshot, impossible.reason, impossible.message, now)
    if not meta.spec(snapshot).get("volumeSnapshotClassName"):
        return [_set_class(snapshot, meta.name(chosen))]
    content: Object = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": content_name(snapshot)},
        "spec": {
            "deletionPolicy": chosen["deletionPolicy"],
            "driver": driver,
            "source": {"volumeHandle": handle},
            "sourceVolumeMode": meta.spec(seen.volume or {}).get("volumeMode") or "Filesystem",
            "volumeSnapshotClassName": meta.name(chosen),
            "volumeSnapshotRef": _reference(snapshot),
        },
    }
    message = f"Waiting for a snapshot {key_of(snapshot)} to be created by the CSI driver."
    told = Announce(regarding=snapshot, reason="CreatingSnapshot", message=message)
    return [
        *_protect(seen.claim),
        Create(why=f"it is of claim {source_claim(snapshot)}", resource=CONTENTS, object=content, done=told),
    ]


def _source(seen: Situation) -> tuple[str, str]:
    """Driver and handle of the volume of which the snapshot is to be."""
    claim = seen.claim
    if claim is None or meta.deleting(claim):
        what = "cannot get claim from snapshot"
        if claim is not None:
            what = "cannot add finalizer on claim because it is being deleted"
        name = meta.name(seen.snapshot) if claim is None else meta.name(claim)
        raise _creation(f"snapshot controller failed to update {name} on API server: {what}")
    if seen.volume is None:
        text = f"the PVC {meta.name(claim)} is not yet bound to a PV, will not attempt to take a snapshot"
        raise _creation(_inputs(seen.snapshot, text))
    found = objects.driver_and_handle(seen.volume)
    if found is None:
        raise _creation(f"cannot find CSI PersistentVolumeSource for volume {meta.name(seen.volume)}")
    return found


def _creation(text: str) -> _Impossible:
    return _Impossible("SnapshotContentCreationFailed", f"Failed to create snapshot content with error {text}")


def _inputs(snapshot: Object, text: str) -> str:
    return f'failed to get input parameters to create snapshot {meta.name(snapshot)}: "{text}"'


def _class(seen: Situation, driver: str) -> Object:
    """The class that the snapshot names, else the driver's default one."""
    name = meta.spec(seen.snapshot).get("volumeSnapshotClassName")
    if not name:
        return _default_class(seen.classes, driver)
    found = next((c for c in seen.classes if meta.name(c) == name), None)
    if found is None:
        missing = f'volumesnapshotclass.{GROUP} \\"{name}\\" not found'
        text = f'failed to retrieve snapshot class {name} from the informer: "{missing}"'
        raise _Impossible("GetSnapshotClassFailed", f"Failed to get snapshot class with error {text}")
    if found["driver"] != driver:
        text = f"snapshot class {name} is of driver {found['driver']}, the volume of {driver}"
        raise _creation(_inputs(seen.snapshot, text))
    return found


def _default_class(classes: Sequence[Object], driver: str) -> Object:
    defaults = [c for c in classes if meta.annotations(c).get(DEFAULT_CLASS) == "true" and c["driver"] == driver]
    if len(defaults) == 1:
        return defaults[0]
    text = f"{len(defaults)} default snapshot classes were found" if defaults else "cannot find default snapshot class"
    raise _Impossible("SetDefaultSnapshotClassFailed", f"Failed to set default snapshot class with error {text}")


def _set_class(snapshot: Object, name: str) -> Patch:
    patch: Object = {"metadata": {"uid": meta.uid(snapshot)}, "spec": {"volumeSnapshotClassName": name}}
    return Patch(
        why=f"{name} is its driver's default class",
        resource=SNAPSHOTS,
        namespace=meta.namespace(snapshot),
        name=meta.name(snapshot),
        patch=patch,
    )


def _reference(snapshot: Object) -> Object:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshot",
        "name": meta.name(snapshot),
        "namespace": meta.namespace(snapshot),
        "resourceVersion": meta.metadata(snapshot).get("resourceVersion", ""),
        "uid": meta.uid(snapshot),
    }


def _protect(claim: Object | None) -> list[Action]:
    """The claim stays until its copy is complete; see `protection`."""
    if claim is None or CLAIM_FINALIZER in meta.finalizers(claim):
        return []
    why = "a snapshot of it is being taken"
    return [set_finalizers(CLAIMS, claim, [*meta.finalizers(claim), CLAIM_FINALIZER], why)]


# On its way out


def _delete(seen: Situation) -> list[Action]:
    """The content goes with the snapshot if its policy says so; the snapshot waits for that."""
    snapshot = seen.snapshot
    content = seen.content if seen.content is not None and refers(seen.content, snapshot) else None
    if not {SNAPSHOT_FINALIZER, BOUND_FINALIZER}.intersection(meta.finalizers(snapshot)):
        return []
    if content is not None and seen.restoring:
        message = "Snapshot is being used to restore a PVC"
        return [_tell(snapshot, "SnapshotDeletePending", message, "Warning")]
    goes = content is not None and meta.spec(content).get("deletionPolicy") == "Delete"
    actions: list[Action] = []
    if content is not None:
        actions += _let_go(content, goes)
    released = {SNAPSHOT_FINALIZER} if goes else {SNAPSHOT_FINALIZER, BOUND_FINALIZER}
    rest = [f for f in meta.finalizers(snapshot) if f not in released]
    if rest != meta.finalizers(snapshot):
        actions.append(set_finalizers(SNAPSHOTS, snapshot, rest, "nothing is restored from it"))
    return actions


def _let_go(content: Object, goes: bool) -> list[Action]:
    actions: list[Action] = []
    if meta.annotations(content).get(BEING_DELETED) != "yes":
        patch: Object = {"metadata": {"uid": meta.uid(content), "annotations": {BEING_DELETED: "yes"}}}
        why = "its snapshot goes"
        actions.append(Patch(why=why, resource=CONTENTS, namespace="", name=meta.name(content), patch=patch))
    if goes and not meta.deleting(content):
        why, uid = "its snapshot goes, and its policy is Delete", meta.uid(content)
        actions.append(Delete(why=why, resource=CONTENTS, namespace="", name=meta.name(content), uid=uid))
    return actions


def _missing_finalizers(seen: Situation) -> list[str]:
    wanted = [SNAPSHOT_FINALIZER]
    content = seen.content
    if content is not None and refers(content, seen.snapshot) and meta.spec(content)["deletionPolicy"] == "Delete":
        wanted.append(BOUND_FINALIZER)
    return [f for f in wanted if f not in meta.finalizers(seen.snapshot)]


def _failed(snapshot: Object, reason: str, message: str, now: datetime) -> list[Action]:
    """Said once for each message."""
    if meta.part(snapshot, "status", "error").get("message") == message:
        return []
    status: Object = {**meta.status(snapshot), "error": objects.error(message, now), "readyToUse": False}
    return [*write_status(SNAPSHOTS, snapshot, status, message), _tell(snapshot, reason, message, "Warning")]


def _tell(snapshot: Object, reason: str, message: str, type: str = "Normal") -> Emit:
    return Emit(why=message, event=Announce(regarding=snapshot, reason=reason, message=message, type=type))


# Controller


def controller() -> Controller:
    async def reconcile(context: Context, key: ObjectKey) -> None:
        if not await are_served(context, key, KINDS):
            return
        seen = observe(context.client, key)
        if seen is not None:
            await context.act(key, decide(seen, context.now()))

    return Controller(
        name=NAME,
        user=service_account(NAME),
        resource=SNAPSHOTS,
        watches=(
            Watch(resource=SNAPSHOTS, keys=itself),
            Watch(resource=CONTENTS, keys=_of_content),
            Watch(resource=CLASSES, keys=_of_class),
            Watch(resource=CLAIMS, keys=_of_claim),
        ),
        reconcile=reconcile,
    )


def _of_content(_client: Client, change: Change) -> Iterable[ObjectKey]:
    yield snapshot_of(change.entry.object)


def _of_class(client: Client, _change: Change) -> Iterable[ObjectKey]:
    yield from (key_of(s) for s in client.list(SNAPSHOTS) if not is_ready(s))


def _of_claim(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The snapshots of a claim, and the one that a claim is filled from."""
    claim = change.entry.object
    source = meta.part(claim, "spec", "dataSource")
    if source.get("kind") == "VolumeSnapshot":
        yield ObjectKey(meta.namespace(claim), source.get("name", ""))
    for snapshot in client.list(SNAPSHOTS, meta.namespace(claim)):
        if source_claim(snapshot) == meta.name(claim) and not is_ready(snapshot):
            yield key_of(snapshot)

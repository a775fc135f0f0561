"""Binding claims to volumes, and what becomes of a volume whose claim is gone.

A claim gets the smallest available volume that satisfies it. Volumes are made to order by provisioners; this
controller only names the one that is asked to. Source: "Persistent Volumes" (binding, reclaiming).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import of
from podling.controllers.actions import Action, Announce, Emit, Update
from podling.controllers.placing import matches_node_selector
from podling.controllers.runtime import (
    Controller,
    ObjectKey,
    Watch,
    itself,
    key_of,
    looking,
    service_account,
)
from podling.controllers.statuses import write_status
from podling.store.types import Change, Object

CLAIMS = "persistentvolumeclaims"
VOLUMES = "persistentvolumes"
CLASSES = "storageclasses.storage.k8s.io"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSnapshot:
    claim: Object
    volumes: Sequence[Object]
    storage_class: Object | None
    node: Object | None
    """The node that the scheduler chose for the first pod that uses the claim."""
    default_class: str | None = None


def observe_claim(client: Client, key: ObjectKey) -> ClaimSnapshot | None:
    claim = client.get(CLAIMS, key.namespace, key.name)
    if claim is None:
        return None
    node = meta.annotations(claim).get(SELECTED_NODE, "")
    return ClaimSnapshot(
        claim=claim,
        volumes=client.list(VOLUMES),
        storage_class=client.get(CLASSES, "", class_of(claim)),
        node=client.get("nodes", "", node) if node else None,
        default_class=default_class(client.list(CLASSES)),
    )


def default_class(classes: Iterable[Object]) -> str | None:
    """The newest of those that are marked as the default; of those of one second, the first by name."""
    marked = sorted((c for c in classes if meta.annotations(c).get(DEFAULT_CLASS) == "true"), key=meta.name)
    newest = max(marked, key=lambda c: meta.metadata(c).get("creationTimestamp", ""), default=None)
    return meta.name(newest) if newest is not None else None


def class_of(obj: Object) -> str:
    return meta.spec(obj).get("storageClassName") or ""


def decide_claim(snapshot: ClaimSnapshot, _now: datetime) -> list[Action]:
    claim = snapshot.claim
    wanted = meta.spec(claim).get("volumeName")
    if wanted:
        volume = next((v for v in snapshot.volumes if meta.name(v) == wanted), None)
        return _bound_to(claim, volume)
    if meta.deleting(claim):
        return []
    if _must_wait(snapshot):
        message = "waiting for first consumer to be created before binding"
        return [*_pending(claim), _tell(claim, "WaitForFirstConsumer", message, "Normal")]
    volume = best_volume(snapshot)
    if volume is not None:
        return [*_bind_volume(volume, claim), *_bind_claim(claim, volume)]
    if meta.spec(claim).get("storageClassName") is None and snapshot.default_class is not None:
        return _give_class(claim, snapshot.default_class)
    return [*_pending(claim), *_ask_provisioner(snapshot)]


def _give_class(claim: Object, name: str) -> list[Action]:
    """A claim from before there was a default class gets it (KEP-3333)."""
    changed = {**claim, "spec": {**claim["spec"], "storageClassName": name}}
    return [Update(why=f"{name} is the default class now", resource=CLAIMS, object=changed)]


def _pending(claim: Object) -> list[Action]:
    status = {**meta.status(claim), "phase": "Pending"}
    return [*write_status(CLAIMS, claim, status, "no volume is bound to it")]


def _tell(claim: Object, reason: str, message: str, type: str = "Warning") -> Emit:
    return Emit(why=message, event=Announce(regarding=claim, reason=reason, message=message, type=type))


def _must_wait(snapshot: ClaimSnapshot) -> bool:
    found = snapshot.storage_class
    waits = found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"
    return waits and SELECTED_NODE not in meta.annotations(snapshot.claim)


def best_volume(snapshot: ClaimSnapshot) -> Object | None:
    """The volume that names this claim, else the smallest available one that satisfies it."""
    claim = snapshot.claim
    for volume in snapshot.volumes:
        reference = meta.part(volume, "spec", "claimRef")
        if _refers(reference, claim) and _suits(volume, snapshot):
            return volume
    free = [
        v
        for v in snapshot.volumes
        if not meta.part(v, "spec", "claimRef") and meta.status(v).get("phase") == "Available" and _suits(v, snapshot)
    ]
    return min(free, key=lambda v: (_capacity(v), meta.name(v)), default=None)


def _refers(reference: Object, claim: Object) -> bool:
    if (reference.get("namespace"), reference.get("name")) != key_of(claim):
        return False
    return reference.get("uid", meta.uid(claim)) == meta.uid(claim)


def _capacity(volume: Object) -> int:
    return of(meta.part(volume, "spec", "capacity").get("storage", "0")).nanos


def _suits(volume: Object, snapshot: ClaimSnapshot) -> bool:
    claim, spec = snapshot.claim, meta.spec(snapshot.claim)
    request = meta.part(claim, "spec", "resources", "requests").get("storage", "0")
    selector = spec.get("selector")
    required = meta.part(volume, "spec", "nodeAffinity").get("required")
    return (
        not meta.deleting(volume)
        and class_of(volume) == class_of(claim)
        and meta.spec(volume).get("volumeMode", "Filesystem") == spec.get("volumeMode", "Filesystem")
        and set(spec.get("accessModes") or ()) <= set(meta.spec(volume).get("accessModes") or ())
        and _capacity(volume) >= of(request).nanos
        and (selector is None or meta.matches_selector(selector, meta.labels(volume)))
        and (required is None or snapshot.node is None or matches_node_selector(required, snapshot.node))
    )


def _bind_volume(volume: Object, claim: Object) -> list[Action]:
    metadata = meta.metadata(claim)
    reference: Object = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": meta.namespace(claim),
        "name": meta.name(claim),
        "uid": meta.uid(claim),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    old = meta.part(volume, "spec", "claimRef")
    if old.get("uid") == reference["uid"]:
        return []
    annotations = dict(meta.annotations(volume))
    if not old:
        annotations[BOUND_BY_CONTROLLER] = "yes"
    changed = {
        **volume,
        "metadata": {**volume["metadata"], "annotations": annotations},
        "spec": {**volume["spec"], "claimRef": reference},
    }
    why = f"claim {key_of(claim)} gets it"
    return [Update(why=why, resource=VOLUMES, object=changed)]


def _bind_claim(claim: Object, volume: Object) -> list[Action]:
    annotations = {**meta.annotations(claim), BIND_COMPLETED: "yes"}
    if not meta.spec(claim).get("volumeName"):
        annotations[BOUND_BY_CONTROLLER] = "yes"
    if meta.spec(claim).get("volumeName") == meta.name(volume) and annotations == meta.annotations(claim):
        return []
    changed = {
        **claim,
        "metadata": {**claim["metadata"], "annotations": annotations},
        "spec": {**claim["spec"], "volumeName": meta.name(volume)},
    }
    return [Update(why=f"volume {meta.name(volume)} satisfies it", resource=CLAIMS, object=changed)]


def _bound_to(claim: Object, volume: Object | None) -> list[Action]:
    """A claim that names its volume: bound, when the volume says the same; lost, when it is gone."""
    if volume is None:
        return _missing_volume(claim)
    reference = meta.part(volume, "spec", "claimRef")
    if reference and not _refers(reference, claim):
        return _missing_volume(claim) if BIND_COMPLETED in meta.annotations(claim) else _pending(claim)
    spec = meta.spec(volume)
    status: Object = {
        **meta.status(claim),
        "phase": "Bound",
        "accessModes": spec.get("accessModes") or [],
        "capacity": spec.get("capacity") or {},
    }
    why = f"volume {meta.name(volume)} is bound to it"
    return [*_bind_volume(volume, claim), *_bind_claim(claim, volume), *write_status(CLAIMS, claim, status, why)]


def _missing_volume(claim: Object) -> list[Action]:
    if BIND_COMPLETED not in meta.annotations(claim):
        return _pending(claim)
    if meta.status(claim).get("phase") == "Lost":
        return []
    message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
    status: Object = {"phase": "Lost"}
    return [*write_status(CLAIMS, claim, status, "its volume is gone"), _tell(claim, "ClaimLost", message)]


def _ask_provisioner(snapshot: ClaimSnapshot) -> list[Action]:
    claim, name = snapshot.claim, class_of(snapshot.claim)
    if not name:
        message = "no persistent volumes available for this claim and no storage class is set"
        return [_tell(claim, "FailedBinding", message, "Normal")]
    if snapshot.storage_class is None:
        return [_tell(claim, "ProvisioningFailed", f'storageclass.storage.k8s.io "{name}" not found')]
    provisioner: str = snapshot.storage_class.get("provisioner", "")
    if provisioner == NO_PROVISIONER:
        return []
    message = (
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
        "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
        "correctly registered."
    )
    actions: list[Action] = []
    if meta.annotations(claim).get(PROVISIONER) != provisioner:
        annotations = {**meta.annotations(claim), PROVISIONER: provisioner}
        changed = {**claim, "metadata": {**claim["metadata"], "annotations": annotations}}
        actions.append(Update(why=f"{provisioner} is to make a volume", resource=CLAIMS, object=changed))
        actions.append(_tell(claim, "ExternalProvisioning", message, "Normal"))
    return actions


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshot:
    volume: Object
    claim: Object | None
    """The claim of that uid to which it is bound, if there still is one."""


def observe_volume(client: Client, key: ObjectKey) -> VolumeSnapshot | None:
    volume = client.get(VOLUMES, "", key.name)
    if volume is None:
        return None
    reference = meta.part(volume, "spec", "claimRef")
    claim = client.get(CLAIMS, reference.get("namespace", ""), reference.get("name", "")) if reference else None
    if claim is not None and not _refers(reference, claim):
        claim = None
    return VolumeSnapshot(volume=volume, claim=claim)


def decide_volume(snapshot: VolumeSnapshot, _now: datetime) -> list[Action]:
    volume = snapshot.volume
    reference = meta.part(volume, "spec", "claimRef")
    if not reference:
        phase, why = "Available", "no claim has it"
    elif not reference.get("uid"):
        phase, why = "Available", "it waits for the claim that it names"
    elif snapshot.claim is None:
        phase, why = "Released", f"claim {reference.get('namespace')}/{reference.get('name')} is gone"
    elif meta.spec(snapshot.claim).get("volumeName") in (None, "", meta.name(volume)):
        phase, why = "Bound", f"claim {key_of(snapshot.claim)} has it"
    else:
        return []
    if phase == "Released" and meta.status(volume).get("phase") == "Failed":
        return []
    return [*write_status(VOLUMES, volume, {**meta.status(volume), "phase": phase}, why)]


def _claims_of_volume(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claim of a volume; a volume that is free may help any claim that waits."""
    reference = meta.part(change.entry.object, "spec", "claimRef")
    if reference:
        yield ObjectKey(reference.get("namespace", ""), reference.get("name", ""))
    name = change.entry.key.name
    for claim in client.list(CLAIMS):
        wanted = meta.spec(claim).get("volumeName")
        if wanted == name or (not wanted and class_of(claim) == class_of(change.entry.object)):
            yield key_of(claim)


def _claims_of_class(client: Client, change: Change) -> Iterable[ObjectKey]:
    default = meta.annotations(change.entry.object).get(DEFAULT_CLASS) == "true"
    names = ("", change.entry.key.name) if default else (change.entry.key.name,)
    for claim in client.list(CLAIMS):
        if class_of(claim) in names and not meta.spec(claim).get("volumeName"):
            yield key_of(claim)


def _volumes_of_claim(_client: Client, change: Change) -> Iterable[ObjectKey]:
    name = meta.spec(change.entry.object).get("volumeName")
    if name:
        yield ObjectKey("", name)


def claim_binder() -> Controller:
    return Controller(
        name="persistentvolume-controller",
        user=service_account("persistent-volume-binder"),
        resource=CLAIMS,
        watches=(
            Watch(resource=CLAIMS, keys=itself),
            Watch(resource=VOLUMES, keys=_claims_of_volume),
            Watch(resource=CLASSES, keys=_claims_of_class),
        ),
        reconcile=looking(observe_claim, decide_claim),
        workers=1,  # one claim after the other: two never take the same volume
    )


def volume_phases() -> Controller:
    return Controller(
        name="persistentvolume-controller",
        user=service_account("persistent-volume-binder"),
        resource=VOLUMES,
        watches=(Watch(resource=VOLUMES, keys=itself), Watch(resource=CLAIMS, keys=_volumes_of_claim)),
        reconcile=looking(observe_volume, decide_volume),
    )

"""Binding claims to volumes, and what becomes of a volume whose claim is gone.

A claim gets the smallest available volume that satisfies it. Volumes are made to order by provisioners; this
controller only names the one that is asked to. Source: "Persistent Volumes" (binding, reclaiming); the cases, phases
and messages are those of Kubernetes' persistentvolume-controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import of
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Emit, Requeue, Update
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
OLD_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
IN_TREE = "kubernetes.io/"
"""Begins the names of provisioners that Kubernetes once had inside; none is left, `no-provisioner` never was one."""
RESYNC = 15.0
"""Seconds after which a claim that waits is looked at again, and said again why (`--pvclaimbinder-sync-period`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSnapshot:
    claim: Object
    volumes: Sequence[Object]
    storage_class: Object | None
    node: Object | None
    """The node that the scheduler chose for the first pod that uses the claim."""
    default_class: str | None = None
    consumers: Sequence[str] = ()
    """The pods that use the claim and have no node yet."""


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
        consumers=_consumers(client, claim) if not meta.spec(claim).get("volumeName") else (),
    )


def _consumers(client: Client, claim: Object) -> list[str]:
    return [
        meta.name(pod)
        for pod in client.list("pods", meta.namespace(claim))
        if not meta.spec(pod).get("nodeName")
        and podlib.phase(pod) not in ("Succeeded", "Failed")
        and meta.name(claim) in podlib.claims_of(pod)
    ]


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
    volume = next((v for v in snapshot.volumes if meta.name(v) == wanted), None)
    if BIND_COMPLETED in meta.annotations(claim):
        return _bound(claim, volume)
    if wanted:
        return _wanted(claim, volume)
    if meta.deleting(claim):
        return []
    return _unbound(snapshot)


def _bound(claim: Object, volume: Object | None) -> list[Action]:
    """A claim that has had its volume: all is well, or it is lost."""
    if not meta.spec(claim).get("volumeName"):
        message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        return _lost(claim, "ClaimLost", message)
    if volume is None:
        return _lost(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    reference = meta.part(volume, "spec", "claimRef")
    if reference and reference.get("uid") != meta.uid(claim):
        message = "Two claims are bound to the same volume, this one is bound incorrectly"
        return _lost(claim, "ClaimMisbound", message)
    return _bind(claim, volume)


def _wanted(claim: Object, volume: Object | None) -> list[Action]:
    """A claim that asks for a certain volume: that one, if it is free and will do, or none."""
    if volume is None:
        return _pending(claim)
    reference = meta.part(volume, "spec", "claimRef")
    if reference:
        return _bind(claim, volume) if _refers(reference, claim) else _pending(claim)
    mismatch = _mismatch(volume, claim)
    if mismatch is not None:
        message = f'Cannot bind to requested volume "{meta.name(volume)}": {mismatch}'
        return [*_pending(claim), _tell(claim, "VolumeMismatch", message)]
    return _bind(claim, volume)


def _mismatch(volume: Object, claim: Object) -> str | None:
    """Why the volume cannot be the claim's."""
    if meta.deleting(volume):
        return f'the volume is marked for deletion "{meta.name(volume)}"'
    if _capacity(volume) < _requested(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes_class(volume) != _attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    return None if _has_modes(volume, claim) else "incompatible accessMode"


def _unbound(snapshot: ClaimSnapshot) -> list[Action]:
    claim = snapshot.claim
    volume = best_volume(snapshot)
    if volume is not None:
        return [*_bind_volume(volume, claim), *_bind_claim(claim, volume)]
    if meta.spec(claim).get("storageClassName") is None and snapshot.default_class is not None:
        return _give_class(claim, snapshot.default_class)
    again = Requeue(why="a volume may have come", seconds=RESYNC)
    if _must_wait(snapshot):
        return [*_pending(claim), _tell_wait(snapshot), again]
    return [*_pending(claim), *_ask_provisioner(snapshot), again]


def _tell_wait(snapshot: ClaimSnapshot) -> Emit:
    names = snapshot.consumers
    if not names:
        message = "waiting for first consumer to be created before binding"
        return _tell(snapshot.claim, "WaitForFirstConsumer", message, "Normal")
    message = f"waiting for pod{'s' if len(names) > 1 else ''} {','.join(names)} to be scheduled"
    return _tell(snapshot.claim, "WaitForPodScheduled", message, "Normal")


def _give_class(claim: Object, name: str) -> list[Action]:
    """A claim from before there was a default class gets it (KEP-3333)."""
    changed = {**claim, "spec": {**claim["spec"], "storageClassName": name}}
    return [Update(why=f"{name} is the default class now", resource=CLAIMS, object=changed)]


def _pending(claim: Object) -> list[Action]:
    return [*write_status(CLAIMS, claim, _without_volume(claim, "Pending"), "no volume is bound to it")]


def _lost(claim: Object, reason: str, message: str) -> list[Action]:
    """It is said once: a claim never finds back by itself."""
    if meta.status(claim).get("phase") == "Lost":
        return []
    status = _without_volume(claim, "Lost")
    return [*write_status(CLAIMS, claim, status, "its volume is gone"), _tell(claim, reason, message)]


def _without_volume(claim: Object, phase: str) -> Object:
    rest = {k: v for k, v in meta.status(claim).items() if k not in ("accessModes", "capacity")}
    return {**rest, "phase": phase}


def _tell(claim: Object, reason: str, message: str, type: str = "Warning") -> Emit:
    return Emit(why=message, event=Announce(regarding=claim, reason=reason, message=message, type=type))


def _must_wait(snapshot: ClaimSnapshot) -> bool:
    found = snapshot.storage_class
    waits = found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"
    return waits and SELECTED_NODE not in meta.annotations(snapshot.claim)


def best_volume(snapshot: ClaimSnapshot) -> Object | None:
    """The volume that names this claim; else, of the free ones that satisfy it, the one with the fewest access modes,
    then the smallest. A claim that waits for its consumer takes only one that names it.
    """
    claim = snapshot.claim
    enough = [
        volume
        for volume in snapshot.volumes
        if not meta.deleting(volume)
        and _capacity(volume) >= _requested(claim)
        and _mode(volume) == _mode(claim)
        and _has_modes(volume, claim)
    ]
    named = next((v for v in enough if _refers(meta.part(v, "spec", "claimRef"), claim)), None)
    if named is not None or _must_wait(snapshot):
        return named
    free = [v for v in enough if _is_free(v) and _suits(v, snapshot)]
    return min(free, key=lambda v: (len(_access_modes(v)), _capacity(v), meta.name(v)), default=None)


def _is_free(volume: Object) -> bool:
    return not meta.part(volume, "spec", "claimRef") and meta.status(volume).get("phase") == "Available"


def _refers(reference: Object, claim: Object) -> bool:
    if (reference.get("namespace"), reference.get("name")) != key_of(claim):
        return False
    return reference.get("uid", meta.uid(claim)) == meta.uid(claim)


def _capacity(volume: Object) -> int:
    return of(meta.part(volume, "spec", "capacity").get("storage", "0")).nanos


def _requested(claim: Object) -> int:
    return of(meta.part(claim, "spec", "resources", "requests").get("storage", "0")).nanos


def _mode(obj: Object) -> str:
    return meta.spec(obj).get("volumeMode") or "Filesystem"


def _attributes_class(obj: Object) -> str:
    return meta.spec(obj).get("volumeAttributesClassName") or ""


def _access_modes(obj: Object) -> set[str]:
    return set(meta.spec(obj).get("accessModes") or ())


def _has_modes(volume: Object, claim: Object) -> bool:
    return _access_modes(claim) <= _access_modes(volume)


def _suits(volume: Object, snapshot: ClaimSnapshot) -> bool:
    """Whether a volume that is large enough is also of the wanted kind and in the right place."""
    claim = snapshot.claim
    selector = meta.spec(claim).get("selector")
    required = meta.part(volume, "spec", "nodeAffinity").get("required")
    return (
        class_of(volume) == class_of(claim)
        and _attributes_class(volume) == _attributes_class(claim)
        and (selector is None or meta.matches_selector(selector, meta.labels(volume)))
        and (required is None or snapshot.node is None or matches_node_selector(required, snapshot.node))
    )


def _bind(claim: Object, volume: Object) -> list[Action]:
    """Both say the same of each other."""
    spec = meta.spec(volume)
    status: Object = {
        **meta.status(claim),
        "phase": "Bound",
        "accessModes": spec.get("accessModes") or [],
        "capacity": spec.get("capacity") or {},
    }
    why = f"volume {meta.name(volume)} is bound to it"
    return [*_bind_volume(volume, claim), *_bind_claim(claim, volume), *write_status(CLAIMS, claim, status, why)]


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


def _ask_provisioner(snapshot: ClaimSnapshot) -> list[Action]:
    claim, name = snapshot.claim, class_of(snapshot.claim)
    if not name:
        message = "no persistent volumes available for this claim and no storage class is set"
        return [_tell(claim, "FailedBinding", message, "Normal")]
    if snapshot.storage_class is None:
        return [_tell(claim, "ProvisioningFailed", f'storageclass.storage.k8s.io "{name}" not found')]
    provisioner: str = snapshot.storage_class.get("provisioner", "")
    if provisioner.startswith(IN_TREE):
        return [_tell(claim, "ProvisioningFailed", f"no volume plugin matched name: {provisioner}")]
    message = (
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
        "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
        "correctly registered."
    )
    told = _tell(claim, "ExternalProvisioning", message, "Normal")
    annotations = {**meta.annotations(claim), OLD_PROVISIONER: provisioner, PROVISIONER: provisioner}
    if annotations == meta.annotations(claim):
        return [told]
    changed = {**claim, "metadata": {**claim["metadata"], "annotations": annotations}}
    return [Update(why=f"{provisioner} is to make a volume", resource=CLAIMS, object=changed), told]


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
    volume, claim = snapshot.volume, snapshot.claim
    reference = meta.part(volume, "spec", "claimRef")
    if not reference:
        return _phase(volume, "Available", "no claim has it")
    if not reference.get("uid"):
        return _phase(volume, "Available", "it waits for the claim that it names")
    if claim is None:
        return _reclaim(volume, f"claim {reference.get('namespace')}/{reference.get('name')} is gone")
    wanted = meta.spec(claim).get("volumeName")
    if not wanted and _mode(claim) != _mode(volume):
        return _tell_modes(volume, claim)
    if wanted in (None, "", meta.name(volume)):
        return _phase(volume, "Bound", f"claim {key_of(claim)} has it")
    if PROVISIONED_BY in meta.annotations(volume) and _policy(volume) == "Delete":
        return _reclaim(volume, f"claim {key_of(claim)}, for which it was made, has another one")
    return _unbind(volume, claim)


def _policy(volume: Object) -> str:
    return meta.spec(volume).get("persistentVolumeReclaimPolicy") or "Retain"


def _phase(volume: Object, phase: str, why: str) -> list[Action]:
    status = {k: v for k, v in meta.status(volume).items() if k not in ("message", "reason")}
    return [*write_status(VOLUMES, volume, {**status, "phase": phase}, why)]


def _tell_modes(volume: Object, claim: Object) -> list[Action]:
    cannot, why = "Cannot bind PersistentVolume", "due to incompatible volumeMode."
    to_volume = f'{cannot} to requested PersistentVolumeClaim "{meta.name(claim)}" {why}'
    to_claim = f'{cannot} "{meta.name(volume)}" to requested PersistentVolumeClaim {why}'
    return [_tell(volume, "VolumeMismatch", to_volume), _tell(claim, "VolumeMismatch", to_claim)]


def _reclaim(volume: Object, why: str) -> list[Action]:
    """Released; what its policy wants beyond that is done by those who made it, and cannot be done to one of hand."""
    if meta.status(volume).get("phase") not in ("Released", "Failed"):
        return _phase(volume, "Released", why)
    failure = _reclaim_failure(volume)
    if failure is None or meta.status(volume).get("phase") == "Failed":
        return []
    reason, message = failure
    status: Object = {**meta.status(volume), "phase": "Failed", "message": message}
    return [*write_status(VOLUMES, volume, status, "nothing can reclaim it"), _tell(volume, reason, message)]


def _reclaim_failure(volume: Object) -> tuple[str, str] | None:
    """Why nobody here can carry out the policy: reason and message."""
    policy = _policy(volume)
    if policy == "Recycle":
        return "VolumeFailedRecycle", "No recycler plugin found for the volume!"
    if policy != "Delete" or PROVISIONED_BY in meta.annotations(volume) or meta.deleting(volume):
        return None
    if "hostPath" in meta.spec(volume):
        path = meta.part(volume, "spec", "hostPath").get("path", "")
        return "VolumeFailedDelete", f"host_path deleter only supports /tmp/.+ but received provided {path}"
    name = meta.name(volume)
    text = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
    return "VolumeFailedDelete", text


def _unbind(volume: Object, claim: Object) -> list[Action]:
    """Its claim has another volume: free again, or reserved for that claim again where the user had said so."""
    metadata, spec = dict(volume["metadata"]), dict(volume["spec"])
    annotations = {k: v for k, v in meta.annotations(volume).items() if k != BOUND_BY_CONTROLLER}
    if BOUND_BY_CONTROLLER in meta.annotations(volume):
        del spec["claimRef"]
        metadata["annotations"] = annotations
    else:
        spec["claimRef"] = {k: v for k, v in spec["claimRef"].items() if k != "uid"}
    changed = {**volume, "metadata": metadata, "spec": spec}
    return [Update(why=f"claim {key_of(claim)} has another volume", resource=VOLUMES, object=changed)]


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

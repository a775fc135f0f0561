"""Storage object in use protection: a claim stays while a pod uses it, a volume while a claim is bound to it, a class
of attributes while a volume or a claim has it or is to have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.actions import Action
from podling.controllers.finalizers import set_finalizers
from podling.controllers.quotausage import attributes_classes
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Change, Object

CLAIMS = "persistentvolumeclaims"
VOLUMES = "persistentvolumes"
CLASSES = "volumeattributesclasses.storage.k8s.io"
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
CLASS_FINALIZER = "kubernetes.io/vac-protection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    resource: str
    finalizer: str
    object: Object
    used_by: str | None
    """What uses it, in words."""


def observe_claim(client: Client, key: ObjectKey) -> Snapshot | None:
    claim = client.get(CLAIMS, key.namespace, key.name)
    if claim is None:
        return None
    user = _user(client, claim) if meta.deleting(claim) else None
    return Snapshot(resource=CLAIMS, finalizer=CLAIM_FINALIZER, object=claim, used_by=user)


def _user(client: Client, claim: Object) -> str | None:
    for pod in client.list("pods", meta.namespace(claim)):
        ended = podlib.phase(pod) in ("Succeeded", "Failed")
        if not ended and meta.spec(pod).get("nodeName") and meta.name(claim) in podlib.claims_of(pod):
            return f"pod {meta.name(pod)}"
    return None


def observe_volume(client: Client, key: ObjectKey) -> Snapshot | None:
    volume = client.get(VOLUMES, "", key.name)
    if volume is None:
        return None
    bound = meta.status(volume).get("phase") == "Bound"
    user = "the claim that is bound to it" if bound else None
    return Snapshot(resource=VOLUMES, finalizer=VOLUME_FINALIZER, object=volume, used_by=user)


def observe_class(client: Client, key: ObjectKey) -> Snapshot | None:
    found = client.get(CLASSES, "", key.name)
    if found is None:
        return None
    users = (
        f"{resource} {meta.name(obj)}"
        for resource in (VOLUMES, CLAIMS)
        for obj in (client.list(resource) if meta.deleting(found) else ())
        if key.name in attributes_classes(obj)
    )
    return Snapshot(resource=CLASSES, finalizer=CLASS_FINALIZER, object=found, used_by=next(users, None))


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    """Adds the finalizer to what lives, takes it from what goes when nothing uses it."""
    obj, finalizer = snapshot.object, snapshot.finalizer
    present = finalizer in meta.finalizers(obj)
    if not meta.deleting(obj):
        wanted = [*meta.finalizers(obj), finalizer]
        return [] if present else [set_finalizers(snapshot.resource, obj, wanted, "what is in use shall not go")]
    if not present or snapshot.used_by is not None:
        return []
    rest = [f for f in meta.finalizers(obj) if f != finalizer]
    return [set_finalizers(snapshot.resource, obj, rest, "nothing uses it any longer")]


def _of_pod(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claims of a pod that ended or went."""
    pod = change.entry.object
    if change.type == "DELETED" or podlib.phase(pod) in ("Succeeded", "Failed"):
        yield from (ObjectKey(change.entry.key.namespace, name) for name in podlib.claims_of(pod))


def _of_user(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """The classes that a volume or a claim has no more."""
    before = attributes_classes(change.previous.object) if change.previous else set[str]()
    after = set[str]() if change.type == "DELETED" else attributes_classes(change.entry.object)
    yield from (ObjectKey("", name) for name in (before | attributes_classes(change.entry.object)) - after)


def _controller(
    name: str, resource: str, watches: Iterable[Watch], observe: Callable[[Client, ObjectKey], Snapshot | None]
) -> Controller:
    return Controller(
        name=f"{name}-controller",
        user=service_account(f"{name}-controller"),
        resource=resource,
        watches=(Watch(resource=resource, keys=itself), *watches),
        reconcile=looking(observe, decide),
    )


def claim_protection() -> Controller:
    return _controller("pvc-protection", CLAIMS, [Watch(resource="pods", keys=_of_pod)], observe_claim)


def volume_protection() -> Controller:
    return _controller("pv-protection", VOLUMES, [], observe_volume)


def class_protection() -> Controller:
    watches = [Watch(resource=resource, keys=_of_user) for resource in (VOLUMES, CLAIMS)]
    return _controller("volumeattributesclass-protection", CLASSES, watches, observe_class)

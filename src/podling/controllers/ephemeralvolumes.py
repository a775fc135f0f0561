"""Generic ephemeral volumes: a claim for each, of the template that the pod gives, which goes with the pod.

Source: "Ephemeral Volumes"; KEP-1698. A claim of that name which is not the pod's own is never used: the scheduler says
so, and it is looked at again when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Create
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, of_controller, service_account
from podling.store.types import Change, Object

CLAIMS = "persistentvolumeclaims"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    pod: Object
    missing: Sequence[Object]
    """The volumes without a claim."""


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    pod = client.get("pods", key.namespace, key.name)
    if pod is None or meta.deleting(pod):
        return None
    volumes = [volume for volume in meta.items(pod, "spec", "volumes") if "ephemeral" in volume]
    missing = [v for v in volumes if client.get(CLAIMS, key.namespace, claim_name(pod, v)) is None]
    return Snapshot(pod=pod, missing=missing)


def claim_name(pod: Object, volume: Object) -> str:
    return f"{meta.name(pod)}-{volume['name']}"


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    return [
        Create(why=f"volume {volume['name']} needs it", resource=CLAIMS, object=_claim(snapshot.pod, volume))
        for volume in snapshot.missing
    ]


def _claim(pod: Object, volume: Object) -> Object:
    template = meta.part(volume, "ephemeral", "volumeClaimTemplate")
    kept = {k: v for k, v in meta.part(template, "metadata").items() if k in ("labels", "annotations")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            **kept,
            "name": claim_name(pod, volume),
            "namespace": meta.namespace(pod),
            "ownerReferences": [meta.new_controller_reference(pod)],
        },
        "spec": template["spec"],
    }


def _with_such(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """Most pods have none, and are not looked at."""
    if any("ephemeral" in volume for volume in meta.items(change.entry.object, "spec", "volumes")):
        yield from itself(_client, change)


def controller() -> Controller:
    return Controller(
        name="ephemeral-volume-controller",
        user=service_account("ephemeral-volume-controller"),
        resource="pods",
        watches=(Watch(resource="pods", keys=_with_such), Watch(resource=CLAIMS, keys=of_controller("Pod"))),
        reconcile=looking(observe, decide),
    )

"""Pod garbage collection: pods whose node no longer exists, and terminating pods that never had one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Delete, Patch, Requeue
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, key_of, service_account
from podling.store.types import Change, Object

QUARANTINE = 40.0
"""Seconds that a node must be missing before its pods go: it may only be registering anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    pod: Object
    missing_since: datetime | None
    """Since when its node is missing; `None` if it is there, or if the pod has none."""


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    pod = snapshot.pod
    if not meta.spec(pod).get("nodeName"):
        return [_delete(pod, "it is to end and never had a node")] if meta.deleting(pod) else []
    if snapshot.missing_since is None:
        return []
    left = (snapshot.missing_since + timedelta(seconds=QUARANTINE) - now).total_seconds()
    if left > 0:
        return [Requeue(why="its node may come back until then", seconds=left)]
    why = f"its node {meta.spec(pod)['nodeName']} is gone"
    return [*_fail(pod, why, now), _delete(pod, why)]


def _fail(pod: Object, why: str, now: datetime) -> list[Action]:
    if meta.status(pod).get("phase") in ("Succeeded", "Failed"):
        return []
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
        "lastTransitionTime": meta.timestamp(now),
    }
    return [
        Patch(
            why=why,
            resource="pods",
            namespace=meta.namespace(pod),
            name=meta.name(pod),
            patch={"status": {"phase": "Failed", "conditions": [condition]}},
            subresource="status",
            strategic=True,
        )
    ]


def _delete(pod: Object, why: str) -> Delete:
    return Delete(
        why=why,
        resource="pods",
        namespace=meta.namespace(pod),
        name=meta.name(pod),
        uid=meta.uid(pod),
        grace_seconds=0,
    )


class PodGc:
    """Remembers since when each node is missing."""

    def __init__(self) -> None:
        self._missing: dict[str, datetime] = {}

    async def reconcile(self, context: Context, key: ObjectKey) -> None:
        pod = context.client.get("pods", key.namespace, key.name)
        if pod is None:
            return
        node: str = meta.spec(pod).get("nodeName", "")
        missing: datetime | None = None
        if node and context.client.get("nodes", "", node) is None:
            missing = self._missing.setdefault(node, context.now())
        else:
            self._missing.pop(node, None)
        await context.act(key, decide(Snapshot(pod=pod, missing_since=missing), context.now()))


def _of_pod(client: Client, change: Change) -> Iterable[ObjectKey]:
    pod = change.entry.object
    node = meta.spec(pod).get("nodeName")
    if change.type == "DELETED":
        return
    if (node and client.get("nodes", "", node) is None) or (not node and meta.deleting(pod)):
        yield key_of(pod)


def _of_node(client: Client, change: Change) -> Iterable[ObjectKey]:
    if change.type == "DELETED":
        name = change.entry.key.name
        yield from (key_of(p) for p in client.list("pods") if meta.spec(p).get("nodeName") == name)


def controller() -> Controller:
    return Controller(
        name="pod-garbage-collector-controller",
        user=service_account("pod-garbage-collector"),
        resource="pods",
        watches=(Watch(resource="pods", keys=_of_pod), Watch(resource="nodes", keys=_of_node)),
        reconcile=PodGc().reconcile,
    )

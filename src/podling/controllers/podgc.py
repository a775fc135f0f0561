"""Pod garbage collection: pods whose node no longer exists, and terminating pods whose end no kubelet will confirm.

Those are pods that never had a node, and pods of a node that is not ready and that somebody has declared to be down for
good by the taint `node.kubernetes.io/out-of-service` (KEP-2268). Only then may a StatefulSet make them anew elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Delete, Patch, Requeue
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, key_of, service_account
from podling.store.types import Change, Object, Uid

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
QUARANTINE = 40.0
"""Seconds that a node must be missing before its pods go: it may only be registering anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    pod: Object
    missing_since: datetime | None
    """Since when its node is known to be missing; `None` if it is there, or if the pod has none."""
    out_of_service: bool = False
    """Whether its node is there, and down for good."""


def is_out_of_service(node: Object | None) -> bool:
    keys = {taint["key"] for taint in meta.items(node, "spec", "taints")}
    return node is not None and OUT_OF_SERVICE in keys and not meta.condition_is(node, "Ready")


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    pod = snapshot.pod
    if not meta.spec(pod).get("nodeName"):
        why = "it is to end and never had a node"
        return [*_fail(pod, why, []), _delete(pod, why)] if meta.deleting(pod) else []
    if snapshot.out_of_service and meta.deleting(pod):
        why = f"it is to end, and its node {meta.spec(pod)['nodeName']} is out of service"
        return [*_fail(pod, why, []), _delete(pod, why)]
    if snapshot.missing_since is None:
        return []
    left = (snapshot.missing_since + timedelta(seconds=QUARANTINE) - now).total_seconds()
    if left > 0:
        return [Requeue(why="its node may come back until then", seconds=left)]
    why = f"its node {meta.spec(pod)['nodeName']} is gone"
    condition: Object = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
        "lastTransitionTime": meta.timestamp(now),
    }
    return [*_fail(pod, why, [condition]), _delete(pod, why)]


def _fail(pod: Object, why: str, conditions: list[Object]) -> list[Action]:
    if meta.status(pod).get("phase") in ("Succeeded", "Failed"):
        return []
    return [
        Patch(
            why=why,
            resource="pods",
            namespace=meta.namespace(pod),
            name=meta.name(pod),
            patch={"status": {"phase": "Failed", "conditions": conditions}},
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
    """Remembers since when the node of a pod is missing."""

    def __init__(self) -> None:
        self._missing: dict[Uid, datetime] = {}

    async def reconcile(self, context: Context, key: ObjectKey) -> None:
        pod = context.client.get("pods", key.namespace, key.name)
        if pod is None:
            return
        name: str = meta.spec(pod).get("nodeName", "")
        node = context.client.get("nodes", "", name) if name else None
        missing: datetime | None = None
        if name and node is None:
            missing = self._missing.setdefault(meta.uid(pod), context.now())
        else:
            self._missing.pop(meta.uid(pod), None)
        snapshot = Snapshot(pod=pod, missing_since=missing, out_of_service=is_out_of_service(node))
        await context.act(key, decide(snapshot, context.now()))

    def concerned(self, client: Client, change: Change) -> Iterable[ObjectKey]:
        """The pods that a change of a pod concerns: itself, if there may be something to do."""
        pod = change.entry.object
        name = meta.spec(pod).get("nodeName")
        if change.type == "DELETED":
            self._missing.pop(meta.uid(pod), None)
            return
        node = client.get("nodes", "", name) if name else None
        if (name and node is None) or (meta.deleting(pod) and (not name or is_out_of_service(node))):
            yield key_of(pod)


def _of_node(client: Client, change: Change) -> Iterable[ObjectKey]:
    if change.type == "DELETED" or is_out_of_service(change.entry.object):
        name = change.entry.key.name
        yield from (key_of(p) for p in client.list("pods") if meta.spec(p).get("nodeName") == name)


def controller() -> Controller:
    collector = PodGc()
    return Controller(
        name="pod-garbage-collector-controller",
        user=service_account("pod-garbage-collector"),
        resource="pods",
        watches=(Watch(resource="pods", keys=collector.concerned), Watch(resource="nodes", keys=_of_node)),
        reconcile=collector.reconcile,
    )

"""Eviction by NoExecute taints: pods that do not tolerate them go, those that do for a while go later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Announce, Delete, Emit, Patch, Requeue
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, key_of, service_account
from podling.controllers.tolerating import tolerates
from podling.store.types import Change, Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    pod: Object
    taints: Sequence[Object]
    """The NoExecute taints of its node."""
    since: datetime
    """When the pod first met them."""


def no_execute(node: Object | None) -> list[Object]:
    return [t for t in meta.items(node, "spec", "taints") if t.get("effect") == "NoExecute"]


def patience(pod: Object, taints: Sequence[Object]) -> float | None:
    """Seconds that the pod may stay: 0 not at all, `None` for ever."""
    least: float | None = None
    for taint in taints:
        using = [t for t in meta.items(pod, "spec", "tolerations") if tolerates(t, taint)]
        if not using:
            return 0.0
        limits = [float(t["tolerationSeconds"]) for t in using if t.get("tolerationSeconds") is not None]
        if limits:
            shortest = max(0.0, min(limits))
            least = shortest if least is None else min(least, shortest)
    return least


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    pod = snapshot.pod
    stay = patience(pod, snapshot.taints)
    if stay is None or not snapshot.taints:
        return []
    left = (snapshot.since + timedelta(seconds=stay) - now).total_seconds()
    if left > 0:
        return [Requeue(why="it tolerates the taint no longer than that", seconds=left)]
    return _evict(pod, snapshot.taints, now)


def _evict(pod: Object, taints: Sequence[Object], now: datetime) -> list[Action]:
    keys = ", ".join(t["key"] for t in taints)
    why = f"its node has taints that it does not tolerate: {keys}"
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": meta.timestamp(now),
    }
    message = f"Marking for deletion Pod {key_of(pod)}"
    return [
        Emit(why=why, event=Announce(regarding=pod, reason="TaintManagerEviction", message=message)),
        Patch(
            why=why,
            resource="pods",
            namespace=meta.namespace(pod),
            name=meta.name(pod),
            patch={"status": {"conditions": [condition]}},
            subresource="status",
            strategic=True,
        ),
        Delete(why=why, resource="pods", namespace=meta.namespace(pod), name=meta.name(pod), uid=meta.uid(pod)),
    ]


class TaintEviction:
    """Remembers since when each pod meets its node's taints."""

    def __init__(self) -> None:
        self._since: dict[ObjectKey, tuple[str, datetime]] = {}

    async def reconcile(self, context: Context, key: ObjectKey) -> None:
        pod = context.client.get("pods", key.namespace, key.name)
        taints = no_execute(context.client.get("nodes", "", meta.spec(pod).get("nodeName", ""))) if pod else []
        if pod is None or not taints or meta.deleting(pod):
            await self._forget(context, key, pod)
            return
        uid, since = self._since.get(key, ("", context.now()))
        if uid != meta.uid(pod):
            since = context.now()
        self._since[key] = (meta.uid(pod), since)
        await context.act(key, decide(Snapshot(pod=pod, taints=taints, since=since), context.now()))

    async def _forget(self, context: Context, key: ObjectKey, pod: Object | None) -> None:
        known = self._since.pop(key, None)
        if known is not None and pod is not None and not meta.deleting(pod) and known[0] == meta.uid(pod):
            message = f"Cancelling deletion of Pod {key}"
            event = Announce(regarding=pod, reason="TaintManagerEviction", message=message)
            await context.act(key, [Emit(why="the taint is gone", event=event)])


def _of_pod(client: Client, change: Change) -> Iterable[ObjectKey]:
    pod = change.entry.object
    if change.type == "DELETED" or no_execute(client.get("nodes", "", meta.spec(pod).get("nodeName", ""))):
        yield ObjectKey(change.entry.key.namespace, change.entry.key.name)


def _of_node(client: Client, change: Change) -> Iterable[ObjectKey]:
    """All pods of a node whose NoExecute taints changed."""
    old = no_execute(change.previous.object) if change.previous else []
    if old == no_execute(change.entry.object) or change.type == "DELETED":
        return
    name = change.entry.key.name
    yield from (key_of(p) for p in client.list("pods") if meta.spec(p).get("nodeName") == name)


def controller() -> Controller:
    return Controller(
        name="taint-eviction-controller",
        user=service_account("node-controller"),
        resource="pods",
        watches=(Watch(resource="pods", keys=_of_pod), Watch(resource="nodes", keys=_of_node)),
        reconcile=TaintEviction().reconcile,
        workers=20,
    )

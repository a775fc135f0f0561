"""Node lifecycle: a node whose lease is no longer renewed becomes Unknown; conditions become taints.

The time of the last renewal is when *we* saw the lease change, as in Kubernetes, so that neither a clock that differs
nor our own downtime makes a node look dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Announce, Emit, Patch, Requeue
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself, service_account
from podling.layout import NODE_GRACE
from podling.store.types import Change, Object

LEASES = "leases.coordination.k8s.io"
LEASE_NAMESPACE = "kube-node-lease"
STARTUP_EXTRA = 10.0
"""Seconds more for a node that never reported (`--node-startup-grace-period` is 60 s, the other 50)."""

_WATCHED_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_CONDITION_TAINTS: Mapping[tuple[str, str], str] = {
    ("Ready", "False"): _NOT_READY,
    ("Ready", "Unknown"): _UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_MANAGED = frozenset({*_CONDITION_TAINTS.values(), _UNSCHEDULABLE})


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """What was last seen of a node, and when we saw it."""

    renewed: str
    status: tuple[tuple[str, str], ...]
    seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    node: Object
    last: SignOfLife
    pods: Sequence[Object]
    """Its pods; only read when it is not ready."""
    pace: float = 1.0
    """Of the clock."""
    grace: float = NODE_GRACE
    """Seconds without a sign of life until it is Unknown, of the machine: what is late there is a process."""

    @property
    def patience(self) -> float:
        """Seconds of the clock; one that never reported gets a little longer."""
        extra = 0.0 if meta.condition(self.node, "Ready") else STARTUP_EXTRA
        return (self.grace + extra) * self.pace


def sign_of_life(node: Object, lease: Object | None, before: SignOfLife | None, now: datetime) -> SignOfLife:
    """What is seen now; the time moves on only if the lease or a heartbeat of the status did."""
    renewed: str = meta.spec(lease).get("renewTime", "") if lease else ""
    beats = tuple(
        (c["type"], c.get("lastHeartbeatTime", "")) for c in meta.conditions(node) if c["type"] in _WATCHED_CONDITIONS
    )
    if before is not None and (before.renewed, before.status) == (renewed, beats):
        return before
    return SignOfLife(renewed, beats, now)


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    node = snapshot.node
    if meta.deleting(node):
        return []
    silent_for = (now - snapshot.last.seen).total_seconds()
    grace = snapshot.patience
    silent = silent_for > grace
    conditions = _unknown_conditions(node, now) if silent else list(meta.conditions(node))
    actions: list[Action] = []
    if conditions != list(meta.conditions(node)):
        actions += _tell_silence(node, conditions, silent_for)
    actions += _retaint(node, conditions, now)
    if _ready(conditions) != "True":
        actions += _mark_pods(snapshot.pods, now)
    if not silent:
        actions.append(Requeue(why="by then the node must have shown a sign of life", seconds=grace - silent_for + 0.1))
    return actions


def _ready(conditions: Iterable[Object]) -> str:
    return (meta.find_condition(conditions, "Ready") or {}).get("status", "Unknown")


def _unknown_conditions(node: Object, now: datetime) -> list[Object]:
    """The node's conditions when it is silent: all that the kubelet reports are Unknown."""
    conditions = {c["type"]: c for c in meta.conditions(node)}
    moment = meta.timestamp(now)
    for type in _WATCHED_CONDITIONS:
        old = conditions.get(type)
        if old is None:
            created = meta.metadata(node).get("creationTimestamp", moment)
            conditions[type] = {
                "type": type,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": created,
                "lastTransitionTime": moment,
            }
        elif old["status"] != "Unknown":
            conditions[type] = {
                **old,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": moment,
            }
    return list(conditions.values())


def _tell_silence(node: Object, conditions: list[Object], silent_for: float) -> list[Action]:
    name = meta.name(node)
    patch: Object = {"status": {"conditions": conditions}}
    actions: list[Action] = [
        Patch(
            why=f"no sign of life for {silent_for:.0f} s",
            resource="nodes",
            namespace="",
            name=name,
            patch=patch,
            subresource="status",
            strategic=True,
        )
    ]
    if _ready(meta.conditions(node)) == "True":
        message = f"Node {name} status is now: NodeNotReady"
        event = Announce(regarding=node, reason="NodeNotReady", message=message)
        actions.append(Emit(why="it is no longer ready", event=event))
    return actions


def _retaint(node: Object, conditions: Iterable[Object], now: datetime) -> list[Action]:
    """The taints that follow from conditions and `spec.unschedulable`; all others are left alone."""
    old: list[Object] = list(meta.items(node, "spec", "taints"))
    wanted = _wanted_taints(node, conditions)
    kept = [t for t in old if t["key"] not in _MANAGED or (t["key"], t["effect"]) in wanted]
    present = {(t["key"], t["effect"]) for t in kept}
    added: list[Object] = [
        {"key": key, "effect": effect, "timeAdded": meta.timestamp(now)}
        for key, effect in wanted
        if (key, effect) not in present
    ]
    if kept == old and not added:
        return []
    patch: Object = {"metadata": {"resourceVersion": meta.metadata(node).get("resourceVersion")}}
    patch["spec"] = {"taints": [*kept, *added] or None}
    names = ", ".join(sorted(f"{key}:{effect}" for key, effect in wanted)) or "none"
    return [
        Patch(
            why=f"its conditions ask for taints: {names}",
            resource="nodes",
            namespace="",
            name=meta.name(node),
            patch=patch,
        )
    ]


def _wanted_taints(node: Object, conditions: Iterable[Object]) -> list[tuple[str, str]]:
    wanted: list[tuple[str, str]] = []
    for condition in conditions:
        key = _CONDITION_TAINTS.get((condition["type"], condition["status"]))
        if key is not None:
            wanted.append((key, "NoSchedule"))
            if key in (_NOT_READY, _UNREACHABLE):
                wanted.append((key, "NoExecute"))
    if meta.spec(node).get("unschedulable"):
        wanted.append((_UNSCHEDULABLE, "NoSchedule"))
    return wanted


def _mark_pods(pods: Iterable[Object], now: datetime) -> list[Action]:
    """Pods of a node that is not ready are not ready either."""
    actions: list[Action] = []
    for pod in pods:
        if not meta.condition_is(pod, "Ready"):
            continue
        condition = {"type": "Ready", "status": "False", "lastTransitionTime": meta.timestamp(now)}
        actions.append(
            Patch(
                why="its node is not ready",
                resource="pods",
                namespace=meta.namespace(pod),
                name=meta.name(pod),
                patch={"status": {"conditions": [condition]}},
                subresource="status",
                strategic=True,
                done=Announce(regarding=pod, reason="NodeNotReady", message="Node is not ready", type="Warning"),
            )
        )
    return actions


class NodeLifecycle:
    """Remembers when each node was last seen alive."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._last: dict[str, SignOfLife] = {}

    async def reconcile(self, context: Context, key: ObjectKey) -> None:
        client = context.client
        node = client.get("nodes", "", key.name)
        if node is None:
            if self._last.pop(key.name, None) is not None:
                message = f"Node {key.name} event: Removing Node {key.name} from Controller"
                gone: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": key.name, "uid": key.name}}
                context.record(gone, "Normal", "RemovingNode", message)
            return
        known = self._last.get(key.name)
        if known is None:
            message = f"Node {key.name} event: Registered Node {key.name} in Controller"
            context.record(node, "Normal", "RegisteredNode", message)
        lease = client.get(LEASES, LEASE_NAMESPACE, key.name)
        last = self._last[key.name] = sign_of_life(node, lease, known, context.now())
        pods, pace = self._pods(client, node, last, context), context.clock.pace
        snapshot = Snapshot(node=node, last=last, pods=pods, pace=pace, grace=self._grace)
        await context.act(key, decide(snapshot, context.now()))

    def _pods(self, client: Client, node: Object, last: SignOfLife, context: Context) -> Sequence[Object]:
        silent = context.now() - last.seen > timedelta(seconds=self._grace * context.clock.pace)
        if _ready(meta.conditions(node)) == "True" and not silent:
            return []
        return [p for p in client.list("pods") if meta.spec(p).get("nodeName") == meta.name(node)]


def _of_lease(_client: Client, change: Change) -> Iterable[ObjectKey]:
    if change.entry.key.namespace == LEASE_NAMESPACE and change.type == "ADDED":
        yield ObjectKey("", change.entry.key.name)


def _of_node(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """All but mere heartbeats: those are read when the time is up."""
    old = change.previous
    if old is None or change.type != "MODIFIED" or _essence(old.object) != _essence(change.entry.object):
        yield from itself(_client, change)


def _essence(node: Object) -> tuple[object, ...]:
    conditions = [(c["type"], c["status"]) for c in meta.conditions(node)]
    return (conditions, meta.spec(node), meta.deleting(node))


def controller(grace: float = NODE_GRACE) -> Controller:
    """`grace`: seconds without a sign of life until a node is Unknown."""
    return Controller(
        name="node-controller",
        user=service_account("node-controller"),
        resource="nodes",
        watches=(Watch(resource="nodes", keys=_of_node), Watch(resource=LEASES, keys=_of_lease)),
        reconcile=NodeLifecycle(grace).reconcile,
    )

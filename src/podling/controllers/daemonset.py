"""DaemonSet: one pod on every node that will have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers import history
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Requeue, Together, Write
from podling.controllers.numbers import scaled
from podling.controllers.placing import matches_node
from podling.controllers.runtime import (
    Controller,
    ObjectKey,
    Watch,
    itself,
    key_of,
    looking,
    of_controller,
    service_account,
)
from podling.controllers.selecting import of_selecting
from podling.controllers.statuses import write_status
from podling.controllers.tolerating import pod_tolerates
from podling.store.types import Change, Object

RESOURCE = "daemonsets.apps"
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_TOLERATED: Sequence[tuple[str, str]] = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    set: Object
    nodes: Sequence[Object]
    pods: Sequence[Object]
    adoptions: Sequence[Action]
    revisions: Sequence[Object]


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    set = client.get(RESOURCE, key.namespace, key.name)
    if set is None:
        return None
    owned = [p for resource, p in client.owned(meta.uid(set)) if resource == "pods"]
    orphans = [p for p in client.list("pods", key.namespace) if meta.controller_reference(p) is None]
    claim = podlib.Claim("pods", set, meta.spec(set).get("selector"), [*owned, *orphans])
    return Snapshot(
        set=set,
        nodes=client.list("nodes"),
        pods=claim.owned,
        adoptions=claim.changes,
        revisions=history.revisions_of(client, set),
    )


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    if meta.spec(snapshot.set).get("selector") == {}:
        message = "This daemon set is selecting all pods. A non-empty selector is required."
        event = Announce(regarding=snapshot.set, reason="SelectingAll", message=message, type="Warning")
        return [Emit(why="its selector is empty", event=event)]
    return _Look(snapshot, now).decide()


def node_of(pod: Object) -> str:
    """The pod's node, or the one it is meant for while it waits for the scheduler."""
    if meta.spec(pod).get("nodeName"):
        return meta.spec(pod)["nodeName"]
    affinity = meta.part(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in meta.items(affinity, "nodeSelectorTerms"):
        for field in meta.items(term, "matchFields"):
            if field["key"] == "metadata.name" and field["operator"] == "In" and field.get("values"):
                return field["values"][0]
    return ""


class _Look:
    """One decision in the making."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.set = snapshot.set
        self.now = now
        self.min_ready: int = meta.spec(self.set).get("minReadySeconds", 0)
        self.history = history.track(self.set, snapshot.revisions)
        self.hash = meta.labels(self.history.update)[history.HASH_LABEL]
        self.template = self._template()
        self.by_node: dict[str, list[Object]] = {}
        for pod in snapshot.pods:
            self.by_node.setdefault(node_of(pod), []).append(pod)
        self.writes: list[Write] = []
        self.told: list[Action] = []

    def decide(self) -> list[Action]:
        if meta.deleting(self.set):
            return []
        for node in self.snapshot.nodes:
            self._manage_node(node)
        self._forget_lost_nodes()
        if self._strategy() == "RollingUpdate":
            self._roll()
        unique = list({(type(w), _target(w)): w for w in self.writes}.values())
        actions: list[Action] = [*self.history.actions, *self.snapshot.adoptions, *self.told]
        if unique:
            actions.append(Together(writes=unique, slow_start=True))
        actions += write_status(RESOURCE, self.set, self._status(), "its nodes and pods say so")
        live = {meta.name(self.history.update)} | {
            meta.name(r)
            for r in self.snapshot.revisions
            if any(_hash(p) == meta.labels(r).get(history.HASH_LABEL) for p in self.snapshot.pods)
        }
        actions += history.truncate(self.set, self.snapshot.revisions, live)
        wait = podlib.next_available(self.snapshot.pods, self.min_ready, self.now)
        return [*actions, Requeue(why="a ready pod becomes available then", seconds=wait)] if wait else actions

    # Nodes

    def _template(self) -> Object:
        """The template with the tolerations that every daemon has."""
        template: Object = meta.spec(self.set)["template"]
        wanted = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in _TOLERATED]
        if meta.spec(template).get("hostNetwork"):
            network = {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"}
            wanted.append(network)
        own = list(meta.items(template, "spec", "tolerations"))
        tolerations = [*own, *(t for t in wanted if t not in own)]
        return {**template, "spec": {**template["spec"], "tolerations": tolerations}}

    def _may_run(self, node: Object, effects: Sequence[str]) -> bool:
        pod: Object = {"spec": self.template["spec"], "metadata": {}}
        wanted: str = meta.spec(pod).get("nodeName", "")
        if (wanted and wanted != meta.name(node)) or not matches_node(pod, node):
            return False
        taints = meta.items(node, "spec", "taints")
        return all(pod_tolerates(pod, t) for t in taints if t.get("effect") in effects)

    def _should_run(self, node: Object) -> bool:
        return self._may_run(node, ("NoSchedule", "NoExecute"))

    def _manage_node(self, node: Object) -> None:
        pods = self.by_node.get(meta.name(node), [])
        if self._should_run(node):
            self._run_on(node, pods)
        elif not self._may_run(node, ("NoExecute",)):
            for pod in pods:
                self._delete(pod, f"node {meta.name(node)} is no longer one for it")

    def _run_on(self, node: Object, pods: Sequence[Object]) -> None:
        """One pod, the oldest if there are several; failed ones are replaced."""
        running = [p for p in pods if not meta.deleting(p) and podlib.phase(p) not in ("Failed", "Succeeded")]
        for pod in pods:
            if podlib.phase(pod) in ("Failed", "Succeeded") and not meta.deleting(pod):
                self._replace_ended(node, pod)
        if not pods:
            self._create(node, "the node has none")
        keep = 2 if self._surge() else 1
        for pod in sorted(running, key=lambda p: meta.metadata(p).get("creationTimestamp", ""))[keep:]:
            self._delete(pod, f"node {meta.name(node)} has more than one")

    def _replace_ended(self, node: Object, pod: Object) -> None:
        failed = podlib.phase(pod) == "Failed"
        kind, reason = ("failed", "FailedDaemonPod") if failed else ("succeeded", "SucceededDaemonPod")
        message = f"Found {kind} daemon pod {key_of(pod)} on node {meta.name(node)}, will try to "
        message += "kill it" if failed else "delete it"
        event = Announce(regarding=self.set, reason=reason, message=message, type="Warning" if failed else "Normal")
        self.told.append(Emit(why="a daemon shall run for ever", event=event))
        self._delete(pod, "it has ended")

    def _forget_lost_nodes(self) -> None:
        names = {meta.name(n) for n in self.snapshot.nodes}
        for name, pods in self.by_node.items():
            if name not in names:
                for pod in pods:
                    self._delete(pod, f"node {name} does not exist")

    # Writes

    def _create(self, node: Object, why: str) -> None:
        pod = podlib.from_template(
            self.template, self.set, namespace=meta.namespace(self.set), generate_name=f"{meta.name(self.set)}-"
        )
        labels = {**meta.labels(pod), history.POD_LABEL: self.hash}
        generation = meta.annotations(self.set).get(TEMPLATE_GENERATION)
        if generation:
            labels["pod-template-generation"] = generation
        spec = {**pod["spec"], "affinity": _pinned(meta.part(pod, "spec", "affinity"), meta.name(node))}
        failed = Announce(regarding=self.set, reason="FailedCreate", message="Error creating: {error}", type="Warning")
        self.writes.append(
            Create(
                why=f"node {meta.name(node)}: {why}",
                resource="pods",
                object={**pod, "metadata": {**pod["metadata"], "labels": labels}, "spec": spec},
                done=Announce(regarding=self.set, reason="SuccessfulCreate", message="Created pod: {name}"),
                failed=failed,
            )
        )

    def _delete(self, pod: Object, why: str) -> None:
        if meta.deleting(pod):
            return
        failed = Announce(regarding=self.set, reason="FailedDelete", message="Error deleting: {error}", type="Warning")
        self.writes.append(
            Delete(
                why=why,
                resource="pods",
                namespace=meta.namespace(pod),
                name=meta.name(pod),
                uid=meta.uid(pod),
                done=Announce(regarding=self.set, reason="SuccessfulDelete", message="Deleted pod: {name}"),
                failed=failed,
            )
        )

    # Update

    def _strategy(self) -> str:
        return meta.part(self.set, "spec", "updateStrategy").get("type", "RollingUpdate")

    def _limit(self, name: str, default: int) -> int:
        value = meta.part(self.set, "spec", "updateStrategy", "rollingUpdate").get(name, default)
        return scaled(value, len(self._wanted_nodes()), round_up=True)

    def _surge(self) -> int:
        return self._limit("maxSurge", 0) if self._strategy() == "RollingUpdate" else 0

    def _wanted_nodes(self) -> list[Object]:
        return [n for n in self.snapshot.nodes if self._should_run(n)]

    def _is_new(self, pod: Object) -> bool:
        return _hash(pod) == self.hash

    def _is_available(self, pod: Object) -> bool:
        return podlib.is_available(pod, self.min_ready, self.now)

    def _roll(self) -> None:
        if self._surge():
            self._roll_surging(self._surge())
        else:
            self._roll_replacing(max(1, self._limit("maxUnavailable", 1)))

    def _roll_replacing(self, most: int) -> None:
        """Old pods go, unavailable ones first, so that no more than `most` nodes are without a pod that serves."""
        unavailable = 0
        candidates: list[Object] = []
        for node in self._wanted_nodes():
            alive = [p for p in self.by_node.get(meta.name(node), []) if podlib.is_active(p)]
            serving = [p for p in alive if self._is_available(p)]
            unavailable += not serving
            old = [p for p in alive if not self._is_new(p)]
            candidates += [p for p in old if p in serving]
            for pod in old:
                if pod not in serving:
                    self._delete(pod, "it is of an old template and serves nobody")
        for pod in candidates[: max(0, most - unavailable)]:
            self._delete(pod, f"it is of an old template; at most {most} nodes go without")

    def _roll_surging(self, most: int) -> None:
        """New pods come beside the old, at most `most` at a time; an old one goes when its new one serves."""
        surging = 0
        waiting: list[Object] = []
        for node in self._wanted_nodes():
            alive = [p for p in self.by_node.get(meta.name(node), []) if podlib.is_active(p)]
            old = [p for p in alive if not self._is_new(p)]
            new = [p for p in alive if self._is_new(p)]
            if not old:
                continue
            if any(self._is_available(p) for p in new):
                for pod in old:
                    self._delete(pod, "the new one beside it serves")
            elif new:
                surging += 1
            else:
                waiting.append(node)
        for node in waiting[: max(0, most - surging)]:
            self._create(node, "a new one comes beside the old")

    # Status

    def _status(self) -> Object:
        counts: dict[str, int] = dict.fromkeys(("desired", "current", "missched", "ready", "available", "updated"), 0)
        for node in self.snapshot.nodes:
            alive = [p for p in self.by_node.get(meta.name(node), []) if podlib.is_active(p)]
            if self._should_run(node):
                counts["desired"] += 1
                self._count(counts, alive)
            elif alive:
                counts["missched"] += 1
        required = {
            "currentNumberScheduled": counts["current"],
            "numberMisscheduled": counts["missched"],
            "desiredNumberScheduled": counts["desired"],
            "numberReady": counts["ready"],
        }
        optional = {
            "observedGeneration": meta.generation(self.set),
            "updatedNumberScheduled": counts["updated"],
            "numberAvailable": counts["available"],
            "numberUnavailable": counts["desired"] - counts["available"],
            "collisionCount": meta.status(self.set).get("collisionCount"),
            "conditions": list(meta.conditions(self.set)),
        }
        return required | meta.without_empty(optional)

    def _count(self, counts: dict[str, int], pods: Sequence[Object]) -> None:
        if not pods:
            return
        oldest = min(pods, key=lambda p: meta.metadata(p).get("creationTimestamp", ""))
        counts["current"] += 1
        counts["ready"] += any(podlib.is_ready(p) for p in pods)
        counts["available"] += any(self._is_available(p) for p in pods)
        counts["updated"] += self._is_new(oldest) or any(self._is_new(p) for p in pods)


def _hash(pod: Object) -> str | None:
    return meta.labels(pod).get(history.POD_LABEL)


def _target(write: Write) -> str:
    """What makes two writes of one look the same."""
    if isinstance(write, Create):
        return node_of(write.object)
    return write.name if isinstance(write, Delete) else ""


def _pinned(affinity: Mapping[str, object], node: str) -> Object:
    """The affinity, with the node as the only possible one."""
    pin = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    node_affinity = meta.part(dict(affinity), "nodeAffinity")
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = meta.items(node_affinity, field, "nodeSelectorTerms")
    pinned = [{**t, **pin} for t in terms] or [pin]
    return {**affinity, "nodeAffinity": {**node_affinity, field: {"nodeSelectorTerms": pinned}}}


def _of_node(client: Client, change: Change) -> Iterable[ObjectKey]:
    """Every daemon set, when a node comes, goes, or changes what it accepts."""
    old = change.previous
    if change.type == "MODIFIED" and old is not None:
        before, after = old.object, change.entry.object
        if meta.labels(before) == meta.labels(after) and meta.spec(before) == meta.spec(after):
            return
    yield from (key_of(s) for s in client.list(RESOURCE))


def controller() -> Controller:
    return Controller(
        name="daemonset-controller",
        user=service_account("daemon-set-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource=RESOURCE, keys=itself),
            Watch(resource="pods", keys=of_controller("DaemonSet")),
            Watch(resource="pods", keys=of_selecting(RESOURCE)),
            Watch(resource="nodes", keys=_of_node),
            Watch(resource=history.RESOURCE, keys=of_controller("DaemonSet")),
        ),
        reconcile=looking(observe, decide),
    )

"""DaemonSet: one pod on every node that will have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers import history
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Patch, Requeue, Together, Write
from podling.controllers.numbers import scaled
from podling.controllers.placing import matches_node
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, key_of, service_account
from podling.controllers.selecting import workload_watches
from podling.controllers.statuses import write_status
from podling.controllers.tolerating import pod_tolerates
from podling.store.types import Change, Object

RESOURCE = "daemonsets.apps"
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"
BACKOFF_FIRST = 1.0
BACKOFF_LAST = 900.0
"""Seconds for which the failed daemons of a node are left alone."""
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
    revisions: history.Revisions
    resting: Mapping[str, float]
    """Nodes on which a failed daemon is not replaced yet, and for how many seconds."""


class FailedDaemons:
    """Remembers when daemons were found failed, so that one that fails at once is not made anew all the time."""

    def __init__(self) -> None:
        self._seen: dict[ObjectKey, dict[tuple[str, int, str], tuple[datetime, float]]] = {}

    def resting(self, set: Object, nodes: Iterable[str], now: datetime) -> dict[str, float]:
        """Which of the nodes with a failed daemon must wait, and for how many seconds; the others count as tried."""
        seen = self._seen.setdefault(key_of(set), {})
        waits: dict[str, float] = {}
        for node in nodes:
            key = (meta.uid(set), _observed(set), node)
            since, delay = seen.get(key, (now, 0.0))
            passed = (now - since).total_seconds()
            if passed < delay:
                waits[node] = delay - passed
            else:
                is_stale = delay == 0.0 or passed > 2 * BACKOFF_LAST
                seen[key] = (now, BACKOFF_FIRST if is_stale else min(2 * delay, BACKOFF_LAST))
        return waits

    def forget(self, key: ObjectKey) -> None:
        self._seen.pop(key, None)


def _observed(set: Object) -> int:
    return meta.status(set).get("observedGeneration", 0)


def observe(client: Client, failed: FailedDaemons, key: ObjectKey, now: datetime) -> Snapshot | None:
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
        resting=failed.resting(set, {node_of(p) for p in claim.owned if _has_failed(p)}, now),
    )


def _has_failed(pod: Object) -> bool:
    return podlib.phase(pod) == "Failed" and not meta.deleting(pod)


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
        self.history = history.track(self.set, snapshot.revisions, history.POD_LABEL)
        labels = meta.labels(self.history.update)
        self.hash = labels.get(history.POD_LABEL) or meta.name(self.history.update)
        self.template = self._template()
        self.by_node: dict[str, list[Object]] = {}
        for pod in sorted(snapshot.pods, key=_age):
            if not (podlib.phase(pod) in ("Failed", "Succeeded") and meta.deleting(pod)):
                self.by_node.setdefault(node_of(pod), []).append(pod)
        self.wanted = [n for n in snapshot.nodes if self._should_run(n)]
        self.writes: list[Write] = []
        self.told: list[Action] = []

    def decide(self) -> list[Action]:
        """The status goes before the pods: a refusal of these must not keep it back."""
        if meta.deleting(self.set):
            return []
        for node in self.snapshot.nodes:
            self._manage_node(node)
        self._forget_lost_nodes()
        if not self.writes and self._strategy() == "RollingUpdate":
            self._roll()
        actions: list[Action] = [*self.history.actions, *self._labelled(), *self.snapshot.adoptions]
        actions += write_status(RESOURCE, self.set, self._status(), "its nodes and pods say so")
        actions += self.told
        if self.writes:
            actions.append(Together(writes=self.writes, slow_start=True))
        old = [r for r in self.snapshot.revisions.own if meta.name(r) != meta.name(self.history.update)]
        hashes = {_hash(p) for p in self.snapshot.pods}
        live = {meta.name(r) for r in old if meta.labels(r).get(history.POD_LABEL) in hashes}
        actions += history.truncate(self.set, old, live)
        wait = podlib.next_available(self.snapshot.pods, self.min_ready, self.now)
        return [*actions, Requeue(why="a ready pod becomes available then", seconds=wait)] if wait else actions

    def _labelled(self) -> Iterable[Action]:
        """Revisions without a hash get their name for one."""
        for revision in self.snapshot.revisions.own:
            if history.POD_LABEL not in meta.labels(revision):
                yield Patch(
                    why="its label is missing",
                    resource=history.RESOURCE,
                    namespace=meta.namespace(revision),
                    name=meta.name(revision),
                    patch={"metadata": {"labels": {history.POD_LABEL: meta.name(revision)}}},
                )

    # Nodes

    def _template(self) -> Object:
        """The template with the tolerations that every daemon has."""
        template: Object = meta.spec(self.set)["template"]
        wanted = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in _TOLERATED]
        if meta.spec(template).get("hostNetwork"):
            network = {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"}
            wanted.append(network)
        kinds = [_kind(t) for t in wanted]
        own = [{**t} if _kind(t) not in kinds else wanted[kinds.index(_kind(t))] for t in _tolerations(template)]
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
        if not self._may_run(node, ("NoExecute",)):
            for pod in pods:
                self._delete(pod, f"node {meta.name(node)} is no longer one for it")
        elif pods:
            self._tend(node, pods)
        elif self._should_run(node):
            self._create(node, "the node has none")

    def _tend(self, node: Object, pods: Sequence[Object]) -> None:
        """Ended daemons go, and of those that run all but the oldest; while surging, the oldest old and the oldest new
        one may stay until the new one serves."""
        for pod in pods:
            if podlib.phase(pod) in ("Failed", "Succeeded"):
                self._replace_ended(node, pod)
        running = [p for p in pods if podlib.is_active(p)]
        if not self._surge(1):
            self._delete_all(running[1:], f"node {meta.name(node)} has more than one")
            return
        if not running and self._should_run(node):
            self._create(node, "the node has none that stays")
        if len(running) < 2:
            return
        new, old = [p for p in running if _hash(p) == self.hash], [p for p in running if _hash(p) != self.hash]
        self._delete_all([*new[1:], *old[1:]], f"node {meta.name(node)} has more than one of that revision")
        if new and old and (not podlib.is_ready(old[0]) or self._is_available(new[0])):
            self._delete(old[0], "the new one beside it takes over")

    def _replace_ended(self, node: Object, pod: Object) -> None:
        failed = podlib.phase(pod) == "Failed"
        left = self.snapshot.resting.get(meta.name(node)) if failed else None
        if left is not None:
            self.told.append(Requeue(why=f"daemons fail on node {meta.name(node)}; the next comes then", seconds=left))
            return
        kind, reason = ("failed", "FailedDaemonPod") if failed else ("succeeded", "SucceededDaemonPod")
        message = f"Found {kind} daemon pod {key_of(pod)} on node {meta.name(node)}, will try to "
        message += "kill it" if failed else "delete it"
        event = Announce(regarding=self.set, reason=reason, message=message, type="Warning" if failed else "Normal")
        self.told.append(Emit(why="a daemon shall run for ever", event=event))
        self._delete(pod, "it has ended")

    def _forget_lost_nodes(self) -> None:
        """Pods that wait for a node which does not exist; what runs on a lost one is not for us to end."""
        names = {"", *(meta.name(n) for n in self.snapshot.nodes)}
        for name, pods in self.by_node.items():
            if name not in names:
                waiting = [p for p in pods if not meta.spec(p).get("nodeName")]
                self._delete_all(waiting, f"node {name} does not exist")

    # Writes

    def _create(self, node: Object, why: str) -> None:
        pod = podlib.from_template(
            self.template,
            self.set,
            namespace=meta.namespace(self.set),
            generate_name=podlib.generate_name(meta.name(self.set)),
        )
        labels = {**meta.labels(pod), history.POD_LABEL: self.hash}
        generation = meta.annotations(self.set).get(TEMPLATE_GENERATION)
        if generation:
            labels[GENERATION_LABEL] = generation
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

    def _delete_all(self, pods: Iterable[Object], why: str) -> None:
        for pod in pods:
            self._delete(pod, why)

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

    def _limit(self, name: str, total: int) -> int:
        if self._strategy() != "RollingUpdate":
            return 0
        value = meta.part(self.set, "spec", "updateStrategy", "rollingUpdate").get(name, 0)
        return scaled(value, total, round_up=True)

    def _surge(self, total: int) -> int:
        return self._limit("maxSurge", total)

    def _is_new(self, pod: Object) -> bool:
        generation = meta.annotations(self.set).get(TEMPLATE_GENERATION)
        same = generation is not None and meta.labels(pod).get(GENERATION_LABEL) == generation
        return same or _hash(pod) == self.hash

    def _is_available(self, pod: Object | None) -> bool:
        return pod is not None and podlib.is_available(pod, self.min_ready, self.now)

    def _roll(self) -> None:
        surge = self._surge(len(self.wanted))
        if surge:
            self._roll_surging(surge)
        else:
            self._roll_replacing(max(1, self._limit("maxUnavailable", len(self.wanted))))

    def _pairs(self) -> Iterable[tuple[str, _Pair | None]]:
        """For each node that has or should have a daemon its new and its old one; `None` where it has more."""
        for name in dict.fromkeys([*(meta.name(n) for n in self.wanted), *self.by_node]):
            alive = [p for p in self.by_node.get(name, []) if not meta.deleting(p)]
            new, old = [p for p in alive if self._is_new(p)], [p for p in alive if not self._is_new(p)]
            fits = len(new) < 2 and len(old) < 2
            yield name, _Pair(next(iter(new), None), next(iter(old), None)) if fits else None

    def _roll_replacing(self, most: int) -> None:
        """Old pods go, unavailable ones first, so that no more than `most` nodes are without a pod that serves."""
        unavailable = 0
        candidates: list[Object] = []
        for _, pair in self._pairs():
            if pair is None or (pair.new is None) == (pair.old is None):
                unavailable += 1
            elif pair.old is None:
                unavailable += not self._is_available(pair.new)
            elif not self._is_available(pair.old):
                unavailable += 1
                self._delete(pair.old, "it is of an old template and serves nobody")
            else:
                candidates.append(pair.old)
        self._delete_all(
            candidates[: max(0, most - unavailable)], f"it is of an old template; at most {most} nodes go without"
        )

    def _roll_surging(self, most: int) -> None:
        """New pods come beside the old, at most `most` at a time; an old one goes when its new one serves."""
        nodes = {meta.name(n): n for n in self.snapshot.nodes}
        wanted = {meta.name(n) for n in self.wanted}
        surging = available = 0
        waiting: list[Object] = []
        misplaced: list[Object] = []
        for name, pair in self._pairs():
            if pair is None:
                surging += 1
                continue
            available += self._is_available(pair.old or pair.new)
            if pair.old is None:
                continue
            if pair.new is not None:
                if self._is_available(pair.new):
                    self._delete(pair.old, "the new one beside it serves")
                else:
                    surging += 1
            elif not self._is_available(pair.old):
                if name in wanted:
                    self._create(nodes[name], "the old one serves nobody")
                else:
                    self._delete(pair.old, "it serves nobody, and the node is not one for it")
            elif name in wanted:
                waiting.append(nodes[name])
            else:
                misplaced.append(pair.old)
        self._delete_all(misplaced[: max(0, available - len(self.wanted))], "the node is not one for it")
        for node in waiting[: max(0, most - surging)]:
            self._create(node, "a new one comes beside the old")

    # Status

    def _status(self) -> Object:
        running = [pods for n in self.wanted if (pods := self.by_node.get(meta.name(n)))]
        placed = sum(bool(self.by_node.get(meta.name(n))) for n in self.snapshot.nodes)
        first = [pods[0] for pods in running]
        available = sum(self._is_available(p) for p in first)
        required = {
            "currentNumberScheduled": len(running),
            "numberMisscheduled": placed - len(running),
            "desiredNumberScheduled": len(self.wanted),
            "numberReady": sum(podlib.is_ready(p) for p in first),
        }
        optional = {
            "observedGeneration": meta.generation(self.set),
            "updatedNumberScheduled": sum(self._is_new(p) for p in first),
            "numberAvailable": available,
            "numberUnavailable": len(self.wanted) - available,
            "collisionCount": self.history.collisions,
            "conditions": list(meta.conditions(self.set)),
        }
        return required | meta.without_empty(optional)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The daemons of one node."""

    new: Object | None
    old: Object | None


def _age(pod: Object) -> tuple[bool, str, str]:
    """Sorts those that have a node first, then the oldest."""
    return (not meta.spec(pod).get("nodeName"), meta.metadata(pod).get("creationTimestamp", ""), meta.name(pod))


def _tolerations(template: Object) -> Sequence[Object]:
    return meta.items(template, "spec", "tolerations")


def _kind(toleration: Object) -> tuple[object, ...]:
    """What makes two tolerations the same one: all but their time."""
    return tuple(toleration.get(field) or "" for field in ("key", "operator", "value", "effect"))


def _hash(pod: Object) -> str | None:
    return meta.labels(pod).get(history.POD_LABEL)


def _pinned(affinity: Mapping[str, object], node: str) -> Object:
    """The affinity, with the node as the only possible one, whatever else it required of nodes."""
    pin = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    node_affinity = meta.part(dict(affinity), "nodeAffinity")
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pin]}}
    return {**affinity, "nodeAffinity": {**node_affinity, **required}}


def _of_node(client: Client, change: Change) -> Iterable[ObjectKey]:
    """Every daemon set, when a node comes, goes, or changes what it accepts."""
    old = change.previous
    if change.type == "MODIFIED" and old is not None:
        before, after = old.object, change.entry.object
        if meta.labels(before) == meta.labels(after) and meta.spec(before) == meta.spec(after):
            return
    yield from (key_of(s) for s in client.list(RESOURCE))


def controller() -> Controller:
    failed = FailedDaemons()

    async def reconcile(context: Context, key: ObjectKey) -> None:
        now = context.now()
        snapshot = observe(context.client, failed, key, now)
        if snapshot is None:
            failed.forget(key)
            return
        await context.act(key, decide(snapshot, now))

    return Controller(
        name="daemonset-controller",
        user=service_account("daemon-set-controller"),
        resource=RESOURCE,
        watches=(
            *workload_watches("DaemonSet", RESOURCE, history.RESOURCE),
            Watch(resource="nodes", keys=_of_node),
        ),
        reconcile=reconcile,
    )

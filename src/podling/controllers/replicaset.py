"""ReplicaSet and ReplicationController: keep so many pods of a template.

One machine for both kinds; `ReplicaKind` holds what differs. A look has two halves: `decide` changes pods, then
`decide_status` counts them anew, so that the status written is the one after our own writes, and a refusal (a quota,
say) is told in the condition ReplicaFailure at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Delete, Requeue, Together, Write
from podling.controllers.runtime import ActionFailed, Context, Controller, ObjectKey, service_account
from podling.controllers.selecting import selector_of, workload_watches
from podling.controllers.statuses import with_condition, without_condition, write_status
from podling.store.types import Object

BURST = 500
"""At most so many pods are created or deleted in one look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaKind:
    kind: str
    resource: str
    name: str
    user: str
    counts_terminating: bool
    """Whether the status tells `terminatingReplicas`."""


REPLICA_SET = ReplicaKind(
    kind="ReplicaSet",
    resource="replicasets.apps",
    name="replicaset-controller",
    user="replicaset-controller",
    counts_terminating=True,
)
REPLICATION_CONTROLLER = ReplicaKind(
    kind="ReplicationController",
    resource="replicationcontrollers",
    name="replication-controller",
    user="replication-controller",
    counts_terminating=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    set: Object
    pods: Sequence[Object]
    """Its active pods, those about to be adopted included."""
    terminating: Sequence[Object]
    claims: Sequence[Action]
    sisters: Callable[[], Mapping[str, int]]
    """For each node, how many pods of this set and its sister sets (of the same Deployment) run there. Asked only where
    pods are given up."""


def observe(client: Client, kind: ReplicaKind, key: ObjectKey) -> Snapshot | None:
    set = client.get(kind.resource, key.namespace, key.name)
    if set is None:
        return None
    owned = [pod for resource, pod in client.owned(meta.uid(set)) if resource == "pods"]
    orphans = [pod for pod in client.list("pods", key.namespace) if meta.controller_reference(pod) is None]
    selector = selector_of(set)
    claim = podlib.Claim("pods", set, selector, filter(podlib.is_active, [*owned, *orphans]))
    leaving = [pod for pod in owned if podlib.is_terminating(pod) and meta.controlled_by(pod, set)]
    return Snapshot(
        set=set,
        pods=claim.owned,
        terminating=[pod for pod in leaving if meta.matches_selector(selector, meta.labels(pod))],
        claims=claim.changes,
        sisters=lambda: _sisters(client, set),
    )


def _sisters(client: Client, set: Object) -> Mapping[str, int]:
    owner = meta.controller_reference(set)
    sets = [o for _, o in client.owned(owner["uid"]) if o["kind"] == set["kind"]] if owner else [set]
    pods = (pod for s in sets for resource, pod in client.owned(meta.uid(s)) if resource == "pods")
    return Counter(meta.spec(pod).get("nodeName", "") for pod in pods if podlib.is_active(pod))


def decide(snapshot: Snapshot) -> list[Action]:
    """Claims, then as many creations or deletions as are missing or too many."""
    actions = list(snapshot.claims)
    if meta.deleting(snapshot.set):
        return actions
    wanted: int = meta.spec(snapshot.set).get("replicas", 1)
    missing = wanted - len(snapshot.pods)
    if missing > 0:
        actions.append(Together(writes=list(_creations(snapshot, min(missing, BURST), wanted)), slow_start=True))
    elif missing < 0:
        actions.append(Together(writes=list(_deletions(snapshot, min(-missing, BURST), wanted))))
    return actions


def _creations(snapshot: Snapshot, count: int, wanted: int) -> Iterable[Write]:
    set = snapshot.set
    pod = podlib.from_template(
        meta.spec(set)["template"],
        set,
        namespace=meta.namespace(set),
        generate_name=podlib.generate_name(meta.name(set)),
    )
    for number in range(count):
        yield Create(
            why=f"{len(snapshot.pods) + number} of {wanted} replicas are there",
            resource="pods",
            object=pod,
            done=Announce(regarding=set, reason="SuccessfulCreate", message="Created pod: {name}"),
            failed=Announce(regarding=set, reason="FailedCreate", message="Error creating: {error}", type="Warning"),
        )


def _deletions(snapshot: Snapshot, count: int, wanted: int) -> Iterable[Write]:
    for pod in to_delete(snapshot.pods, count, snapshot.sisters()):
        yield Delete(
            why=f"{len(snapshot.pods)} replicas are there, {wanted} are wanted",
            resource="pods",
            namespace=meta.namespace(pod),
            name=meta.name(pod),
            uid=meta.uid(pod),
            done=Announce(regarding=snapshot.set, reason="SuccessfulDelete", message="Deleted pod: {name}"),
            failed=Announce(
                regarding=snapshot.set, reason="FailedDelete", message="Error deleting: {error}", type="Warning"
            ),
        )


def to_delete(pods: Sequence[Object], count: int, sisters: Mapping[str, int]) -> list[Object]:
    """The pods that are given up first, by `pods.deletion_rank`."""
    ranked = sorted(pods, key=lambda p: podlib.deletion_rank(p, sisters.get(meta.spec(p).get("nodeName", ""), 0)))
    return ranked[:count]


def decide_status(kind: ReplicaKind, snapshot: Snapshot, failure: str | None, now: datetime) -> list[Action]:
    """The status from the counts; `failure` is why the API refused a pod in this look."""
    set, pods = snapshot.set, snapshot.pods
    min_ready: int = meta.spec(set).get("minReadySeconds", 0)
    actions: list[Action] = []
    actions += write_status(kind.resource, set, _status(kind, snapshot, failure, min_ready, now), "the pods say so")
    wait = podlib.next_available(pods, min_ready, now)
    if wait is not None:
        actions.append(Requeue(why="a ready pod becomes available then", seconds=wait))
    return actions


def _status(kind: ReplicaKind, snapshot: Snapshot, failure: str | None, min_ready: int, now: datetime) -> Object:
    set, pods = snapshot.set, snapshot.pods
    template_labels = meta.labels(meta.spec(set).get("template") or {})
    status = meta.without_empty(
        {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(meta.matches_labels(template_labels, meta.labels(p)) for p in pods),
            "readyReplicas": sum(podlib.is_ready(p) for p in pods),
            "availableReplicas": sum(podlib.is_available(p, min_ready, now) for p in pods),
            "observedGeneration": meta.generation(set),
            "conditions": _conditions(snapshot, failure, now),
        },
        "replicas",
    )
    if kind.counts_terminating:
        status["terminatingReplicas"] = len(snapshot.terminating)
    return status


def _conditions(snapshot: Snapshot, failure: str | None, now: datetime) -> list[Object]:
    old = meta.conditions(snapshot.set)
    if failure is None:
        return without_condition(old, "ReplicaFailure")
    if meta.find_condition(old, "ReplicaFailure") is not None:
        return list(old)
    missing = meta.spec(snapshot.set).get("replicas", 1) > len(snapshot.pods)
    condition: Object = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate" if missing else "FailedDelete",
        "message": failure,
    }
    return with_condition(old, condition, now)


def controller(kind: ReplicaKind = REPLICA_SET) -> Controller:
    async def reconcile(context: Context, key: ObjectKey) -> None:
        snapshot = observe(context.client, kind, key)
        if snapshot is None:
            return
        failure: ActionFailed | None = None
        actions = decide(snapshot)
        try:
            await context.act(key, actions)
        except ActionFailed as refused:
            failure = refused
        counted = observe(context.client, kind, key) if actions else snapshot
        if counted is not None:
            reason = failure.error.message if failure else None
            await context.act(key, decide_status(kind, counted, reason, context.now()))
        if failure is not None:
            raise failure

    return Controller(
        name=kind.name,
        user=service_account(kind.user),
        resource=kind.resource,
        watches=workload_watches(kind.kind, kind.resource),
        reconcile=reconcile,
    )

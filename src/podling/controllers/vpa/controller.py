"""The autoscaler: once a minute it measures, recommends, and evicts pods whose requests are out of bounds.

Its kind is a custom one, which may come late or go: so its one key is the definition, and a look is at all of its
objects. Whoever is evicted comes back with the recommended requests: `admission` sees to that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.api.podresources import amounts
from podling.api.quantity import NANO
from podling.controllers import pods as podlib
from podling.controllers import targets
from podling.controllers.actions import Action, Announce, Create, Patch, Requeue
from podling.controllers.runtime import (
    ActionFailed,
    Context,
    Controller,
    ObjectKey,
    Watch,
    key_of,
    service_account,
)
from podling.controllers.statuses import replace_condition, write_status
from podling.controllers.vpa import checkpoints
from podling.controllers.vpa.definition import CHECKPOINTS, DEFINITIONS, RESOURCE
from podling.controllers.vpa.recommendation import out_of_bounds, recommend, resources_for
from podling.controllers.vpa.usage import ContainerUse, History, Measure
from podling.store.types import Change, Object

log = logging.getLogger(__name__)

PERIOD = 60.0
KINDS = (RESOURCE, CHECKPOINTS)
LEAST_REPLICAS = 2
"""Of a workload with fewer pods none is evicted, unless `spec.updatePolicy.minReplicas` says otherwise."""
EVICTING = ("Recreate", "InPlaceOrRecreate", "Auto")
"""Modes in which running pods are changed."""
IN_PLACE_PATIENCE = timedelta(minutes=5)
"""How long a pod may wait to be resized in place before it is evicted instead."""


@dataclass(slots=True)
class Memory:
    """What is known of one autoscaler's containers, by name; begins anew with its uid."""

    uid: str
    histories: dict[str, History] = field(default_factory=dict[str, History])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    vpa: Object
    target: Object | None
    pods: Sequence[Object]
    histories: Mapping[str, History]


def mode_of(vpa: Object) -> str:
    return meta.part(vpa, "spec", "updatePolicy").get("updateMode") or "Recreate"


# Measure


def measure(uses: Iterable[ContainerUse], pods: Sequence[Object], memory: Memory) -> None:
    """Adds the newest samples to the histories."""
    by_name = {meta.name(pod): pod for pod in pods}
    for use in uses:
        pod = by_name.get(use.pod)
        if pod is not None and any(c["name"] == use.container for c in meta.items(pod, "spec", "containers")):
            history = memory.histories.setdefault(use.container, History())
            history.add(
                meta.uid(pod),
                use.at,
                cores=use.cores,
                memory=use.memory,
                requested_cores=_requested_cores(pod, use.container),
            )
    for history in memory.histories.values():
        history.forget(history.seen.keys() - {meta.uid(pod) for pod in pods})


def _requested_cores(pod: Object, container: str) -> float:
    for found in meta.items(pod, "spec", "containers"):
        if found["name"] == container:
            return amounts(meta.part(found, "resources", "requests")).get("cpu", 0) / NANO
    return 0.0


# Decide


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    vpa = snapshot.vpa
    recommended = recommend(vpa, snapshot.histories)
    conditions: list[Object] = [c for c in meta.conditions(vpa) if c["type"] != "NoPodsMatched"]
    if not snapshot.pods:
        conditions = replace_condition(conditions, _NO_PODS, now)
    provided: Object = {"type": "RecommendationProvided", "status": "True" if recommended else "False"}
    conditions = replace_condition(conditions, provided, now)
    status: Object = {**meta.status(vpa), "conditions": conditions}
    if recommended:
        status["recommendation"] = {"containerRecommendations": list(recommended)}
    written = write_status(RESOURCE, vpa, status, "what its pods used so far")
    return [*written, *updates(snapshot, recommended, now)]


_NO_PODS: Object = {
    "type": "NoPodsMatched",
    "status": "True",
    "reason": "NoPodsMatched",
    "message": "No pods match this VPA object",
}


def updates(snapshot: Snapshot, recommended: Sequence[Object], now: datetime) -> list[Action]:
    """What becomes of running pods whose requests are out of bounds: resized in place, if that may be, or evicted.

    Of one workload at most half of the wanted pods are evicted at a time, and none while others of it are away.
    """
    vpa = snapshot.vpa
    living = [p for p in snapshot.pods if not meta.deleting(p) and podlib.phase(p) == "Running"]
    least = meta.part(vpa, "spec", "updatePolicy").get("minReplicas") or LEAST_REPLICAS
    if mode_of(vpa) not in EVICTING or not recommended or len(living) < least or snapshot.target is None:
        return []
    wanted: int = meta.spec(snapshot.target).get("replicas") or len(living)
    room = max(len(living) - wanted + max(wanted // 2, 1), 0)
    wrong = [pod for pod in living if _wrong(pod, recommended)]
    if mode_of(vpa) != "InPlaceOrRecreate":
        return [_evict(vpa, pod) for pod in wrong[:room]]
    resizable = [pod for pod in wrong if _resizable(pod)]
    stuck = [pod for pod in living if _stuck(pod, now)] + [pod for pod in wrong if not _resizable(pod)]
    return [*(_resize(vpa, pod, recommended) for pod in resizable), *(_evict(vpa, pod) for pod in stuck[:room])]


def _resizable(pod: Object) -> bool:
    """A resize must not change the quality of service: a pod that requests nothing has to be made anew."""
    return meta.status(pod).get("qosClass") != "BestEffort" and meta.condition(pod, "PodResizePending") is None


def _stuck(pod: Object, now: datetime) -> bool:
    """A resize that the node cannot do, or did not do for long."""
    pending = meta.condition(pod, "PodResizePending")
    if pending is None or pending["status"] != "True":
        return False
    waited = now - meta.parse_time(pending["lastTransitionTime"])
    return pending.get("reason") == "Infeasible" or waited > IN_PLACE_PATIENCE


def _resize(vpa: Object, pod: Object, recommended: Sequence[Object]) -> Patch:
    targets_by_name = {r["containerName"]: r["target"] for r in recommended}
    containers = [
        {"name": c["name"], "resources": resources_for(vpa, c, targets_by_name[c["name"]])}
        for c in meta.items(pod, "spec", "containers")
        if c["name"] in targets_by_name
    ]
    done = Announce(regarding=pod, reason="InPlaceResizedByVPA", message="Pod was resized in place by VPA Updater.")
    return Patch(
        why=f"its requests are out of the bounds of {meta.name(vpa)}",
        resource="pods",
        namespace=meta.namespace(pod),
        name=meta.name(pod),
        patch={"metadata": {"uid": meta.uid(pod)}, "spec": {"containers": containers}},
        subresource="resize",
        strategic=True,
        done=done,
    )


def _wrong(pod: Object, recommended: Sequence[Object]) -> bool:
    by_name = {r["containerName"]: r for r in recommended}
    containers = meta.items(pod, "spec", "containers")
    return any(out_of_bounds(c, by_name[c["name"]]) for c in containers if c["name"] in by_name)


def _evict(vpa: Object, pod: Object) -> Create:
    metadata: Object = {"namespace": meta.namespace(pod), "name": meta.name(pod)}
    eviction: Object = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    done = Announce(
        regarding=pod, reason="EvictedByVPA", message="Pod was evicted by VPA Updater to apply resource recommendation."
    )
    return Create(
        why=f"its requests are out of the bounds of {meta.name(vpa)}",
        resource="pods",
        object=eviction,
        subresource="eviction",
        done=done,
    )


# Controller


def controller(metrics: Measure) -> Controller:
    known: dict[ObjectKey, Memory] = {}

    async def reconcile(context: Context, key: ObjectKey) -> None:
        if any(context.client.get(DEFINITIONS, "", kind) is None for kind in KINDS):
            return
        if not _served(context.client):
            await context.act(key, [Requeue(why="its kinds are about to be served", seconds=1)])
            return
        await context.act(key, [Requeue(why="the next look at what pods use", seconds=PERIOD)])
        found = {key_of(vpa): vpa for vpa in context.client.list(RESOURCE)}
        for gone in known.keys() - found.keys():
            del known[gone]
        for vpa_key, vpa in found.items():
            try:
                await _look(context, vpa_key, _observe(context.client, metrics, vpa, known))
            except ActionFailed as failure:  # a budget forbids to evict: the next look tries again
                log.info("%s: %s", vpa_key, failure)

    return Controller(
        name="vpa-recommender",
        user=service_account("vpa-recommender"),
        resource=RESOURCE,
        watches=(Watch(resource=DEFINITIONS, keys=_kinds),),
        reconcile=reconcile,
    )


async def _look(context: Context, key: ObjectKey, snapshot: Snapshot) -> None:
    await context.act(key, checkpoints.save(context.client, snapshot.vpa, snapshot.histories))
    await context.act(key, decide(snapshot, context.now()))


def _served(client: Client) -> bool:
    served = {r.group_resource for r in client.resources()}
    return served.issuperset(KINDS)


def _kinds(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """The one key, when one of the kinds comes or changes."""
    if change.entry.key.name in KINDS:
        yield ObjectKey("", RESOURCE)


def _observe(client: Client, metrics: Measure, vpa: Object, known: dict[ObjectKey, Memory]) -> Snapshot:
    key = key_of(vpa)
    memory = known.get(key)
    if memory is None or memory.uid != meta.uid(vpa):
        memory = known[key] = Memory(meta.uid(vpa), checkpoints.load(client, vpa))
    target = targets.find(client, key.namespace, meta.spec(vpa)["targetRef"])
    measure(metrics.containers(key.namespace), target.pods, memory)
    return Snapshot(vpa=vpa, target=target.object, pods=target.pods, histories=memory.histories)

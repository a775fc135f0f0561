"""The autoscaler: once a minute it measures, recommends, and evicts pods whose requests are out of bounds.

Its kind is a custom one, which may come late or go: so its one key is the definition, and a look is at all of its
objects. Whoever is evicted comes back with the recommended requests: `admission` sees to that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.podresources import amounts
from podling.api.quantity import NANO
from podling.controllers import targets
from podling.controllers.actions import Action, Requeue
from podling.controllers.addons import DEFINITIONS, are_served
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
from podling.controllers.vpa.definition import CHECKPOINTS, RESOURCE
from podling.controllers.vpa.recommendation import recommend
from podling.controllers.vpa.updater import updates
from podling.controllers.vpa.usage import ContainerUse, History, Measure
from podling.store.types import Change, Object

log = logging.getLogger(__name__)

PERIOD = 60.0
KINDS = (RESOURCE, CHECKPOINTS)


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
                requested_cores=_requests(pod, use.container).get("cpu", 0) / NANO,
            )
    for pod in pods:
        for container, at in _out_of_memory(pod):
            requested = _requests(pod, container).get("memory", 0) / NANO
            memory.histories.setdefault(container, History()).out_of_memory(meta.uid(pod), at, requested)
    for history in memory.histories.values():
        history.keep({meta.uid(pod) for pod in pods})


def _requests(pod: Object, container: str) -> Mapping[str, int]:
    for found in meta.items(pod, "spec", "containers"):
        if found["name"] == container:
            return amounts(meta.part(found, "resources", "requests"))
    return {}


def _out_of_memory(pod: Object) -> Iterable[tuple[str, float]]:
    """The containers that ran out of memory, and when they did last."""
    for status in meta.items(pod, "status", "containerStatuses"):
        for ended in (meta.part(status, state, "terminated") for state in ("lastState", "state")):
            if ended.get("reason") == "OOMKilled" and ended.get("finishedAt"):
                yield status["name"], meta.parse_time(ended["finishedAt"]).timestamp()


# Decide


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    vpa = snapshot.vpa
    recommended = recommend(vpa, snapshot.histories)
    conditions: list[Object] = [c for c in meta.conditions(vpa) if c["type"] != "NoPodsMatched"]
    why: Object = {}
    if not snapshot.pods:
        why = {"reason": "NoPodsMatched", "message": "No pods match this VPA object"}
        conditions = replace_condition(conditions, {"type": "NoPodsMatched", "status": "True", **why}, now)
    provided: Object = {"type": "RecommendationProvided", "status": str(bool(recommended))}
    conditions = replace_condition(conditions, provided if recommended else {**provided, **why}, now)
    status: Object = {**meta.status(vpa), "conditions": conditions}
    if recommended:
        status["recommendation"] = {"containerRecommendations": list(recommended)}
    written = write_status(RESOURCE, vpa, status, "what its pods used so far")
    return [*written, *updates(vpa, snapshot.target, snapshot.pods, recommended, now)]


# Controller


def controller(metrics: Measure) -> Controller:
    known: dict[ObjectKey, Memory] = {}

    async def reconcile(context: Context, key: ObjectKey) -> None:
        if not await are_served(context, key, KINDS):
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

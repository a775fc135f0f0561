"""PodDisruptionBudgets: how many pods may go, and whether one more eviction is allowed.

Two parts: the controller that keeps the budgets' status, and `judge`, the pure rule of the eviction subresource, for
the API to ask. Sources: "Specifying a Disruption Budget", the API reference of policy/v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Emit, Requeue
from podling.controllers.numbers import scaled
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, key_of, looking, service_account
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, Object

RESOURCE = "poddisruptionbudgets.policy"
DELETION_TIMEOUT = 120.0
"""Seconds in which an evicted pod must be seen to be deleted; else it counts again."""
MAX_DISRUPTED = 2000

_SCALABLE: Mapping[tuple[str, str], str] = {
    ("apps", "Deployment"): "deployments.apps",
    ("apps", "ReplicaSet"): "replicasets.apps",
    ("apps", "StatefulSet"): "statefulsets.apps",
    ("", "ReplicationController"): "replicationcontrollers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    budget: Object
    pods: Sequence[Object]
    """The live pods that it selects."""
    wanted: int | None
    """How many pods their controllers want in all; `None` if one of them cannot say."""
    unmanaged: Sequence[str]
    """Pods whose controller has no scale, of which a percentage cannot be taken."""


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    budget = client.get(RESOURCE, key.namespace, key.name)
    if budget is None:
        return None
    selector = meta.spec(budget).get("selector")
    pods = [p for p in client.list("pods", key.namespace) if meta.matches_selector(selector, meta.labels(p))]
    live = [p for p in pods if podlib.phase(p) not in ("Succeeded", "Failed")]
    wanted: dict[str, int] = {}
    unmanaged: list[str] = []
    for pod in live:
        scale = _scale_of(client, pod)
        if scale is None:
            unmanaged.append(meta.name(pod))
        else:
            wanted[scale[0]] = scale[1]
    total = sum(wanted.values()) if not unmanaged else None
    return Snapshot(budget=budget, pods=live, wanted=total, unmanaged=unmanaged)


def _scale_of(client: Client, pod: Object) -> tuple[str, int] | None:
    """The uid and the wanted size of what controls the pod: of a Deployment's replica set, the Deployment."""
    owner = _controller(client, pod)
    above = _controller(client, owner) if owner is not None else None
    scalable = above or owner
    return (meta.uid(scalable), meta.spec(scalable).get("replicas", 1)) if scalable is not None else None


def _controller(client: Client, obj: Object) -> Object | None:
    reference = meta.controller_reference(obj)
    if reference is None:
        return None
    resource = _SCALABLE.get((reference["apiVersion"].rpartition("/")[0], reference["kind"]))
    owner = client.get(resource, meta.namespace(obj), reference["name"]) if resource else None
    return owner if owner is not None and meta.uid(owner) == reference["uid"] else None


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    budget, spec = snapshot.budget, meta.spec(snapshot.budget)
    needs_scale = "maxUnavailable" in spec or isinstance(spec.get("minAvailable"), str)
    actions: list[Action] = []
    if not snapshot.pods:
        event = Announce(regarding=budget, reason="NoPods", message="No matching pods found")
        actions.append(Emit(why="a budget without pods may be a mistake", event=event))
    if needs_scale and snapshot.unmanaged:
        actions.append(_cannot_calculate(snapshot))
        return [*actions, *_write(snapshot, now, expected=0, healthy_wanted=0, failed=actions[-1])]
    expected, wanted = _desired(spec, snapshot)
    actions += _write(snapshot, now, expected=expected, healthy_wanted=wanted)
    waiting = _expiring(budget, now)
    return [*actions, Requeue(why="an evicted pod must be gone by then", seconds=waiting)] if waiting else actions


def _cannot_calculate(snapshot: Snapshot) -> Emit:
    message = f"found no controllers for pod {snapshot.unmanaged[0]!r}".replace("'", '"')
    event = Announce(regarding=snapshot.budget, reason="NoControllers", message=message, type="Warning")
    return Emit(why="a percentage needs to know how many pods are wanted", event=event)


def _desired(spec: Object, snapshot: Snapshot) -> tuple[int, int]:
    """How many pods are expected, and how many of them must be healthy."""
    if "maxUnavailable" in spec:
        expected = snapshot.wanted or 0
        return expected, max(0, expected - scaled(spec["maxUnavailable"], expected, round_up=True))
    least = spec.get("minAvailable", 1)
    if isinstance(least, int):
        return len(snapshot.pods), least
    expected = snapshot.wanted or 0
    return expected, scaled(least, expected, round_up=True)


def _still_disrupted(budget: Object, pods: Mapping[str, Object], now: datetime) -> dict[str, str]:
    """Evicted pods that are not yet seen to be deleted, with the time of eviction."""
    return {
        name: since
        for name, since in meta.part(budget, "status", "disruptedPods").items()
        if name in pods
        and not meta.deleting(pods[name])
        and now < meta.parse_time(since) + timedelta(seconds=DELETION_TIMEOUT)
    }


def _expiring(budget: Object, now: datetime) -> float | None:
    times = meta.part(budget, "status", "disruptedPods").values()
    lefts = [(meta.parse_time(t) + timedelta(seconds=DELETION_TIMEOUT) - now).total_seconds() for t in times]
    return min((left for left in lefts if left > 0), default=None)


def _write(
    snapshot: Snapshot, now: datetime, *, expected: int, healthy_wanted: int, failed: Action | None = None
) -> list[Action]:
    budget = snapshot.budget
    disrupted = _still_disrupted(budget, {meta.name(p): p for p in snapshot.pods}, now)
    healthy = sum(podlib.is_ready(p) and not meta.deleting(p) and meta.name(p) not in disrupted for p in snapshot.pods)
    allowed = 0 if expected <= 0 or failed else max(0, healthy - healthy_wanted)
    if failed is not None:
        reason, message = "SyncFailed", failed.event.message if isinstance(failed, Emit) else ""
    else:
        reason, message = ("SufficientPods" if allowed else "InsufficientPods"), ""
    condition: Object = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": meta.generation(budget),
    }
    status: Object = {
        "currentHealthy": healthy,
        "desiredHealthy": healthy_wanted,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": meta.generation(budget),
        "conditions": replace_condition(meta.conditions(budget), condition, now),
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    return [*write_status(RESOURCE, budget, status, f"{healthy} pods are healthy, {healthy_wanted} must be")]


@dataclass(frozen=True, slots=True)
class Allowed:
    """The pod may be evicted; `budget` is to be written first, so that it counts the eviction."""

    budget: Object | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The eviction must wait: 429, with `Retry-After` seconds, and `cause` for `details.causes`."""

    message: str
    cause: str = ""
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class Impossible:
    """More than one budget: 500."""

    message: str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


def budgets_of(pod: Object, budgets: Iterable[Object]) -> list[Object]:
    """The budgets of the pod's namespace that select it."""
    if not meta.labels(pod):
        return []
    return [b for b in budgets if meta.matches_selector(meta.spec(b).get("selector"), meta.labels(pod))]


def judge(pod: Object, budgets: Sequence[Object], now: datetime) -> Allowed | Refused | Impossible:
    """Whether a pod may be evicted now, given the budgets that select it."""
    if podlib.phase(pod) in ("Succeeded", "Failed", "Pending") or meta.deleting(pod) or not budgets:
        return Allowed()
    if len(budgets) > 1:
        return Impossible()
    budget, status = budgets[0], meta.status(budgets[0])
    if not podlib.is_ready(pod):
        policy = meta.spec(budget).get("unhealthyPodEvictionPolicy", "IfHealthyBudget")
        enough = status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0)
        if policy == "AlwaysAllow" or (enough and status.get("desiredHealthy", 0) > 0):
            return Allowed()
    return _spend(pod, budget, status, now)


def _spend(pod: Object, budget: Object, status: Object, now: datetime) -> Allowed | Refused:
    name = meta.name(budget)
    if status.get("observedGeneration", 0) < meta.generation(budget):
        return Refused(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            f"The disruption budget {name} is still being processed by the server.",
            retry_after=10,
        )
    if len(meta.part(budget, "status", "disruptedPods")) > MAX_DISRUPTED:
        return Refused(f"DisruptedPods map too big - too many evictions not confirmed by PDB controller for {name}")
    allowed: int = status.get("disruptionsAllowed", 0)
    if allowed <= 0:
        return Refused(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods and has "
            f"{status.get('currentHealthy', 0)} currently",
        )
    disrupted = {**meta.part(budget, "status", "disruptedPods"), meta.name(pod): meta.timestamp(now)}
    spent: Object = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted}
    if allowed == 1:
        condition: Object = {
            "type": "DisruptionAllowed",
            "status": "False",
            "reason": "InsufficientPods",
            "message": "",
            "observedGeneration": meta.generation(budget),
        }
        spent["conditions"] = replace_condition(meta.conditions(budget), condition, now)
    return Allowed({**budget, "status": spent})


def _of_pod(client: Client, change: Change) -> Iterable[ObjectKey]:
    for budget in client.list(RESOURCE, change.entry.key.namespace):
        selector = meta.spec(budget).get("selector")
        if any(
            meta.matches_selector(selector, meta.labels(entry.object))
            for entry in (change.previous, change.entry)
            if entry is not None
        ):
            yield key_of(budget)


def _of_scalable(client: Client, change: Change) -> Iterable[ObjectKey]:
    """A changed size changes what a percentage means."""
    old = change.previous
    if old is None or meta.spec(old.object).get("replicas") != meta.spec(change.entry.object).get("replicas"):
        yield from (key_of(b) for b in client.list(RESOURCE, change.entry.key.namespace))


def controller() -> Controller:
    return Controller(
        name="disruption-controller",
        event_source="controllermanager",
        user=service_account("disruption-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource=RESOURCE, keys=itself),
            Watch(resource="pods", keys=_of_pod),
            *(Watch(resource=resource, keys=_of_scalable) for resource in _SCALABLE.values()),
        ),
        reconcile=looking(observe, decide),
    )

"""PodDisruptionBudgets: how many pods may go, and whether one more eviction is allowed.

Two parts: the controller that keeps the budgets' status, and `judge`, the pure rule of the eviction subresource, for
the API to ask. Sources: "Specifying a Disruption Budget", the API reference of policy/v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import gotext, meta
from podling.api.client import Client
from podling.api.errors import ApiError, forbidden
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Emit, Patch, Requeue
from podling.controllers.hpa import scale as scales
from podling.controllers.numbers import scaled
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, key_of, looking, service_account
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, Object

RESOURCE = "poddisruptionbudgets.policy"
DELETION_TIMEOUT = 120.0
"""Seconds in which an evicted pod must be seen to be deleted; else it counts again."""
STALE_CONDITION = 120.0
"""Seconds after which a pod that was to be disrupted, and is not even being deleted, is no longer told to be."""
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
    """Those that it selects."""
    wanted: int = 0
    """How many pods their controllers want in all; only asked where the budget needs it."""
    unmanaged: bool = False
    """Whether there are pods without a controller, which then count for nothing."""
    problem: str = ""
    """Why it is not known how many are wanted."""


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    budget = client.get(RESOURCE, key.namespace, key.name)
    if budget is None:
        return None
    selector = meta.spec(budget).get("selector")
    pods = [p for p in client.list("pods", key.namespace) if meta.matches_selector(selector, meta.labels(p))]
    if not _needs_scale(meta.spec(budget)):
        return Snapshot(budget=budget, pods=pods)
    managed = [p for p in pods if meta.controller_reference(p) is not None]
    unmanaged = len(managed) < len(pods)
    try:
        wanted = dict(_scale_of(client, pod) for pod in managed)
    except scales.ScaleUnavailable as problem:
        return Snapshot(budget=budget, pods=pods, unmanaged=unmanaged, problem=str(problem))
    return Snapshot(budget=budget, pods=pods, unmanaged=unmanaged, wanted=sum(wanted.values()))


def _needs_scale(spec: Object) -> bool:
    return "maxUnavailable" in spec or isinstance(spec.get("minAvailable"), str)


def _scale_of(client: Client, pod: Object) -> tuple[str, int]:
    """The uid and the wanted size of what controls the pod: of a Deployment's replica set, the Deployment.

    Raises `ScaleUnavailable`.
    """
    owner = _controller(client, pod)
    above = _controller(client, owner) if owner is not None else None
    scalable = above or owner
    if scalable is not None:
        return meta.uid(scalable), meta.spec(scalable).get("replicas", 1)
    reference = meta.controller_reference(pod) or {}
    if _scalable(reference) is None and (size := scales.size_of(client, meta.namespace(pod), reference)) is not None:
        return reference["uid"], size
    raise scales.ScaleUnavailable(f'found no controllers for pod "{meta.name(pod)}"')


def _scalable(reference: Object) -> str | None:
    """The resource of a reference to one of the kinds that are known to have a size."""
    return _SCALABLE.get((reference["apiVersion"].rpartition("/")[0], reference["kind"]))


def _controller(client: Client, obj: Object) -> Object | None:
    reference = meta.controller_reference(obj)
    if reference is None:
        return None
    resource = _scalable(reference)
    owner = client.get(resource, meta.namespace(obj), reference["name"]) if resource else None
    return owner if owner is not None and meta.uid(owner) == reference["uid"] else None


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    budget = snapshot.budget
    actions: list[Action] = []
    if not snapshot.pods:
        event = Announce(regarding=budget, reason="NoPods", message="No matching pods found")
        actions.append(Emit(why="a budget without pods may be a mistake", event=event))
    if snapshot.problem:
        return [*actions, *_give_up(budget, snapshot.problem, now)]
    if snapshot.unmanaged:
        actions.append(_unmanaged(budget))
    expected, wanted = _desired(meta.spec(budget), snapshot)
    actions += _overdue(budget, snapshot.pods, now)
    actions += _write(snapshot, now, expected=expected, healthy_wanted=wanted)
    waiting = _expiring(budget, now)
    return [*actions, Requeue(why="an evicted pod must be gone by then", seconds=waiting)] if waiting else actions


def _give_up(budget: Object, problem: str, now: datetime) -> list[Action]:
    """Nothing may be disrupted as long as it is not known what the budget means; all else stays as it was."""
    message = f"Failed to calculate the number of expected pods: {problem}"
    event = Announce(regarding=budget, reason="CalculateExpectedPodCountFailed", message=message, type="Warning")
    condition: Object = {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": problem}
    observed = meta.status(budget).get("observedGeneration")
    if observed:
        condition["observedGeneration"] = observed
    counts = dict.fromkeys(("currentHealthy", "desiredHealthy", "expectedPods"), 0)
    conditions = replace_condition(meta.conditions(budget), condition, now)
    status: Object = {**counts, **meta.status(budget), "disruptionsAllowed": 0, "conditions": conditions}
    return [Emit(why=message, event=event), *write_status(RESOURCE, budget, status, problem)]


def _unmanaged(budget: Object) -> Emit:
    selector = gotext.label_selector(meta.spec(budget).get("selector"))
    message = (
        f"Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, "
        "the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for "
        'these pods please set ".spec.minAvailable" field of the PDB to an integer value.'
    )
    event = Announce(regarding=budget, reason="UnmanagedPods", message=message, type="Warning")
    return Emit(why="pods without a controller do not count", event=event)


def _desired(spec: Object, snapshot: Snapshot) -> tuple[int, int]:
    """How many pods are expected, and how many of them must be healthy."""
    if "maxUnavailable" in spec:
        most = scaled(spec["maxUnavailable"], snapshot.wanted, round_up=True)
        return snapshot.wanted, max(0, snapshot.wanted - most)
    least = spec.get("minAvailable")
    if least is None:
        return 0, 0
    if isinstance(least, int):
        return len(snapshot.pods), least
    return snapshot.wanted, scaled(least, snapshot.wanted, round_up=True)


def _overdue(budget: Object, pods: Iterable[Object], now: datetime) -> Iterable[Action]:
    """Evicted pods that nobody has deleted in time."""
    disrupted = meta.part(budget, "status", "disruptedPods")
    message = f"Pod was expected by PDB {meta.namespace(budget)}/{meta.namespace(budget)} to be deleted but it wasn't"
    for pod in pods:
        since = disrupted.get(meta.name(pod))
        if since and not meta.deleting(pod) and now > meta.parse_time(since) + timedelta(seconds=DELETION_TIMEOUT):
            event = Announce(regarding=pod, reason="NotDeleted", message=message, type="Warning")
            yield Emit(why="its eviction is long ago", event=event)


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


def _write(snapshot: Snapshot, now: datetime, *, expected: int, healthy_wanted: int) -> list[Action]:
    budget = snapshot.budget
    disrupted = _still_disrupted(budget, {meta.name(p): p for p in snapshot.pods}, now)
    healthy = sum(podlib.is_ready(p) and not meta.deleting(p) and meta.name(p) not in disrupted for p in snapshot.pods)
    allowed = max(0, healthy - healthy_wanted) if expected > 0 else 0
    status: Object = {
        "currentHealthy": healthy,
        "desiredHealthy": healthy_wanted,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": meta.generation(budget),
        "conditions": _told(budget, allowed, now),
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    return [*write_status(RESOURCE, budget, status, f"{healthy} pods are healthy, {healthy_wanted} must be")]


def _told(budget: Object, allowed: int, now: datetime) -> list[Object]:
    """The conditions of a budget that allows so many disruptions."""
    condition: Object = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "message": "",
        "observedGeneration": meta.generation(budget),
    }
    return replace_condition(meta.conditions(budget), condition, now)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The pod may be evicted; `budget` is to be written first, so that it counts the eviction."""

    budget: Object | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not, or not now."""

    error: ApiError


def budgets_of(pod: Object, budgets: Iterable[Object]) -> list[Object]:
    """The budgets of the pod's namespace that select it."""
    return [b for b in budgets if meta.matches_selector(meta.spec(b).get("selector"), meta.labels(pod))]


def judge(pod: Object, budgets: Sequence[Object], now: datetime) -> Allowed | Refused:
    """Whether a pod may be evicted now, given the budgets that select it."""
    if podlib.phase(pod) in ("Succeeded", "Failed", "Pending") or meta.deleting(pod) or not budgets:
        return Allowed()
    if len(budgets) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        return Refused(ApiError(500, "", message))
    budget, status = budgets[0], meta.status(budgets[0])
    if not podlib.is_ready(pod):
        policy = meta.spec(budget).get("unhealthyPodEvictionPolicy", "IfHealthyBudget")
        enough = status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0)
        if policy == "AlwaysAllow" or (enough and status.get("desiredHealthy", 0) > 0):
            return Allowed()
    return _spend(pod, budget, status, now)


def _spend(pod: Object, budget: Object, status: Object, now: datetime) -> Allowed | Refused:
    if status.get("observedGeneration", 0) < meta.generation(budget):
        why = f"The disruption budget {meta.name(budget)} is still being processed by the server."
        return _too_many_requests(why, retry_after=10)
    allowed: int = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        return _forbidden(budget, "pdb disruptions allowed is negative")
    if len(meta.part(budget, "status", "disruptedPods")) > MAX_DISRUPTED:
        return _forbidden(budget, "DisruptedPods map too big - too many evictions not confirmed by PDB controller")
    if allowed == 0:
        return _too_many_requests(_why_not(budget, status))
    disrupted = {**meta.part(budget, "status", "disruptedPods"), meta.name(pod): meta.timestamp(now)}
    spent: Object = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted}
    if allowed == 1:
        spent["conditions"] = _told(budget, 0, now)
    return Allowed({**budget, "status": spent})


def _why_not(budget: Object, status: Object) -> str:
    subject = f"The disruption budget {meta.name(budget)}"
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    condition = meta.condition(budget, "DisruptionAllowed") or {}
    said: str = condition.get("message", "") if condition.get("status") == "False" else ""
    if said and condition.get("reason") == "SyncFailed":
        return f"{subject} does not allow evicting pods currently because it failed sync: {said}"
    if healthy <= wanted:
        return f"{subject} needs {wanted} healthy pods and has {healthy} currently"
    if said:
        return f"{subject} does not allow evicting pods currently ({condition.get('reason')}): {said}"
    return f"{subject} does not allow evicting pods currently"


def _too_many_requests(cause: str, retry_after: int = 0) -> Refused:
    details: Object = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    headers: list[tuple[str, str]] = []
    if retry_after:
        details["retryAfterSeconds"] = retry_after
        headers.append(("Retry-After", str(retry_after)))
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return Refused(ApiError(429, "TooManyRequests", message, details, headers=headers))


def _forbidden(budget: Object, why: str) -> Refused:
    return Refused(forbidden("poddisruptionbudget", "policy", meta.name(budget), why))


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


def _is_doomed(pod: Object) -> bool:
    """Whether the pod tells that it is about to be disrupted, and is not even being deleted."""
    condition = meta.condition(pod, "DisruptionTarget") or {}
    told = condition.get("status") == "True" and condition.get("reason") != "TerminationByKubelet"
    return told and not meta.deleting(pod) and podlib.phase(pod) not in ("Succeeded", "Failed")


def observe_doomed(client: Client, key: ObjectKey) -> Object | None:
    pod = client.get("pods", key.namespace, key.name)
    return pod if pod is not None and _is_doomed(pod) else None


def decide_doomed(pod: Object, now: datetime) -> list[Action]:
    """A disruption that did not happen is taken back."""
    condition = meta.condition(pod, "DisruptionTarget") or {}
    since = condition.get("lastTransitionTime") or meta.timestamp(now)
    left = (meta.parse_time(since) + timedelta(seconds=STALE_CONDITION) - now).total_seconds()
    if left > 0:
        return [Requeue(why="it must be on its way out by then", seconds=left)]
    fresh = {"type": "DisruptionTarget", "status": "False", "lastTransitionTime": meta.timestamp(now)}
    return [
        Patch(
            why="nobody has disrupted it",
            resource="pods",
            namespace=meta.namespace(pod),
            name=meta.name(pod),
            patch={"status": {"conditions": [{**fresh, "reason": None, "message": None}]}},
            subresource="status",
            strategic=True,
        )
    ]


def _of_doomed(_client: Client, change: Change) -> Iterable[ObjectKey]:
    if change.type != "DELETED" and _is_doomed(change.entry.object):
        yield key_of(change.entry.object)


def stale_conditions() -> Controller:
    """The other half of the disruption controller: pods that were told of a disruption which did not come."""
    return Controller(
        name="disruption-controller",
        event_source="controllermanager",
        user=service_account("disruption-controller"),
        resource="pods",
        watches=(Watch(resource="pods", keys=_of_doomed),),
        reconcile=looking(observe_doomed, decide_doomed),
    )

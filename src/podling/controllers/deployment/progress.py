"""A deployment's status: counts over its replica sets, and the conditions Available, Progressing, ReplicaFailure.

Progressing tells whether a rollout still moves: it turns False (ProgressDeadlineExceeded) when nothing has got
better for `spec.progressDeadlineSeconds`, and stays at NewReplicaSetAvailable once a rollout is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from podling.api import meta
from podling.controllers.deployment import rules
from podling.controllers.statuses import with_condition, without_condition
from podling.store.types import Object

NO_DEADLINE = 2**31 - 1


def has_deadline(deployment: Object) -> bool:
    deadline = meta.spec(deployment).get("progressDeadlineSeconds")
    return deadline is not None and deadline != NO_DEADLINE


def condition(type: str, status: str, reason: str, message: str, now: datetime) -> Object:
    moment = meta.timestamp(now)
    return {
        "type": type,
        "status": status,
        "lastUpdateTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }


def counted_status(deployment: Object, sets: Sequence[Object], new: Object | None, now: datetime) -> Object:
    """The counts and the condition Available; the other conditions as they were."""
    available = sum(rules.available(s) for s in sets)
    wanted = sum(rules.replicas(s) for s in sets)
    status = meta.without_empty(
        {
            "observedGeneration": meta.generation(deployment),
            "replicas": sum(meta.status(s).get("replicas", 0) for s in sets),
            "updatedReplicas": meta.status(new).get("replicas", 0) if new else 0,
            "readyReplicas": sum(meta.status(s).get("readyReplicas", 0) for s in sets),
            "availableReplicas": available,
            "unavailableReplicas": max(0, wanted - available),
        }
    )
    collisions = meta.status(deployment).get("collisionCount")
    if collisions is not None:
        status["collisionCount"] = collisions
    seen = [meta.status(s) for s in sets if meta.status(s).get("observedGeneration")]
    if all("terminatingReplicas" in s for s in seen):
        status["terminatingReplicas"] = sum(s["terminatingReplicas"] for s in seen)
    enough = available >= rules.min_available(deployment)
    status["conditions"] = with_condition(meta.conditions(deployment), _availability(enough, now), now)
    return status


def _availability(enough: bool, now: datetime) -> Object:
    if enough:
        return condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    message = "Deployment does not have minimum availability."
    return condition("Available", "False", "MinimumReplicasUnavailable", message, now)


def is_complete(deployment: Object, status: Object) -> bool:
    wanted = rules.replicas(deployment)
    return (
        status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("observedGeneration", 0) >= meta.generation(deployment)
    )


def has_progressed(old: Object, new: Object) -> bool:
    """Whether there are more updated, ready or available pods than before, or fewer old ones."""

    def old_pods(status: Object) -> int:
        return status.get("replicas", 0) - status.get("updatedReplicas", 0)

    more = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return old_pods(new) < old_pods(old) or any(new.get(f, 0) > old.get(f, 0) for f in more)


def deadline_of(deployment: Object, progressing: Object) -> datetime:
    updated = meta.parse_time(progressing.get("lastUpdateTime") or progressing["lastTransitionTime"])
    return updated + timedelta(seconds=meta.spec(deployment)["progressDeadlineSeconds"])


def timed_out(deployment: Object, progressing: Object | None, now: datetime) -> bool:
    if progressing is None or progressing.get("reason") == "NewReplicaSetAvailable":
        return False
    return progressing.get("reason") == "ProgressDeadlineExceeded" or deadline_of(deployment, progressing) < now


def rollout_conditions(
    deployment: Object, status: Object, sets: Sequence[Object], new: Object | None, now: datetime
) -> list[Object]:
    """The conditions of a status that `counted_status` gave."""
    conditions: list[Object] = status["conditions"]
    current = meta.find_condition(conditions, "Progressing")
    if not has_deadline(deployment):
        conditions = without_condition(conditions, "Progressing")
    elif not _was_complete(status, current):
        conditions = _progress(deployment, status, conditions, current, new, now)
    failures = replica_failures(sets, new)
    if failures:
        return with_condition(conditions, failures[0], now)
    return without_condition(conditions, "ReplicaFailure")


def _was_complete(status: Object, current: Object | None) -> bool:
    all_updated = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    return all_updated and current is not None and current.get("reason") == "NewReplicaSetAvailable"


def _progress(
    deployment: Object,
    status: Object,
    conditions: list[Object],
    current: Object | None,
    new: Object | None,
    now: datetime,
) -> list[Object]:
    subject = f'ReplicaSet "{meta.name(new)}"' if new else f'Deployment "{meta.name(deployment)}"'
    if is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        return with_condition(conditions, condition("Progressing", "True", "NewReplicaSetAvailable", message, now), now)
    if has_progressed(meta.status(deployment), status):
        fresh = condition("Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        if current is not None and current["status"] == "True":
            fresh["lastTransitionTime"] = current["lastTransitionTime"]
        return [*without_condition(conditions, "Progressing"), fresh]
    if timed_out(deployment, current, now):
        message = f"{subject} has timed out progressing."
        return with_condition(
            conditions, condition("Progressing", "False", "ProgressDeadlineExceeded", message, now), now
        )
    return conditions


def replica_failures(sets: Sequence[Object], new: Object | None) -> list[Object]:
    """ReplicaFailure of the new set, else of any, as conditions of a deployment."""
    for group in ([new] if new else [], sets):
        found = [c for s in group if (c := meta.condition(s, "ReplicaFailure")) is not None]
        if found:
            return [{**c, "lastUpdateTime": c["lastTransitionTime"]} for c in found]
    return []


def pause_condition(deployment: Object, conditions: list[Object], now: datetime) -> list[Object]:
    """Progressing becomes Unknown while paused and when resumed, so that a pause does not use up the deadline."""
    current = meta.find_condition(conditions, "Progressing")
    reason = current.get("reason") if current else None
    if not has_deadline(deployment) or reason == "ProgressDeadlineExceeded":
        return conditions
    paused = bool(meta.spec(deployment).get("paused"))
    if paused and reason != "DeploymentPaused":
        fresh = condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now)
        return with_condition(conditions, fresh, now)
    if not paused and reason == "DeploymentPaused":
        fresh = condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", now)
        return with_condition(conditions, fresh, now)
    return conditions

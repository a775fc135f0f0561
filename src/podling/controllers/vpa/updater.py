"""The updater: which running pods are changed because of a recommendation, how, and when. Pure.

Source: the Vertical Pod Autoscaler's updater (`UpdatePriorityCalculator`, `PodsRestriction`), AEP-4016 (in place).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.podresources import amounts
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Patch
from podling.controllers.vpa.recommendation import (
    Comparison,
    compare,
    policy_of,
    recommended_containers,
    resources_for,
)
from podling.store.types import Object

LEAST_REPLICAS = 2
"""Of a workload with fewer pods none is evicted, unless `spec.updatePolicy.minReplicas` says otherwise."""
EVICTING = ("Recreate", "InPlaceOrRecreate", "Auto")
"""Modes in which running pods are changed."""
IN_PLACE_PATIENCE = {"PodResizePending": timedelta(minutes=5), "PodResizeInProgress": timedelta(hours=1)}
"""How long a pod may wait to be resized in place, or be at it, before it is evicted instead."""
SETTLED = timedelta(hours=12)
LEAST_DIFFERENCE = 0.1
"""A pod that is within the bounds is only changed when it has run that long, and by that share at least."""
QUICK_OOM = timedelta(minutes=10)
"""Who runs out of memory so soon after its start does not wait for anything."""


def mode_of(vpa: Object) -> str:
    return meta.part(vpa, "spec", "updatePolicy").get("updateMode") or "Recreate"


def updates(
    vpa: Object, target: Object | None, pods: Sequence[Object], recommended: Sequence[Object], now: datetime
) -> list[Action]:
    """What becomes of running pods whose requests are wrong: resized in place, if that may be, or evicted.

    Of one workload at most half of the wanted pods are evicted at a time, and none while others of it are away.
    """
    living = [p for p in pods if not meta.deleting(p) and podlib.phase(p) in ("Running", "Pending")]
    least = meta.part(vpa, "spec", "updatePolicy").get("minReplicas") or LEAST_REPLICAS
    if mode_of(vpa) not in EVICTING or not recommended or len(living) < least or target is None:
        return []
    by_name = {r["containerName"]: r for r in recommended}
    wrong = _wrong(vpa, living, by_name, now)
    if mode_of(vpa) != "InPlaceOrRecreate":
        return [_evict(vpa, pod) for pod in _evictable(target, living, wrong)]
    resizable = [pod for pod in wrong if _resizable(pod)]
    stuck = [pod for pod in living if _stuck(pod, now)]
    stuck += [pod for pod in wrong if pod not in resizable and pod not in stuck and not _resizing(pod)]
    evicted = _evictable(target, living, stuck)
    return [*(_resize(vpa, pod, by_name) for pod in resizable), *(_evict(vpa, pod) for pod in evicted)]


def _evictable(target: Object, living: Sequence[Object], pods: Sequence[Object]) -> list[Object]:
    """Those that may go now; one that waits for a place serves nobody, and always may."""
    running = sum(podlib.phase(p) == "Running" for p in living)
    wanted: int = meta.spec(target).get("replicas") or len(living)
    room = max(running - wanted + max(wanted // 2, 1), 0)
    waiting = [pod for pod in pods if podlib.phase(pod) == "Pending"]
    return [*waiting, *[pod for pod in pods if pod not in waiting][:room]]


def _wrong(vpa: Object, pods: Sequence[Object], recommended: Mapping[str, Object], now: datetime) -> list[Object]:
    """The pods that should be changed; first who needs more, and who is farthest off."""
    found: list[tuple[bool, float, Object]] = []
    for pod in pods:
        comparison = compare(vpa, pod, recommended)
        if _due(vpa, pod, comparison, now) and _permitted(vpa, pod, recommended):
            found.append((comparison.grows, comparison.difference, pod))
    return [pod for *_, pod in sorted(found, key=lambda item: item[:2], reverse=True)]


def _due(vpa: Object, pod: Object, comparison: Comparison, now: datetime) -> bool:
    if comparison.outside:
        return True
    if any(policy_of(vpa, name).get("mode") != "Off" for name in _quickly_out_of_memory(pod)):
        return comparison.difference > 0
    started = meta.status(pod).get("startTime")
    settled = started is not None and meta.parse_time(started) + SETTLED <= now
    return settled and comparison.difference >= LEAST_DIFFERENCE


def _quickly_out_of_memory(pod: Object) -> Iterable[str]:
    for status in meta.items(pod, "status", "containerStatuses"):
        ended = meta.part(status, "lastState", "terminated")
        if ended.get("reason") != "OOMKilled" or not (ended.get("startedAt") and ended.get("finishedAt")):
            continue
        if meta.parse_time(ended["finishedAt"]) - meta.parse_time(ended["startedAt"]) < QUICK_OOM:
            yield status["name"]


def _permitted(vpa: Object, pod: Object, recommended: Mapping[str, Object]) -> bool:
    """`spec.updatePolicy.evictionRequirements`: all of them, for one of the containers."""
    requirements = meta.items(vpa, "spec", "updatePolicy", "evictionRequirements")
    return not requirements or any(
        all(_meets(container, recommendation, requirement) for requirement in requirements)
        for container, recommendation in recommended_containers(vpa, pod, recommended)
    )


def _meets(container: Object, recommendation: Object, requirement: Object) -> bool:
    """In one of the requirement's resources."""
    requests = amounts(meta.part(container, "resources", "requests"))
    target = amounts(recommendation["target"])
    higher = requirement["changeRequirement"] == "TargetHigherThanRequests"
    changes = [target[r] - requests.get(r, 0) for r in requirement["resources"] if r in target]
    return any(change > 0 if higher else change < 0 for change in changes)


def _resizable(pod: Object) -> bool:
    """A resize must not change the quality of service: a pod that requests nothing has to be made anew."""
    running = podlib.phase(pod) == "Running"
    return running and meta.status(pod).get("qosClass") != "BestEffort" and not _resizing(pod)


def _resizing(pod: Object) -> bool:
    return any(meta.condition_is(pod, type) for type in IN_PLACE_PATIENCE)


def _stuck(pod: Object, now: datetime) -> bool:
    """A resize that the node cannot do, or did not do for long."""
    for type, patience in IN_PLACE_PATIENCE.items():
        condition = meta.condition(pod, type)
        if condition is not None and condition["status"] == "True":
            waited = now - meta.parse_time(condition["lastTransitionTime"])
            if condition.get("reason") == "Infeasible" or waited > patience:
                return True
    return False


def _resize(vpa: Object, pod: Object, recommended: Mapping[str, Object]) -> Patch:
    containers = [
        {"name": container["name"], "resources": resources_for(vpa, container, recommendation["target"])}
        for container, recommendation in recommended_containers(vpa, pod, recommended)
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

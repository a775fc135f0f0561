"""What a finished pod means for its job. Sources: "Jobs" in the documentation, KEP-3329, KEP-3850, KEP-3998."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.controllers.job import indexes
from podling.store.types import Object

BACKOFF_FIRST = 10.0
BACKOFF_LAST = 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the first matching rule of a `podFailurePolicy` says; `action` is `Count` where none matches."""

    action: str = "Count"
    message: str = ""


def verdict(job: Object, pod: Object) -> Verdict:
    for number, rule in enumerate(meta.items(job, "spec", "podFailurePolicy", "rules")):
        why = _matches(rule, pod)
        if why is not None:
            return Verdict(rule["action"], f"{why} matching {rule['action']} rule at index {number}")
    return Verdict()


def _matches(rule: Object, pod: Object) -> str | None:
    """Why the rule speaks of the pod."""
    where = f"pod {meta.namespace(pod)}/{meta.name(pod)}"
    on_codes = rule.get("onExitCodes")
    if on_codes is not None:
        for status in _container_statuses(pod):
            code = meta.part(status, "state", "terminated").get("exitCode", 0)
            named = on_codes.get("containerName")
            if code and named in (None, status["name"]) and _code_matches(on_codes, code):
                return f"Container {status['name']} for {where} failed with exit code {code}"
        return None
    for pattern in meta.items(rule, "onPodConditions"):
        for condition in meta.conditions(pod):
            if condition["type"] == pattern["type"] and condition["status"] == pattern.get("status", "True"):
                return f"Pod {meta.namespace(pod)}/{meta.name(pod)} has condition {condition['type']}"
    return None


def _code_matches(requirement: Object, code: int) -> bool:
    return (code in requirement["values"]) == (requirement["operator"] == "In")


def _container_statuses(pod: Object) -> Iterable[Object]:
    yield from meta.items(pod, "status", "initContainerStatuses")
    yield from meta.items(pod, "status", "containerStatuses")


def success_rule(job: Object, completed: set[int]) -> int | None:
    """The index of the first `successPolicy` rule that the completed indexes satisfy."""
    for number, rule in enumerate(meta.items(job, "spec", "successPolicy", "rules")):
        wanted = indexes.parse(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None
        counted = completed if wanted is None else completed & wanted
        needed = rule.get("succeededCount") or (len(wanted) if wanted is not None else 1)
        if len(counted) >= needed:
            return number
    return None


def finished_at(pod: Object) -> str:
    """When its last container ended; else when it was marked for deletion, or was last seen ready."""
    times = [
        meta.part(s, "state", "terminated").get("finishedAt", "")
        for s in meta.items(pod, "status", "containerStatuses")
    ]
    latest: str = max((t for t in times if t), default="")
    ready = meta.condition(pod, "Ready") or {}
    created = meta.metadata(pod).get("creationTimestamp", "")
    return latest or meta.metadata(pod).get("deletionTimestamp") or ready.get("lastTransitionTime") or created


def backoff_left(failed: Sequence[Object], succeeded: Sequence[Object], now: datetime) -> float:
    """Seconds until the next pod may be made: 10 s after a failure, doubling with each since the last success."""
    last_success = max((finished_at(p) for p in succeeded), default="")
    failures = sorted(t for p in failed if (t := finished_at(p)) > last_success)
    if not failures:
        return 0.0
    delay = min(BACKOFF_FIRST * 2.0 ** (len(failures) - 1), BACKOFF_LAST)
    return max(0.0, delay - (now - meta.parse_time(failures[-1])).total_seconds())

"""What a finished pod means for its job. Sources: "Jobs" in the documentation, KEP-3329, KEP-3850, KEP-3998."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from podling.api import meta
from podling.controllers import pods as podlib
from podling.controllers.job import indexes
from podling.store.types import Object

BACKOFF_FIRST = 10.0
BACKOFF_LAST = 600.0
_NEVER = datetime.min.replace(tzinfo=UTC)


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
    patterns = [(p["type"], p.get("status", "True")) for p in meta.items(rule, "onPodConditions")]
    for condition in meta.conditions(pod):
        if (condition["type"], condition["status"]) in patterns:
            return f"Pod {meta.namespace(pod)}/{meta.name(pod)} has condition {condition['type']}"
    return None


def _code_matches(requirement: Object, code: int) -> bool:
    return (code in requirement["values"]) == (requirement["operator"] == "In")


def _container_statuses(pod: Object) -> Iterable[Object]:
    yield from meta.items(pod, "status", "containerStatuses")
    yield from meta.items(pod, "status", "initContainerStatuses")


def success_rule(job: Object, completed: set[int]) -> int | None:
    """The index of the first `successPolicy` rule that the completed indexes satisfy."""
    for number, rule in enumerate(meta.items(job, "spec", "successPolicy", "rules")):
        wanted = indexes.parse(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None
        counted = completed if wanted is None else completed & wanted
        needed = rule.get("succeededCount") or (len(wanted) if wanted is not None else 1)
        if len(counted) >= needed:
            return number
    return None


def replaces_only_failed(job: Object) -> bool:
    """Whether a pod that is on its way out counts, and is replaced, only once it has ended."""
    spec = meta.spec(job)
    return spec.get("podReplacementPolicy") == "Failed" or bool(spec.get("podFailurePolicy"))


def finished_at(pod: Object) -> datetime:
    """When its last container ended; else since when it is not ready, or to be deleted."""
    names = {c["name"] for c in podlib.sidecars(pod)}
    statuses = [
        *meta.items(pod, "status", "containerStatuses"),
        *(s for s in meta.items(pod, "status", "initContainerStatuses") if s["name"] in names),
    ]
    times: list[str] = [meta.part(s, "state", "terminated").get("finishedAt") or "" for s in statuses]
    if times and all(times):
        return meta.parse_time(max(times))
    ready, metadata = meta.condition(pod, "Ready") or {}, meta.metadata(pod)
    if ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return meta.parse_time(ready["lastTransitionTime"])
    if meta.deleting(pod):
        grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
        return meta.parse_time(metadata["deletionTimestamp"]) - grace
    return podlib.created(pod) or _NEVER


@dataclass(frozen=True, slots=True)
class Ending:
    """Of a pod."""

    failed: bool
    time: datetime


def backoff_left(endings: Iterable[Ending], now: datetime) -> float:
    """Seconds until the next pod may be made: 10 s after a failure, doubling with each since the last success."""
    known = list(endings)
    last_success = max((e.time for e in known if not e.failed), default=_NEVER)
    failures = [e.time for e in known if e.failed and e.time > last_success]
    return delay_left(len(failures), max(failures, default=_NEVER), now)


def delay_left(failures: int, last: datetime, now: datetime) -> float:
    """Seconds until the next try after so many failures, the last of them then."""
    if failures == 0:
        return 0.0
    delay = min(BACKOFF_FIRST * 2.0 ** min(failures - 1, 10), BACKOFF_LAST)
    return max(0.0, delay - (now - last).total_seconds())


def removable(active: Sequence[Object], at_least: int, completions: int | None) -> list[Object]:
    """The active pods that go: of an Indexed job doubles, and those of indexes that it no longer has; then as many as
    are too many. `completions` is `None` for other jobs."""
    doomed: list[Object] = []
    left = sorted(active, key=podlib.plain_rank)
    if completions is not None:
        kept: dict[int, Object] = {}
        for pod in reversed(left):
            index = indexes.index_of(pod)
            if index is None or index >= completions or index in kept:
                doomed.append(pod)
            else:
                kept[index] = pod
        left = [pod for pod in left if pod not in doomed]
    return [*doomed, *left[: max(0, at_least - len(doomed))]]

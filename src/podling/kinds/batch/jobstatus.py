"""What a Job's status may say: the controller's word, held to what finished jobs, counts and indexes allow.

`validateJobStatus` and `getStatusValidationOptions` of Kubernetes: most rules only look at what has changed, so that
an object from before a rule can still be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, duplicate, invalid_value, omitted_value, required
from podling.api.meta import condition_is, parse_time
from podling.kinds.batch.failurepolicy import indexes_total, interval
from podling.kinds.core import workload
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_COUNTS: Final = ("active", "succeeded", "failed", "ready", "terminating")
_CONDITIONS: Final = "status.conditions"


def validate(new: Object, old: Object) -> list[FieldError]:
    change = _Change(new, old)
    errors = workload.status_counts(change.status, _COUNTS)
    errors += _uncounted(part(change.status, "uncountedTerminatedPods"))
    errors += _finished(change)
    errors += _indexes(change)
    errors += _pods(change)
    errors += _success_criteria(change)
    return errors + _kept(change)


class _Change:
    """A status and the one before it."""

    def __init__(self, new: Object, old: Object) -> None:
        self.new, self.old = new, old
        self.spec = part(new, "spec")
        self.status, self.before = part(new, "status"), part(old, "status")
        self.indexed = self.spec.get("completionMode") == "Indexed"

    def has(self, kind: str) -> bool:
        return condition_is(self.new, kind)

    def had(self, kind: str) -> bool:
        return condition_is(self.old, kind)

    @property
    def finished(self) -> bool:
        return self.has("Complete") or self.has("Failed")

    def turned(self, *kinds: str) -> bool:
        return any(self.has(kind) != self.had(kind) for kind in kinds)

    def finish_turned(self) -> bool:
        return self.finished != (self.had("Complete") or self.had("Failed"))

    def differs(self, *keys: str) -> bool:
        return any((self.status.get(key) or None) != (self.before.get(key) or None) for key in keys)


def _uncounted(pods: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for key in ("succeeded", "failed"):
        for at, uid in each(f"status.uncountedTerminatedPods.{key}", pods.get(key)):
            if not uid:
                errors.append(invalid_value(at, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(at, uid))
            seen.add(uid)
    return errors


def _cannot(words: str) -> FieldError:
    return omitted_value(_CONDITIONS, f"cannot set {words}")


def _finished(change: _Change) -> list[FieldError]:
    """What conditions exclude each other, and the times that go with them."""
    errors: list[FieldError] = []
    start, end = change.status.get("startTime"), change.status.get("completionTime")
    complete, failed = change.has("Complete"), change.has("Failed")
    if change.turned("Complete", "Failed") and complete and failed:
        errors.append(_cannot("Complete=True and Failed=true conditions"))
    if change.turned("Complete", "FailureTarget") and complete and change.has("FailureTarget"):
        errors.append(_cannot("Complete=True and FailureTarget=true conditions"))
    at = "status.completionTime"
    if change.turned("Complete") or change.differs("completionTime"):
        if end and not complete:
            detail = "cannot set completionTime when there is no Complete=True condition"
            errors.append(invalid_value(at, end, detail))
        if not end and complete:
            errors.append(required(at, "completionTime is required for Complete jobs"))
    if change.differs("startTime", "completionTime") and start and end and parse_time(end) < parse_time(start):
        errors.append(invalid_value(at, end, "completionTime cannot be set before startTime"))
    if change.turned("Failed") and failed and not change.has("FailureTarget"):
        errors.append(_cannot("Failed=True condition without the FailureTarget=true condition"))
    if change.turned("Complete") and complete and not change.has("SuccessCriteriaMet"):
        errors.append(_cannot("Complete=True condition without the SuccessCriteriaMet=true condition"))
    return errors


def _indexes(change: _Change) -> list[FieldError]:
    errors: list[FieldError] = []
    completions = change.spec.get("completions")
    completed, failed = text(change.status, "completedIndexes"), change.status.get("failedIndexes")
    per_index = change.spec.get("backoffLimitPerIndex") is not None
    at, failed_at = "status.completedIndexes", "status.failedIndexes"
    if change.differs("completedIndexes") and completions is not None:
        errors += _parsed(at, completed, completions)
    if change.differs("failedIndexes") and completions is not None and per_index and failed is not None:
        errors += _parsed(failed_at, failed, completions)
    if change.differs("completedIndexes") and completed and not change.indexed:
        detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.append(invalid_value(at, completed, detail))
    if change.differs("failedIndexes") and not per_index and failed is not None:
        detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.append(invalid_value(failed_at, failed, detail))
    if change.differs("failedIndexes", "completedIndexes") and completions is not None and failed is not None:
        shared = _overlap(_intervals(completed, completions), _intervals(failed, completions))
        if shared is not None:
            detail = f"failedIndexes and completedIndexes overlap at index: {shared}"
            errors.append(invalid_value(failed_at, failed, detail))
    return errors


def _parsed(path: str, indexes: str, completions: int) -> list[FieldError]:
    try:
        indexes_total(indexes, completions)
    except ValueError as error:
        return [invalid_value(path, indexes, f"error parsing {path.rpartition('.')[2]}: {error}")]
    return []


def _intervals(indexes: str, completions: int) -> list[tuple[int, int]]:
    """Those that can be read; the others are told as malformed."""
    found: list[tuple[int, int]] = []
    for written in indexes.split(",") if indexes else ():
        try:
            found.append(interval(written, completions))
        except ValueError:
            continue
    return found


def _overlap(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> int | None:
    shared = [max(a, c) for a, b in one for c, d in other if a <= d and c <= b]
    return min(shared, default=None)


def _pods(change: _Change) -> list[FieldError]:
    """A finished job has no pods left, and none is ready that is not active."""
    status, errors = change.status, list[FieldError]()
    active, finished = status.get("active") or 0, change.finished
    if (change.finish_turned() or change.differs("active")) and active > 0 and finished:
        errors.append(invalid_value("status.active", active, "active>0 is invalid for finished job"))
    idle = change.spec.get("suspend") and change.spec.get("completions") == 0
    if (
        (change.finish_turned() or change.differs("startTime"))
        and not idle
        and finished
        and not status.get("startTime")
    ):
        errors.append(required("status.startTime", "startTime is required for finished job"))
    uncounted = part(status, "uncountedTerminatedPods")
    left = entries(uncounted, "succeeded") or entries(uncounted, "failed")
    if (change.finish_turned() or change.differs("uncountedTerminatedPods")) and finished and left:
        shown = {"Succeeded": uncounted.get("succeeded"), "Failed": uncounted.get("failed")}
        detail = "uncountedTerminatedPods needs to be empty for finished job"
        errors.append(invalid_value("status.uncountedTerminatedPods", shown, detail))
    terminating = status.get("terminating") or 0
    if (change.finish_turned() or change.differs("terminating")) and terminating > 0 and finished:
        detail = "terminating>0 is invalid for finished job"
        errors.append(invalid_value("status.terminating", terminating, detail))
    ready = status.get("ready") or 0
    if change.differs("ready", "active") and ready > active:
        errors.append(invalid_value("status.ready", ready, "cannot set more ready pods than active"))
    return errors


def _success_criteria(change: _Change) -> list[FieldError]:
    errors: list[FieldError] = []
    if change.has("SuccessCriteriaMet"):
        if change.has("Failed"):
            errors.append(_cannot("SuccessCriteriaMet=True and Failed=true conditions"))
        if change.has("FailureTarget"):
            errors.append(_cannot("SuccessCriteriaMet=True and FailureTarget=true conditions"))
    elif change.spec.get("successPolicy") is not None and change.has("Complete"):
        errors.append(_cannot("Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"))
    return errors


def _kept(change: _Change) -> list[FieldError]:
    """What cannot be taken back."""
    errors = [
        omitted_value(_CONDITIONS, f"cannot disable the terminal {kind}=True condition")
        for kind in ("Failed", "Complete", "FailureTarget")
        if change.had(kind) and not change.has(kind)
    ]
    elastic = change.indexed and change.spec.get("completions") == change.spec.get("parallelism")
    for key in ("failed", "succeeded"):
        count: int = change.status.get(key) or 0
        if count < (change.before.get(key) or 0) and not (key == "succeeded" and elastic):
            errors.append(invalid_value(f"status.{key}", count, f"cannot decrease the {key} counter"))
    errors += _times_kept(change)
    if change.had("SuccessCriteriaMet") and not change.has("SuccessCriteriaMet"):
        errors.append(omitted_value(_CONDITIONS, "cannot disable the SuccessCriteriaMet=True condition"))
    if change.had("Complete") and not change.had("SuccessCriteriaMet") and change.has("SuccessCriteriaMet"):
        errors.append(_cannot("SuccessCriteriaMet=True for Job already has Complete=true conditions"))
    return errors


def _times_kept(change: _Change) -> list[FieldError]:
    errors: list[FieldError] = []
    end = change.status.get("completionTime")
    if end and change.before.get("completionTime") and change.differs("completionTime"):
        errors.append(invalid_value("status.completionTime", end, "completionTime cannot be mutated"))
    if change.before.get("startTime") and change.differs("startTime") and not change.spec.get("suspend"):
        errors.append(required("status.startTime", "startTime cannot be removed for unsuspended job"))
    return errors

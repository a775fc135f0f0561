"""Counting pods exactly once.

Every pod of a job has a finalizer. When a pod has ended, its uid first goes into `status.uncountedTerminatedPods`;
when that is written, the finalizer is taken away; and when the finalizer is seen to be gone, the uid leaves the list
and the counter rises. Whatever dies in between, the next look goes on from what is written (KEP-2307).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.controllers import pods as podlib
from podling.controllers.actions import Patch
from podling.controllers.job import indexes
from podling.store.types import Object

FINALIZER = "batch.kubernetes.io/job-tracking"


def is_tracked(pod: Object) -> bool:
    return FINALIZER in meta.finalizers(pod)


def has_failed(pod: Object) -> bool:
    """Failed, or to be deleted before it could succeed (once nothing of it runs, that is: counted at its end)."""
    return podlib.phase(pod) == "Failed" or (meta.deleting(pod) and podlib.phase(pod) != "Succeeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The counters as they will be written, and the pods whose finalizer may go once that is done."""

    succeeded: int
    """Counted ones, without `uncounted_succeeded`."""
    failed: int
    uncounted_succeeded: tuple[str, ...]
    uncounted_failed: tuple[str, ...]
    completed: frozenset[int]
    """Completion indexes with a success, of Indexed jobs."""
    releasable: tuple[Object, ...]

    @property
    def all_succeeded(self) -> int:
        return self.succeeded + len(self.uncounted_succeeded)

    @property
    def all_failed(self) -> int:
        return self.failed + len(self.uncounted_failed)


def count(job: Object, pods: Sequence[Object], ignored: Iterable[str] = ()) -> Counts:
    """`ignored`: uids of failed pods that a failure policy does not count."""
    status, indexed = meta.status(job), is_indexed(job)
    tracked = {meta.uid(p): p for p in pods if is_tracked(p)}
    listed = meta.part(job, "status", "uncountedTerminatedPods")
    old_succeeded: list[str] = listed.get("succeeded") or []
    old_failed: list[str] = listed.get("failed") or []
    completed = indexes.parse(status.get("completedIndexes") or "")
    kept_succeeded = [u for u in old_succeeded if u in tracked]
    kept_failed = [u for u in old_failed if u in tracked]
    succeeded = len(completed) if indexed else status.get("succeeded", 0) + len(old_succeeded) - len(kept_succeeded)
    failed = status.get("failed", 0) + len(old_failed) - len(kept_failed)
    skipped = set(ignored)
    releasable: list[Object] = []
    for uid, pod in tracked.items():
        if podlib.phase(pod) == "Succeeded":
            releasable.append(pod)
            if indexed:
                index = indexes.index_of(pod)
                if index is not None and index < meta.spec(job)["completions"]:
                    completed.add(index)
            elif uid not in kept_succeeded:
                kept_succeeded.append(uid)
        elif has_failed(pod):
            releasable.append(pod)
            if uid not in kept_failed and uid not in skipped:
                kept_failed.append(uid)
    return Counts(
        succeeded=len(completed) if indexed else succeeded,
        failed=failed,
        uncounted_succeeded=tuple(kept_succeeded),
        uncounted_failed=tuple(kept_failed),
        completed=frozenset(completed),
        releasable=tuple(releasable),
    )


def is_indexed(job: Object) -> bool:
    return meta.spec(job).get("completionMode") == "Indexed"


def release(pod: Object) -> Patch:
    left = [f for f in meta.finalizers(pod) if f != FINALIZER]
    return Patch(
        why="it has been counted",
        resource="pods",
        namespace=meta.namespace(pod),
        name=meta.name(pod),
        patch={"metadata": {"uid": meta.uid(pod), "finalizers": left or None}},
    )

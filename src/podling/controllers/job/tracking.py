"""Counting pods exactly once.

Every pod of a job has a finalizer. When a pod has ended, its uid first goes into `status.uncountedTerminatedPods`;
when that is written, the finalizer is taken away; and when the finalizer is seen to be gone, the uid leaves the list
and the counter rises. Whatever dies in between, the next look goes on from what is written (KEP-2307).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.controllers import pods as podlib
from podling.controllers.actions import Patch
from podling.controllers.job import indexes, policies
from podling.store.types import Object

FINALIZER = "batch.kubernetes.io/job-tracking"


def is_tracked(pod: Object) -> bool:
    return FINALIZER in meta.finalizers(pod)


def has_failed(job: Object, pod: Object) -> bool:
    """Failed, or to be deleted before it could succeed, where such pods are not waited for."""
    if podlib.phase(pod) == "Failed":
        return True
    return not policies.replaces_only_failed(job) and meta.deleting(pod) and podlib.phase(pod) != "Succeeded"


def has_index(job: Object, pod: Object) -> bool:
    """Whether its success or failure can count: in an Indexed job, for an index that this has."""
    index = indexes.index_of(pod)
    return not is_indexed(job) or (index is not None and index < meta.spec(job)["completions"])


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
    held: int = 0
    """Failed pods that are not counted before another is there for their index."""

    @property
    def all_succeeded(self) -> int:
        return self.succeeded + len(self.uncounted_succeeded)

    @property
    def all_failed(self) -> int:
        return self.failed + len(self.uncounted_failed) + self.held


def count(
    job: Object,
    pods: Sequence[Object],
    ignored: Collection[str] = (),
    held: Collection[str] = (),
    ending: str = "",
) -> Counts:
    """`ignored`: uids of failed pods that a failure policy does not count; `held`: of those that must stay for now.

    `ending`: the condition by which the job ends, if it does: then every pod is let go, and counts as failed if the
    job does.
    """
    status, indexed = meta.status(job), is_indexed(job)
    tracked = {meta.uid(p): p for p in pods if is_tracked(p)}
    listed = meta.part(job, "status", "uncountedTerminatedPods")
    old_succeeded: list[str] = listed.get("succeeded") or []
    old_failed: list[str] = listed.get("failed") or []
    completed = indexes.parse(status.get("completedIndexes") or "", meta.spec(job).get("completions"))
    kept_succeeded = [u for u in old_succeeded if u in tracked]
    kept_failed = [u for u in old_failed if u in tracked]
    succeeded = status.get("succeeded", 0) + len(old_succeeded) - len(kept_succeeded)
    failed = status.get("failed", 0) + len(old_failed) - len(kept_failed)
    releasable: list[Object] = []
    holding = 0
    for uid, pod in tracked.items():
        if podlib.phase(pod) == "Succeeded" and uid not in kept_failed:
            releasable.append(pod)
            if indexed and has_index(job, pod):
                completed.add(int(meta.annotations(pod)[indexes.INDEX]))
            elif not indexed and uid not in kept_succeeded:
                kept_succeeded.append(uid)
        elif uid in held and not ending:
            holding += 1
        elif ending or has_failed(job, pod):
            releasable.append(pod)
            counts = has_failed(job, pod) or ending == "FailureTarget"
            if counts and has_index(job, pod) and uid not in kept_failed and uid not in ignored:
                kept_failed.append(uid)
    return Counts(
        succeeded=len(completed) if indexed else succeeded,
        failed=failed,
        uncounted_succeeded=tuple(kept_succeeded),
        uncounted_failed=tuple(kept_failed),
        completed=frozenset(completed),
        releasable=tuple(releasable),
        held=holding,
    )


def is_indexed(job: Object) -> bool:
    return meta.spec(job).get("completionMode") == "Indexed"


def release(pod: Object, why: str = "it has been counted") -> Patch:
    left = [f for f in meta.finalizers(pod) if f != FINALIZER]
    return Patch(
        why=why,
        resource="pods",
        namespace=meta.namespace(pod),
        name=meta.name(pod),
        patch={"metadata": {"uid": meta.uid(pod), "finalizers": left or None}},
    )

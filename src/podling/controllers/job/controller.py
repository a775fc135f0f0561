"""The Job controller: observe, decide, act."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Requeue, Together, Write
from podling.controllers.job import indexes, policies, tracking
from podling.controllers.runtime import (
    Controller,
    ObjectKey,
    Watch,
    itself,
    looking,
    of_controller,
    service_account,
)
from podling.controllers.selecting import of_selecting
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Object

RESOURCE = "jobs.batch"
MANAGER = "kubernetes.io/job-controller"
FAILURE_COUNT = "batch.kubernetes.io/job-index-failure-count"
MAX_CREATE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    job: Object
    pods: Sequence[Object]
    claims: Sequence[Action]


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    job = client.get(RESOURCE, key.namespace, key.name)
    if job is None or meta.spec(job).get("managedBy", MANAGER) != MANAGER:
        return None
    owned = [p for resource, p in client.owned(meta.uid(job)) if resource == "pods"]
    orphans = [p for p in client.list("pods", key.namespace) if meta.controller_reference(p) is None]
    claim = podlib.Claim("pods", job, meta.spec(job).get("selector"), [*owned, *orphans])
    return Snapshot(job=job, pods=claim.owned, claims=claim.changes)


def is_finished(job: Object) -> bool:
    return meta.condition_is(job, "Complete") or meta.condition_is(job, "Failed")


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    if is_finished(snapshot.job) or meta.deleting(snapshot.job):
        return [tracking.release(p) for p in snapshot.pods if tracking.is_tracked(p)]
    return [*snapshot.claims, *_Look(snapshot, now).decide()]


@dataclass(frozen=True, slots=True)
class _Ending:
    """How the job ends."""

    type: str
    """Complete or Failed."""
    reason: str
    message: str


class _Look:
    """One decision in the making."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.job = snapshot.job
        self.spec = meta.spec(self.job)
        self.now = now
        self.pods = snapshot.pods
        self.active = [p for p in self.pods if podlib.is_active(p)]
        self.terminating = [p for p in self.pods if podlib.is_terminating(p)]
        self.indexed = tracking.is_indexed(self.job)
        self.suspended = bool(self.spec.get("suspend"))
        self.conditions = list(meta.conditions(self.job))
        fresh_failures = [p for p in self.pods if tracking.is_tracked(p) and podlib.phase(p) == "Failed"]
        self.verdicts = {meta.uid(p): policies.verdict(self.job, p) for p in fresh_failures}
        ignored = [uid for uid, v in self.verdicts.items() if v.action == "Ignore"]
        self.counts = tracking.count(self.job, self.pods, ignored)
        self.failed_indexes = self._failed_indexes()
        self.start: str | None = meta.status(self.job).get("startTime")
        self.actions: list[Action] = []

    def decide(self) -> list[Action]:
        if self.start is None and not self.suspended:
            self.start = meta.timestamp(self.now)
        ending = self._ending()
        if ending is not None and ending.type == "Failed":
            self._target("FailureTarget", ending)
            self._delete(self.active, "the job has failed")
        elif ending is not None:
            self._target("SuccessCriteriaMet", ending)
            self._delete(self.active, "the job is complete")
        elif self.suspended:
            self._take_back(self.active, "the job is suspended")
            self.active = []
        else:
            self._manage()
            self._watch_deadline()
        self._suspend_condition(ending)
        done = ending is not None and not self.active and not self.terminating and not self._uncounted()
        if done and ending is not None:
            self._finish(ending)
        status = write_status(
            RESOURCE, self.job, self._status(completed=done and ending is not None), "its pods say so"
        )
        releases = [tracking.release(p) for p in self.counts.releasable]
        return [*status, *([Together(writes=releases)] if releases else []), *self.actions]

    def _uncounted(self) -> bool:
        """Whether a pod still waits to be counted."""
        return bool(self.counts.uncounted_succeeded or self.counts.uncounted_failed or self.counts.releasable)

    # How it ends

    def _ending(self) -> _Ending | None:
        for type, final in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
            target = meta.find_condition(self.conditions, type)
            if target is not None and target["status"] == "True":
                return _Ending(final, target["reason"], target.get("message", ""))
        return self._failure() or self._success()

    def _failure(self) -> _Ending | None:
        for found in self.verdicts.values():
            if found.action == "FailJob":
                return _Ending("Failed", "PodFailurePolicy", found.message)
        if self._backoff_exceeded():
            return _Ending("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        if self._deadline_left() == 0.0:
            return _Ending("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        limit = self.spec.get("maxFailedIndexes")
        if limit is not None and len(self.failed_indexes) > limit:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return _Ending("Failed", "MaxFailedIndexesExceeded", message)
        done = len(self.counts.completed | self.failed_indexes)
        if self.failed_indexes and done >= self.spec["completions"]:
            return _Ending("Failed", "FailedIndexes", "Job has failed indexes")
        return None

    def _backoff_exceeded(self) -> bool:
        limit: int = self.spec.get("backoffLimit", 6)
        if self.counts.all_failed > limit:
            return True
        if meta.part(self.spec, "template", "spec").get("restartPolicy") != "OnFailure":
            return False
        restarts = sum(
            s.get("restartCount", 0)
            for p in self.active
            for field in ("initContainerStatuses", "containerStatuses")
            for s in meta.items(p, "status", field)
        )
        return restarts > 0 if limit == 0 else restarts >= limit

    def _deadline_left(self) -> float | None:
        deadline = self.spec.get("activeDeadlineSeconds")
        if deadline is None or self.start is None or self.suspended:
            return None
        end = meta.parse_time(self.start) + timedelta(seconds=deadline)
        return max(0.0, (end - self.now).total_seconds())

    def _success(self) -> _Ending | None:
        rule = policies.success_rule(self.job, set(self.counts.completed)) if self.indexed else None
        if rule is not None:
            return _Ending("Complete", "SuccessPolicy", f"Matched rules at index {rule}")
        succeeded, completions = self.counts.all_succeeded, self.spec.get("completions")
        if completions is None:
            complete = succeeded > 0 and not self.active
        else:
            complete = succeeded >= completions
        if not complete:
            return None
        return _Ending("Complete", "CompletionsReached", "Reached expected number of succeeded pods")

    def _failed_indexes(self) -> frozenset[int]:
        """Indexes that failed for good, with `backoffLimitPerIndex`."""
        limit = self.spec.get("backoffLimitPerIndex")
        if limit is None:
            return frozenset()
        failed = indexes.parse(meta.status(self.job).get("failedIndexes") or "")
        for pod in self.pods:
            index = indexes.index_of(pod)
            if index is None or not tracking.is_tracked(pod) or not tracking.has_failed(pod):
                continue
            verdict = self.verdicts.get(meta.uid(pod))
            action = verdict.action if verdict else "Count"
            if action == "FailIndex" or (action == "Count" and _failures_before(pod) >= limit):
                failed.add(index)
        return frozenset(failed)

    def _target(self, type: str, ending: _Ending) -> None:
        self._set_condition(type, "True", ending.reason, ending.message)

    def _set_condition(self, type: str, status: str, reason: str, message: str) -> None:
        old = meta.find_condition(self.conditions, type)
        if old is not None and (old["status"], old.get("reason")) == (status, reason):
            return
        moment = meta.timestamp(self.now)
        condition = {"type": type, "status": status, "reason": reason, "message": message, "lastProbeTime": moment}
        self.conditions = replace_condition(self.conditions, condition, self.now)

    def _finish(self, ending: _Ending) -> None:
        self._set_condition(ending.type, "True", ending.reason, ending.message)
        if ending.type == "Complete":
            event = Announce(regarding=self.job, reason="Completed", message="Job completed")
        else:
            event = Announce(regarding=self.job, reason=ending.reason, message=ending.message, type="Warning")
        self.actions.append(Emit(why=ending.message, event=event))

    # Suspension

    def _suspend_condition(self, ending: _Ending | None) -> None:
        if ending is not None:
            return
        old = meta.find_condition(self.conditions, "Suspended")
        if self.suspended and (old is None or old["status"] != "True"):
            self._set_condition("Suspended", "True", "JobSuspended", "Job suspended")
            event = Announce(regarding=self.job, reason="Suspended", message="Job suspended")
            self.actions.append(Emit(why="spec.suspend", event=event))
        elif not self.suspended and old is not None and old["status"] == "True":
            self._set_condition("Suspended", "False", "JobResumed", "Job resumed")
            self.start = meta.timestamp(self.now)
            event = Announce(regarding=self.job, reason="Resumed", message="Job resumed")
            self.actions.append(Emit(why="spec.suspend is false", event=event))

    # Pods

    def _manage(self) -> None:
        if self.suspended:
            return
        missing = self._wanted_active() - len(self.active)
        if missing < 0:
            self._take_back(self._surplus(-missing), "fewer pods are wanted")
        elif missing > 0:
            self._create(min(missing, MAX_CREATE))

    def _wanted_active(self) -> int:
        parallelism: int = self.spec.get("parallelism", 1)
        completions: int | None = self.spec.get("completions")
        succeeded = self.counts.all_succeeded
        if completions is None:
            wanted = len(self.active) if succeeded else parallelism
        else:
            wanted = min(completions - succeeded - len(self.failed_indexes), parallelism)
        if self._replaces_only_failed():
            wanted -= len(self.terminating)
        return max(0, wanted)

    def _replaces_only_failed(self) -> bool:
        default = "Failed" if self.spec.get("podFailurePolicy") else "TerminatingOrFailed"
        return self.spec.get("podReplacementPolicy", default) == "Failed"

    def _surplus(self, count: int) -> list[Object]:
        return sorted(self.active, key=lambda p: podlib.deletion_rank(p, 0))[:count]

    def _create(self, count: int) -> None:
        failed = [p for p in self.pods if podlib.phase(p) == "Failed"]
        if self.spec.get("backoffLimitPerIndex") is None:
            succeeded = [p for p in self.pods if podlib.phase(p) == "Succeeded"]
            wait = policies.backoff_left(failed, succeeded, self.now)
            if wait > 0:
                self.actions.append(Requeue(why="a pod failed; the next comes then", seconds=wait))
                return
        pods = list(self._indexed_pods(count, failed)) if self.indexed else [self._pod() for _ in range(count)]
        if pods:
            self.actions.append(Together(writes=[self._creation(p) for p in pods], slow_start=True))

    def _creation(self, pod: Object) -> Create:
        failed = Announce(regarding=self.job, reason="FailedCreate", message="Error creating: {error}", type="Warning")
        return Create(
            why=f"{self.counts.all_succeeded} of {self.spec.get('completions') or 'any'} have succeeded",
            resource="pods",
            object=pod,
            done=Announce(regarding=self.job, reason="SuccessfulCreate", message="Created pod: {name}"),
            failed=failed,
        )

    def _pod(self) -> Object:
        pod = podlib.from_template(
            self.spec["template"],
            self.job,
            namespace=meta.namespace(self.job),
            generate_name=podlib.generate_name(meta.name(self.job)),
        )
        finalizers = [*meta.finalizers(pod), tracking.FINALIZER]
        return {**pod, "metadata": {**pod["metadata"], "finalizers": finalizers}}

    def _indexed_pods(self, count: int, failed: Sequence[Object]) -> Iterable[Object]:
        """Pods for the lowest indexes that have neither succeeded nor failed and are not running."""
        busy = {indexes.index_of(p) for p in self.active}
        if self._replaces_only_failed():
            busy |= {indexes.index_of(p) for p in self.terminating}
        for index in range(self.spec["completions"]):
            if count == 0:
                return
            if index in busy or index in self.counts.completed or index in self.failed_indexes:
                continue
            before = [p for p in failed if indexes.index_of(p) == index]
            if self.spec.get("backoffLimitPerIndex") is not None:
                wait = policies.backoff_left(before, [], self.now)
                if wait > 0:
                    self.actions.append(Requeue(why=f"index {index} failed; it is tried again then", seconds=wait))
                    continue
            count -= 1
            yield self._indexed_pod(index, before)

    def _indexed_pod(self, index: int, failed_before: Sequence[Object]) -> Object:
        pod = self._pod()
        name = f"{meta.name(self.job)}-{index}"
        annotations = {**meta.annotations(pod), indexes.INDEX: str(index)}
        if self.spec.get("backoffLimitPerIndex") is not None:
            counted = [p for p in failed_before if policies.verdict(self.job, p).action != "Ignore"]
            failures = max((_failures_before(p) + 1 for p in counted), default=0)
            annotations[FAILURE_COUNT] = str(failures)
        labels = {**meta.labels(pod), indexes.INDEX: str(index)}
        metadata = {**pod["metadata"], "annotations": annotations, "labels": labels, "generateName": f"{name}-"}
        spec = {**pod["spec"], "hostname": name}
        for field in ("initContainers", "containers"):
            if spec.get(field):
                spec[field] = [_with_index(c) for c in meta.items(spec, field)]
        return {**pod, "metadata": metadata, "spec": spec}

    def _take_back(self, pods: Sequence[Object], why: str) -> None:
        """Deletes pods that shall not count as failed: they are no longer tracked when they go."""
        tracked = [tracking.release(p) for p in pods if tracking.is_tracked(p)]
        if tracked:
            self.actions.append(Together(writes=tracked))
        self._delete(pods, why)

    def _delete(self, pods: Iterable[Object], why: str) -> None:
        writes: list[Write] = []
        for pod in pods:
            failed = Announce(
                regarding=self.job, reason="FailedDelete", message="Error deleting: {error}", type="Warning"
            )
            writes.append(
                Delete(
                    why=why,
                    resource="pods",
                    namespace=meta.namespace(pod),
                    name=meta.name(pod),
                    uid=meta.uid(pod),
                    done=Announce(regarding=self.job, reason="SuccessfulDelete", message="Deleted pod: {name}"),
                    failed=failed,
                )
            )
        if writes:
            self.actions.append(Together(writes=writes))

    def _watch_deadline(self) -> None:
        left = self._deadline_left()
        if left:
            self.actions.append(Requeue(why="its active deadline", seconds=left))

    # Status

    def _status(self, *, completed: bool) -> Object:
        counts = self.counts
        uncounted = meta.without_empty(
            {"succeeded": list(counts.uncounted_succeeded), "failed": list(counts.uncounted_failed)}
        )
        status = meta.without_empty(
            {
                "active": len(self.active),
                "succeeded": counts.succeeded,
                "failed": counts.failed,
                "completedIndexes": indexes.render(counts.completed),
                "startTime": None if self.suspended else self.start,
                "conditions": self.conditions,
            }
        )
        if self.spec.get("backoffLimitPerIndex") is not None:
            status["failedIndexes"] = indexes.render(self.failed_indexes)
        if completed and meta.find_condition(self.conditions, "Complete"):
            status["completionTime"] = meta.timestamp(self.now)
        ready = sum(podlib.is_ready(p) for p in self.active)
        return {
            **status,
            "ready": ready,
            "terminating": len(self.terminating),
            "uncountedTerminatedPods": uncounted,
        }


def _failures_before(pod: Object) -> int:
    return int(meta.annotations(pod).get(FAILURE_COUNT, "0"))


def _with_index(container: Object) -> Object:
    """The container with the variable that tells the pod its index."""
    env = meta.items(container, "env")
    if any(e["name"] == "JOB_COMPLETION_INDEX" for e in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{indexes.INDEX}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}


def controller() -> Controller:
    return Controller(
        name="job-controller",
        user=service_account("job-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource=RESOURCE, keys=itself),
            Watch(resource="pods", keys=of_controller("Job")),
            Watch(resource="pods", keys=of_selecting(RESOURCE)),
        ),
        reconcile=looking(observe, decide),
    )

"""The Job controller: observe, decide, act."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Requeue, Together, Write
from podling.controllers.job import indexes, policies, tracking
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, key_of, service_account
from podling.controllers.selecting import workload_watches
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, Object

RESOURCE = "jobs.batch"
MANAGER = "kubernetes.io/job-controller"
FAILURE_COUNT = "batch.kubernetes.io/job-index-failure-count"
IGNORED_COUNT = "batch.kubernetes.io/job-index-ignored-failure-count"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
MAX_CREATE = 500
LONGEST_PREFIX = 58
"""Characters of a generated name that are not generated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    job: Object
    pods: Sequence[Object]
    claims: Sequence[Action]
    endings: Sequence[policies.Ending] = ()
    """Of its pods, also of those that are gone."""
    closing: bool = False
    """Whether its namespace goes away, so that no pod can follow another."""


class Endings:
    """Remembers when the pods of each job ended, which decides when the next may begin."""

    def __init__(self) -> None:
        self._known: dict[ObjectKey, tuple[str, dict[str, policies.Ending]]] = {}

    def of(self, job: Object, pods: Iterable[Object]) -> Sequence[policies.Ending]:
        uid, known = self._known.get(key_of(job), ("", {}))
        if uid != meta.uid(job):
            known = {}
        self._known[key_of(job)] = (meta.uid(job), known)
        for pod in pods:
            ended = podlib.phase(pod) in ("Failed", "Succeeded") and not meta.deleting(pod)
            failed = tracking.has_failed(job, pod)
            if ended or (tracking.is_tracked(pod) and (failed or podlib.phase(pod) == "Succeeded")):
                known.setdefault(meta.uid(pod), policies.Ending(failed, policies.finished_at(pod)))
        return list(known.values())

    def forget(self, key: ObjectKey) -> None:
        self._known.pop(key, None)


def observe(client: Client, endings: Endings, job: Object) -> Snapshot:
    owned = [p for resource, p in client.owned(meta.uid(job)) if resource == "pods"]
    orphans = [p for p in client.list("pods", meta.namespace(job)) if meta.controller_reference(p) is None]
    selector = meta.spec(job).get("selector")
    claim = podlib.Claim("pods", job, selector, [*owned, *orphans], tracking.FINALIZER)
    namespace = client.get("namespaces", "", meta.namespace(job))
    return Snapshot(
        job=job,
        pods=claim.owned,
        claims=claim.changes,
        endings=endings.of(job, claim.owned),
        closing=namespace is not None and meta.deleting(namespace),
    )


def forsaken(client: Client, key: ObjectKey, job: Object | None) -> list[Object]:
    """Pods that still wait to be counted by a job of that name which is there no longer, or by no job at all."""
    return [
        pod
        for pod in client.list("pods", key.namespace)
        if tracking.is_tracked(pod) and _is_forsaken(pod, key.name, job)
    ]


def _is_forsaken(pod: Object, name: str, job: Object | None) -> bool:
    reference = meta.controller_reference(pod)
    if reference is None:
        selector = meta.spec(job).get("selector") if job is not None else None
        return selector is None or not meta.matches_selector(selector, meta.labels(pod))
    is_of_name = (reference["kind"], reference["name"]) == ("Job", name)
    return is_of_name and (job is None or reference["uid"] != meta.uid(job))


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
        failed = [p for p in self.pods if tracking.has_failed(self.job, p)]
        self.verdicts = {meta.uid(p): policies.verdict(self.job, p) for p in failed}
        self.ignored = {uid for uid, verdict in self.verdicts.items() if verdict.action == "Ignore"}
        self.failed_indexes = self._failed_indexes()
        self.last_failed = self._last_failed()
        held = set[str]() if snapshot.closing else {meta.uid(p) for p in self.last_failed.values()}
        self.counts = tracking.count(self.job, self.pods, self.ignored, held)
        self.start: str | None = meta.status(self.job).get("startTime")
        self.shown_active = len(self.active)
        self.endings = snapshot.endings
        self.actions: list[Action] = []

    def decide(self) -> list[Action]:
        if self.start is None and not self.suspended:
            self.start = meta.timestamp(self.now)
        ending = self._ending()
        if ending is not None:
            self._end(ending)
        elif self.suspended:
            self._take_back(self.active, "the job is suspended")
            self.active, self.shown_active = [], 0
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

    def _end(self, ending: _Ending) -> None:
        """What still runs goes; it counts as failed if the job does."""
        target = "FailureTarget" if ending.type == "Failed" else "SuccessCriteriaMet"
        self._set_condition(target, "True", ending.reason, ending.message)
        self.counts = tracking.count(self.job, self.pods, self.ignored, ending=target)
        self._delete(self.active, "the job has failed" if ending.type == "Failed" else "the job is complete")

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
            for p in self.pods
            if podlib.phase(p) in ("Running", "Pending")
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
        failed = indexes.parse(meta.status(self.job).get("failedIndexes") or "", self.spec["completions"])
        for pod in self.pods:
            verdict = self.verdicts.get(meta.uid(pod))
            index = indexes.index_of(pod)
            if verdict is None or index is None or not tracking.is_tracked(pod) or not self._has_index(pod):
                continue
            if verdict.action == "FailIndex" or (verdict.action == "Count" and _count_of(pod, FAILURE_COUNT) >= limit):
                failed.add(index)
        return frozenset(failed)

    def _has_index(self, pod: Object) -> bool:
        return tracking.has_index(self.job, pod)

    def _last_failed(self) -> dict[int, Object]:
        """With `backoffLimitPerIndex`: the last failed pod of each index that is to be tried again. It stays until its
        successor is there, which takes over its count."""
        if self.spec.get("backoffLimitPerIndex") is None:
            return {}
        busy = {indexes.index_of(p) for p in self.active} | self.failed_indexes
        busy |= indexes.parse(meta.status(self.job).get("completedIndexes") or "")
        busy |= {indexes.index_of(p) for p in self.pods if podlib.phase(p) == "Succeeded"}
        found: dict[int, Object] = {}
        for pod in self.pods:
            index = indexes.index_of(pod)
            if meta.uid(pod) not in self.verdicts or index is None or index in busy:
                continue
            if tracking.is_tracked(pod) and self._has_index(pod):
                found[index] = max(found.get(index, pod), pod, key=_failures_so_far)
        return found

    def _set_condition(self, type: str, status: str, reason: str, message: str) -> None:
        old = meta.find_condition(self.conditions, type)
        if old is not None and (old["status"], old.get("reason")) == (status, reason):
            return
        moment = meta.timestamp(self.now)
        condition = {"type": type, "status": status, "reason": reason, "message": message, "lastProbeTime": moment}
        self.conditions = replace_condition(self.conditions, condition, self.now)

    def _finish(self, ending: _Ending) -> None:
        self._set_condition(ending.type, "True", ending.reason, ending.message)
        completions = self.spec.get("completions")
        if ending.type == "Complete" and completions is not None and self.counts.all_succeeded > completions:
            message = "Too many succeeded pods running after completion count reached"
            many = Announce(regarding=self.job, reason="TooManySucceededPods", message=message, type="Warning")
            self.actions.append(Emit(why=message, event=many))
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
        wanted = self._wanted_active()
        completions: int | None = self.spec["completions"] if self.indexed else None
        surplus = policies.removable(self.active, max(0, len(self.active) - wanted), completions)
        if surplus:
            self._take_back(surplus, "fewer pods are wanted")
            return
        coming = wanted - len(self.active)
        if policies.replaces_only_failed(self.job):
            coming -= len(self.terminating)
        if coming > 0:
            self._create(min(coming, MAX_CREATE))

    def _wanted_active(self) -> int:
        parallelism: int = self.spec.get("parallelism", 1)
        completions: int | None = self.spec.get("completions")
        succeeded = self.counts.all_succeeded
        if completions is None:
            return len(self.active) if succeeded else parallelism
        return max(0, min(completions - succeeded, parallelism))

    def _create(self, count: int) -> None:
        per_index = self.spec.get("backoffLimitPerIndex") is not None
        if not per_index and (wait := policies.backoff_left(self.endings, self.now)) > 0:
            self._pause(wait)
            return
        if not self.indexed:
            self._create_all([self._pod() for _ in range(count)])
            return
        pending = self._pending_indexes(count)
        waits = {index: self._wait_of_index(index) for index in pending}
        ready = [index for index in pending if not waits[index]]
        if not ready and waits:
            self._pause(min(waits.values()))
        elif waits and (later := [wait for wait in waits.values() if wait]):
            self.actions.append(Requeue(why="an index failed; it is tried again then", seconds=min(later)))
        self._create_all([self._indexed_pod(index) for index in ready])

    def _pause(self, seconds: float) -> None:
        """While all wait for a failure to be longer ago, Kubernetes tells that none is active."""
        self.shown_active = 0
        self.actions.append(Requeue(why="a pod failed; the next comes then", seconds=seconds))

    def _create_all(self, pods: Sequence[Object]) -> None:
        if pods:
            self.actions.append(Together(writes=[self._creation(p) for p in pods], slow_start=True))

    def _pending_indexes(self, count: int) -> list[int]:
        """The lowest indexes that have neither succeeded nor failed and are not running."""
        busy = {indexes.index_of(p) for p in self.active} | self.counts.completed | self.failed_indexes
        if policies.replaces_only_failed(self.job):
            busy |= {indexes.index_of(p) for p in self.terminating}
        free = (index for index in range(self.spec["completions"]) if index not in busy)
        return list(itertools.islice(free, count))

    def _wait_of_index(self, index: int) -> float:
        last = self.last_failed.get(index)
        if last is None:
            return 0.0
        failures = _count_of(last, FAILURE_COUNT) + _count_of(last, IGNORED_COUNT) + 1
        return policies.delay_left(failures, policies.finished_at(last), self.now)

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

    def _indexed_pod(self, index: int) -> Object:
        pod = self._pod()
        annotations = {**meta.annotations(pod), indexes.INDEX: str(index), **self._failure_counts(index)}
        labels = {**meta.labels(pod), indexes.INDEX: str(index)}
        suffix = f"-{index}-"
        prefix = f"{meta.name(self.job)[: LONGEST_PREFIX - len(suffix)]}{suffix}"
        metadata = {**pod["metadata"], "annotations": annotations, "labels": labels, "generateName": prefix}
        spec = {**pod["spec"], "hostname": f"{meta.name(self.job)}-{index}"}
        for field in ("initContainers", "containers"):
            if spec.get(field):
                spec[field] = [_with_index(c) for c in meta.items(spec, field)]
        return {**pod, "metadata": metadata, "spec": spec}

    def _failure_counts(self, index: int) -> dict[str, str]:
        """With `backoffLimitPerIndex` each pod tells how often its index failed before."""
        if self.spec.get("backoffLimitPerIndex") is None:
            return {}
        last = self.last_failed.get(index)
        if last is None:
            return {FAILURE_COUNT: "0"}
        ignored = meta.uid(last) in self.ignored
        counts = {FAILURE_COUNT: _count_of(last, FAILURE_COUNT) + (not ignored)}
        if (passed_over := _count_of(last, IGNORED_COUNT) + ignored) > 0:
            counts[IGNORED_COUNT] = passed_over
        return {name: str(count) for name, count in counts.items()}

    def _take_back(self, pods: Sequence[Object], why: str) -> None:
        """Deletes pods that shall not count as failed: they are no longer tracked when they go."""
        tracked = [tracking.release(p, "it shall not count") for p in pods if tracking.is_tracked(p)]
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
                "active": self.shown_active,
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


def _count_of(pod: Object, annotation: str) -> int:
    text = meta.annotations(pod).get(annotation, "0")
    return int(text) if text.isdigit() else 0


def _failures_so_far(pod: Object) -> tuple[int, datetime]:
    return (_count_of(pod, FAILURE_COUNT) + _count_of(pod, IGNORED_COUNT), policies.finished_at(pod))


def _with_index(container: Object) -> Object:
    """The container with the variable that tells the pod its index."""
    env = meta.items(container, "env")
    if any(e["name"] == "JOB_COMPLETION_INDEX" for e in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{indexes.INDEX}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}


def _of_orphan(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """A pod that waits to be counted and has no job: the job that its label names may be there no longer."""
    pod = change.entry.object
    if tracking.is_tracked(pod) and meta.controller_reference(pod) is None:
        yield ObjectKey(meta.namespace(pod), meta.labels(pod).get(JOB_NAME_LABEL, ""))


def controller() -> Controller:
    endings = Endings()

    async def reconcile(context: Context, key: ObjectKey) -> None:
        job = context.client.get(RESOURCE, key.namespace, key.name)
        if job is None or is_finished(job):
            endings.forget(key)
        if job is not None and meta.spec(job).get("managedBy", MANAGER) != MANAGER:
            return
        actions = [tracking.release(pod, "it has no job") for pod in forsaken(context.client, key, job)]
        if job is not None:
            actions += decide(observe(context.client, endings, job), context.now())
        await context.act(key, actions)

    return Controller(
        name="job-controller",
        user=service_account("job-controller"),
        resource=RESOURCE,
        watches=(*workload_watches("Job", RESOURCE), Watch(resource="pods", keys=_of_orphan)),
        reconcile=reconcile,
    )

"""CronJob: makes a job whenever its schedule says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from podling.api import meta
from podling.api.client import Client
from podling.controllers import cron
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Requeue
from podling.controllers.runtime import (
    Controller,
    ObjectKey,
    Watch,
    itself,
    key_of,
    looking,
    of_controller,
    service_account,
)
from podling.controllers.statuses import write_status
from podling.store.types import Object

RESOURCE = "cronjobs.batch"
JOBS = "jobs.batch"
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
TOO_MANY = 100
"""So many missed times are worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    cron: Object
    jobs: Sequence[Object]


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    found = client.get(RESOURCE, key.namespace, key.name)
    if found is None:
        return None
    jobs = [j for resource, j in client.owned(meta.uid(found)) if resource == JOBS]
    return Snapshot(cron=found, jobs=jobs)


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    return _Look(snapshot, now).decide()


@dataclass(frozen=True, slots=True)
class Due:
    """The latest time that was due, how many were missed before it, and the next."""

    latest: datetime | None
    missed: int
    following: datetime | None


def due_times(schedule: cron.Schedule, zone: tzinfo, since: datetime, now: datetime) -> Due:
    """What became due after `since` and until now. Long gaps are crossed in strides, the count then is a guess."""
    latest: datetime | None = None
    missed = 0
    following = schedule.next_after(since, zone)
    while following is not None and following <= now:
        latest, missed = following, missed + 1
        following = schedule.next_after(following, zone)
        if missed > TOO_MANY and following is not None and following < now - timedelta(days=1):
            following = schedule.next_after(now - timedelta(days=1), zone)
    return Due(latest, missed, following)


class _Look:
    """One decision in the making."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.cron = snapshot.cron
        self.spec = meta.spec(self.cron)
        self.jobs = snapshot.jobs
        self.now = now
        self.status: Object = dict(meta.status(self.cron))
        self.active = [j for j in self.jobs if _ended(j) is None]
        self.actions: list[Action] = []

    def decide(self) -> list[Action]:
        self._notice_ended()
        self._clean_up()
        if not self.spec.get("suspend") and not meta.deleting(self.cron):
            self._start_due()
        references = [_reference(j) for j in sorted(self.active, key=meta.name)]
        self.status.pop("active", None)
        if references:
            self.status["active"] = references
        return [*self.actions, *write_status(RESOURCE, self.cron, self.status, "its jobs say so")]

    # Ended jobs

    def _notice_ended(self) -> None:
        listed = {r["uid"] for r in meta.items(self.cron, "status", "active")}
        for job in self.jobs:
            how = _ended(job)
            if how is None:
                continue
            if meta.uid(job) in listed:
                message = f"Saw completed job: {meta.name(job)}, condition: {how}"
                self._tell("SawCompletedJob", message, "Normal")
            end = meta.status(job).get("completionTime")
            if how == "Complete" and end and end > self.status.get("lastSuccessfulTime", ""):
                self.status["lastSuccessfulTime"] = end
        present = {meta.uid(j) for j in self.jobs}
        for reference in meta.items(self.cron, "status", "active"):
            if reference["uid"] not in present:
                self._tell("MissingJob", f"Active job went missing: {reference['name']}", "Normal")

    def _tell(self, reason: str, message: str, type: str = "Warning") -> None:
        event = Announce(regarding=self.cron, reason=reason, message=message, type=type)
        self.actions.append(Emit(why=message, event=event))

    def _clean_up(self) -> None:
        for how, field, default in (
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ):
            limit: int = self.spec.get(field, default)
            ended = sorted((j for j in self.jobs if _ended(j) == how), key=_started)
            for job in ended[: max(0, len(ended) - limit)]:
                self._delete(job, f"only the last {limit} jobs of that end are kept")

    def _delete(self, job: Object, why: str) -> None:
        if meta.deleting(job):
            return
        self.actions.append(
            Delete(
                why=why,
                resource=JOBS,
                namespace=meta.namespace(job),
                name=meta.name(job),
                uid=meta.uid(job),
                propagation="Background",
                done=Announce(regarding=self.cron, reason="SuccessfulDelete", message=f"Deleted job {meta.name(job)}"),
            )
        )

    # Starting

    def _zone(self) -> tzinfo | None:
        name = self.spec.get("timeZone")
        if not name:
            return UTC
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            self._tell("UnknownTimeZone", f'invalid timeZone: "{name}": unknown time zone {name}')
            return None

    def _start_due(self) -> None:
        zone = self._zone()
        if zone is None:
            return
        try:
            schedule = cron.parse(self.spec["schedule"])
        except cron.BadSchedule as error:
            self._tell("UnparseableSchedule", f'unparseable schedule: "{self.spec["schedule"]}" : {error}')
            return
        due = due_times(schedule, zone, self._since(), self.now)
        if due.following is not None:
            seconds = (due.following - self.now).total_seconds() + 0.1
            self.actions.append(Requeue(why="the next time of its schedule", seconds=seconds))
        if due.latest is not None:
            self._start(due.latest, due.missed)

    def _since(self) -> datetime:
        """From when times count: the last one that was used, but not longer ago than the deadline allows."""
        last = self.status.get("lastScheduleTime") or meta.metadata(self.cron)["creationTimestamp"]
        since = meta.parse_time(last)
        deadline = self.spec.get("startingDeadlineSeconds")
        return since if deadline is None else max(since, self.now - timedelta(seconds=deadline))

    def _start(self, when: datetime, missed: int) -> None:
        if missed > TOO_MANY:
            message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self._tell("TooManyMissedTimes", message)
        policy = self.spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and self.active:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._tell("JobAlreadyActive", message, "Normal")
            return
        if policy == "Replace":
            for job in self.active:
                self._delete(job, "the next one replaces it")
            self.active = []
        job = self._job(when)
        if not any(meta.name(j) == meta.name(job) for j in self.jobs):
            failed = Announce(
                regarding=self.cron, reason="FailedCreate", message="Error creating job: {error}", type="Warning"
            )
            done = Announce(regarding=self.cron, reason="SuccessfulCreate", message="Created job {name}")
            why = f"its schedule says {meta.timestamp(when)}"
            self.actions.append(Create(why=why, resource=JOBS, object=job, exists_ok=True, done=done, failed=failed))
        self.status["lastScheduleTime"] = meta.timestamp(when)

    def _job(self, when: datetime) -> Object:
        """The job of one scheduled time: its name says which, so that there is never a second."""
        template: Object = self.spec["jobTemplate"]
        moment = when.strftime("%Y-%m-%dT%H:%M:%S%z")
        local = f"{moment[:-2]}:{moment[-2:]}" if self.spec.get("timeZone") else meta.timestamp(when)
        metadata: Object = {
            "name": f"{meta.name(self.cron)}-{int(when.timestamp()) // 60}",
            "namespace": meta.namespace(self.cron),
            "annotations": {**meta.annotations(template), SCHEDULED: local},
            "ownerReferences": [meta.new_controller_reference(self.cron)],
        }
        if meta.labels(template):
            metadata["labels"] = dict(meta.labels(template))
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def _ended(job: Object) -> str | None:
    return next((t for t in ("Complete", "Failed") if meta.condition_is(job, t)), None)


def _started(job: Object) -> tuple[str, str]:
    return (meta.status(job).get("startTime", ""), meta.name(job))


def _reference(job: Object) -> Object:
    namespace, name = key_of(job)
    return {
        "kind": "Job",
        "namespace": namespace,
        "name": name,
        "uid": meta.uid(job),
        "apiVersion": "batch/v1",
        "resourceVersion": meta.metadata(job).get("resourceVersion"),
    }


def controller() -> Controller:
    return Controller(
        name="cronjob-controller",
        user=service_account("cronjob-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=itself), Watch(resource=JOBS, keys=of_controller("CronJob"))),
        reconcile=looking(observe, decide),
    )

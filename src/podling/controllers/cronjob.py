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


def due_times(schedule: cron.Schedule | cron.Every, zone: tzinfo, since: datetime, now: datetime) -> Due:
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
        self.listed: list[Object] = list(meta.items(self.cron, "status", "active"))
        """The jobs that it started and that have not ended, as references."""
        self.actions: list[Action] = []

    def decide(self) -> list[Action]:
        self._clean_up()
        self._notice_jobs()
        if not meta.deleting(self.cron):
            self._start_due()
        self.status.pop("active", None)
        if self.listed:
            self.status["active"] = self.listed
        return [*self.actions, *write_status(RESOURCE, self.cron, self.status, "its jobs say so")]

    def _unlist(self, uid: str) -> None:
        self.listed = [r for r in self.listed if r["uid"] != uid]

    # Jobs that are there, and that are gone

    def _notice_jobs(self) -> None:
        for job in sorted(self.jobs, key=meta.name):
            how = _ended(job)
            is_listed = any(r["uid"] == meta.uid(job) for r in self.listed)
            if how is not None:
                self._notice_ended(job, how, is_listed=is_listed)
            elif not is_listed and SCHEDULED in meta.annotations(job):
                self.listed.append(_reference(job))  # made a moment ago
            elif not is_listed:
                message = f"Saw a job that the controller did not create or forgot: {meta.name(job)}"
                self._tell("UnexpectedJob", message)
        present = {meta.uid(j) for j in self.jobs}
        for reference in self.listed:
            if reference["uid"] not in present:
                self._tell("MissingJob", f"Active job went missing: {reference['name']}", "Normal")
                self._unlist(reference["uid"])

    def _notice_ended(self, job: Object, how: str, *, is_listed: bool) -> None:
        if is_listed:
            self._unlist(meta.uid(job))
            self._tell("SawCompletedJob", f"Saw completed job: {meta.name(job)}, condition: {how}", "Normal")
        end = meta.status(job).get("completionTime")
        if how == "Complete" and end and end > self.status.get("lastSuccessfulTime", ""):
            self.status["lastSuccessfulTime"] = end

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
        self._unlist(meta.uid(job))
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
                failed=Announce(
                    regarding=self.cron, reason="FailedDelete", message="Deleted job: {error}", type="Warning"
                ),
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
        if zone is None or self.spec.get("suspend"):
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
        if policy == "Forbid" and self.listed:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._tell("JobAlreadyActive", message, "Normal")
            return
        if policy == "Replace":
            uids = {r["uid"] for r in self.listed}
            for job in [j for j in self.jobs if meta.uid(j) in uids]:
                self._delete(job, "the next one replaces it")
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
        local = when.isoformat(timespec="seconds").replace("+00:00", "Z")
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


def _started(job: Object) -> tuple[bool, str, str]:
    """Those that never started last."""
    started = meta.status(job).get("startTime", "")
    return (not started, started, meta.name(job))


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

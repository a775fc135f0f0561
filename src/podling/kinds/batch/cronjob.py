"""CronJob: jobs at times that a schedule tells."""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, not_supported, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds import printing
from podling.kinds.batch.job import job_spec
from podling.kinds.core import poddefaults, podwarnings, workload
from podling.kinds.core.workload import fill
from podling.kinds.printing import (
    NONE,
    age,
    age_column,
    boolean,
    containers,
    doc,
    name,
    name_column,
    since,
    template_columns,
)
from podling.kinds.validation import cron, fields
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_MAX_NAME: Final = 52
"""Eleven characters stay for the time that the names of its jobs end in."""

_POLICIES: Final = ("Allow", "Forbid", "Replace")


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    poddefaults.fill(spec, "concurrencyPolicy", "Allow")
    fill(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template: Object = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    poddefaults.pod_template(template.setdefault("spec", {}).setdefault("template", {}))
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.subresource == "status":
        return errors
    errors += _spec(part(write.new, "spec"))
    given = text(part(write.new, "metadata"), "name")
    if write.old is None and len(given) > _MAX_NAME:
        errors.append(invalid_value("metadata.name", given, f"must be no more than {_MAX_NAME} characters"))
    return errors


def _spec(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    schedule = text(spec, "schedule")
    if not schedule:
        errors.append(required("spec.schedule"))
    else:
        errors += _schedule(schedule)
    if spec.get("timeZone") is not None:
        errors += _time_zone(spec["timeZone"])
    errors += fields.non_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    errors += fields.one_of_required("spec.concurrencyPolicy", text(spec, "concurrencyPolicy"), _POLICIES)
    template = part(spec, "jobTemplate", "spec")
    if template.get("manualSelector"):
        errors.append(not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false")))
    errors += job_spec(template, "spec.jobTemplate.spec")
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += fields.non_negative(f"spec.{key}", spec.get(key))
    return errors


def _schedule(schedule: str) -> list[FieldError]:
    if "TZ" in schedule:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid_value("spec.schedule", schedule, detail)]
    wrong = cron.problem(schedule)
    return [invalid_value("spec.schedule", schedule, wrong)] if wrong else []


def _time_zone(zone: str) -> list[FieldError]:
    path = "spec.timeZone"
    if not zone:
        return [invalid_value(path, zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid_value(path, zone, detail)]
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid_value(path, zone, f"unknown time zone {zone}")]
    return []


def warn(write: Write) -> None:
    if write.subresource:
        return
    template = part(write.new, "spec", "jobTemplate", "spec", "template")
    if write.old is None or part(write.old, "spec", "jobTemplate", "spec", "template") != template:
        write.warnings += podwarnings.of_template(template, "spec.jobTemplate.spec.template")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Schedule", description=doc("batch.v1.CronJobSpec.schedule")),
        Column("Timezone", description=doc("batch.v1.CronJobSpec.timeZone")),
        Column("Suspend", "boolean", description=doc("batch.v1.CronJobSpec.suspend")),
        Column("Active", "integer", description=doc("batch.v1.CronJobStatus.active")),
        Column("Last Schedule", description=doc("batch.v1.CronJobStatus.lastScheduleTime")),
        age_column(),
        *template_columns(doc("batch.v1.JobSpec.selector")),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    job = part(spec, "jobTemplate", "spec")
    last = status.get("lastScheduleTime")
    return [
        name(obj),
        text(spec, "schedule"),
        spec.get("timeZone") or NONE,
        boolean(spec.get("suspend")),
        len(entries(status, "active")),
        since(last, now) if last else NONE,
        age(obj, now),
        *containers(part(job, "template")),
        printing.selector(job.get("selector")),
    ]


def resource() -> Resource:
    return Resource(
        group="batch",
        version="v1",
        kind="CronJob",
        plural="cronjobs",
        singular="cronjob",
        namespaced=True,
        schema="io.k8s.api.batch.v1.CronJob",
        short_names=("cj",),
        categories=("all",),
        status=True,
        strategy=Strategy(default=default, prepare=workload.keep_status, validate=validate, warn=warn),
        columns=_columns(),
        row=row,
    )

"""CronJob: jobs at times that a schedule tells."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, not_supported, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds import printing
from podling.kinds.batch.job import job_spec, job_warnings
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
    errors += _spec(part(write.new, "spec"), part(write.old or {}, "spec"))
    given = text(part(write.new, "metadata"), "name")
    if write.old is None and len(given) > _MAX_NAME:
        errors.append(invalid_value("metadata.name", given, f"must be no more than {_MAX_NAME} characters"))
    return errors


def _spec(spec: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    zone: str | None = spec.get("timeZone")
    if text(spec, "schedule"):
        errors += _schedule(spec["schedule"], zone, had_zone="TZ" in text(old, "schedule"))
    else:
        errors.append(required("spec.schedule"))
    errors += fields.non_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if zone is not None and zone != old.get("timeZone"):
        errors += _time_zone(zone)
    errors += fields.one_of_required("spec.concurrencyPolicy", text(spec, "concurrencyPolicy"), _POLICIES)
    errors += _job_template(part(spec, "jobTemplate", "spec"), "spec.jobTemplate.spec")
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += fields.non_negative(f"spec.{key}", spec.get(key))
    return errors


def _job_template(template: Object, path: str) -> list[FieldError]:
    errors = job_spec(template, path)
    if template.get("selector") is not None:
        shown = fields.shown_selector(template["selector"])
        errors.append(invalid_value(f"{path}.selector", shown, "`selector` will be auto-generated"))
    if template.get("manualSelector"):
        errors.append(not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    return errors


def _schedule(schedule: str, zone: str | None, *, had_zone: bool) -> list[FieldError]:
    """A zone inside the schedule stays allowed where there was one."""
    path = "spec.schedule"
    wrong = cron.problem(schedule)
    errors = [invalid_value(path, schedule, wrong)] if wrong else []
    if "TZ" not in schedule:
        return errors
    if not had_zone:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid_value(path, schedule, detail))
    elif zone is not None:
        detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        errors.append(invalid_value(path, schedule, detail))
    return errors


_ZONE_PART: Final = r"[A-Za-z.\-_0-9+]{1,14}"


def _time_zone(zone: str) -> list[FieldError]:
    path = "spec.timeZone"
    if not zone:
        return [invalid_value(path, zone, "timeZone must be nil or non-empty string")]
    unknown = invalid_value(path, zone, f"unknown time zone {zone}")
    if any(step in (".", "..") or step.startswith("-") or not _is_zone_part(step) for step in zone.split("/")):
        return [unknown]
    errors: list[FieldError] = []
    if zone.lower() == "local":
        detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        errors.append(invalid_value(path, zone, detail))
    if zone != "Local" and not cron.known_zone(zone):
        errors.append(unknown)
    return errors


def _is_zone_part(step: str) -> bool:
    return re.fullmatch(_ZONE_PART, step, re.ASCII) is not None


def warn(write: Write) -> None:
    if write.subresource:
        return
    if write.old is None:
        workload.warn_name(write)
    path = "spec.jobTemplate.spec"
    job, before = part(write.new, "spec", "jobTemplate", "spec"), part(write.old or {}, "spec", "jobTemplate", "spec")
    if write.old is None or before != job:
        write.warnings += job_warnings(job, path)
    if write.old is None or part(before, "template") != part(job, "template"):
        write.warnings += podwarnings.of_template(part(job, "template"), f"{path}.template")
    if "TZ" in text(part(write.new, "spec"), "schedule"):
        where = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
        write.warnings.append(
            f"CRON_TZ or TZ used in spec.schedule is not officially supported, see {where} for more details"
        )


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

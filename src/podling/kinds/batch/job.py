"""Job: pods that run until enough of them have succeeded."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, not_supported, required, too_long
from podling.api.meta import condition, condition_is, matches_selector, parse_time
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds import printing
from podling.kinds.batch import failurepolicy, jobstatus
from podling.kinds.batch.internal import STRUCTS
from podling.kinds.core import internal as core
from podling.kinds.core import poddefaults, podspec, workload
from podling.kinds.core.workload import fill
from podling.kinds.printing import age, age_column, containers, doc, duration, name, name_column, template_columns
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import part, text
from podling.store.types import Object

_UID: Final = "batch.kubernetes.io/controller-uid"
_NAME: Final = "batch.kubernetes.io/job-name"
_OLD_UID: Final = "controller-uid"
_OLD_NAME: Final = "job-name"
_MODES: Final = ("NonIndexed", "Indexed")
_REPLACEMENT: Final = ("Failed", "TerminatingOrFailed")
_RESTART: Final = ("OnFailure", "Never")
_COUNTS: Final = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
_INDEX_COUNTS: Final = ("backoffLimitPerIndex", "maxFailedIndexes")
_INDEXED_ONLY: Final = "requires indexed completion mode"
_MAX_PARALLEL_INDEXED: Final = 100_000
_MAX_FAILED_INDEXES: Final = 100_000
_MANY_COMPLETIONS: Final = 100_000
_MAX_OF_MANY: Final = 10_000
"""Above so many completions the indexes that fail, or run at once, must be few."""
_LONGEST_MANAGER: Final = 63


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    per_index = spec.get("backoffLimitPerIndex") is not None
    fill(
        spec,
        parallelism=1,
        backoffLimit=2**31 - 1 if per_index else 6,
        completionMode="NonIndexed",
        suspend=False,
        manualSelector=False,
        podReplacementPolicy="Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed",
    )
    failurepolicy.default(spec)
    template: Object = spec.setdefault("template", {})
    poddefaults.pod_template(template)
    labels = part(template, "metadata").get("labels")
    own: Object = obj.setdefault("metadata", {})
    if labels and not own.get("labels"):
        own["labels"] = dict(labels)
    obj.setdefault("status", {})


def prepare(write: Write) -> None:
    workload.keep_status(write)
    if write.old is None and not write.new["spec"].get("manualSelector"):
        _select_own_pods(write.new)


def _own_labels(job: Object) -> dict[str, str]:
    own = part(job, "metadata")
    uid, named = text(own, "uid"), text(own, "name")
    return {_OLD_UID: uid, _OLD_NAME: named, _UID: uid, _NAME: named}


def _select_own_pods(job: Object) -> None:
    """Labels the template with the job's uid and selects by it; what the user has set of these stays, and is told to
    be wrong. Labels that the job got from its template as a default grow with it."""
    own, spec = job["metadata"], job["spec"]
    template: Object = spec["template"]["metadata"]
    before: Object = part(template, "labels")
    template["labels"] = {**_own_labels(job), **before}
    if before and own.get("labels") == before:
        own["labels"] = dict(template["labels"])
    selector: Object = part(spec, "selector")
    spec["selector"] = {**selector, "matchLabels": {_UID: own["uid"], **part(selector, "matchLabels")}}


def validate(write: Write) -> list[FieldError]:
    if write.subresource == "status" and write.old is not None:
        return meta.object_meta(write) + jobstatus.validate(write.new, write.old)
    spec = part(write.new, "spec")
    whole = _spec(spec, strict=not workload.lenient_selector(write))
    errors = meta.whole(write) + _generated_selector(write) + whole + _hostname(write.new)
    if write.old is None:
        return errors
    return meta.common(write) + errors + meta.changed(write) + whole + _update(spec, write.old)


def _spec(spec: Object, *, strict: bool) -> list[FieldError]:
    errors = job_spec(spec, "spec")
    if spec.get("selector") is None:
        errors.append(required("spec.selector"))
    else:
        errors += fields.label_selector("spec.selector", spec["selector"], check_values=strict)
    return errors + workload.selected_template(spec, "spec")


def _generated_selector(write: Write) -> list[FieldError]:
    """Unless its user chose it, a job's selector and the labels that it asks for are its own."""
    spec = part(write.new, "spec")
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    labels, own = part(spec, "template", "metadata", "labels"), _own_labels(write.new)
    held = part(write.old or {}, "spec", "template", "metadata", "labels")
    if write.old is not None and not {_UID, _NAME} <= held.keys():
        own = {key: own[key] for key in (_OLD_UID, _OLD_NAME)}
    path = "spec.template.metadata.labels"
    errors: list[FieldError] = []
    for key, value in own.items():
        if key not in labels:
            errors.append(required(f"{path}[{key}]", f"must be '{value}'"))
        elif labels[key] != value:
            errors.append(invalid_value(f"{path}[{key}]", fields.go_map(labels), f"must be '{value}'"))
    malformed = fields.label_selector("", spec["selector"])
    if not malformed and not matches_selector(spec["selector"], own):
        shown = fields.shown_selector(spec["selector"])
        errors.append(invalid_value("spec.selector", shown, "`selector` not auto-generated"))
    return errors


def _hostname(job: Object) -> list[FieldError]:
    """The pods of an indexed job are called by its name and their index."""
    spec, named = part(job, "spec"), text(part(job, "metadata"), "name")
    completions = spec.get("completions") or 0
    if spec.get("completionMode") != "Indexed" or completions <= 0:
        return []
    longest = f"{named}-{completions - 1}"
    if not names.dns1123_label(longest):
        return []
    detail = f"will not able to create pod with invalid DNS label: {longest}"
    return [invalid_value("metadata.name", named, detail)]


def job_spec(spec: Object, path: str) -> list[FieldError]:
    """A `JobSpec` without its selector: of a Job, or in a CronJob's template."""
    errors = [e for key in (*_COUNTS, *_INDEX_COUNTS) for e in fields.non_negative(f"{path}.{key}", spec.get(key))]
    if spec.get("backoffLimitPerIndex") is None and spec.get("maxFailedIndexes") is not None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if (manager := spec.get("managedBy")) is not None:
        errors += fields.domain_prefixed_path(f"{path}.managedBy", manager)
        if len(manager) > _LONGEST_MANAGER:
            errors.append(too_long(f"{path}.managedBy", _LONGEST_MANAGER))
    errors += _completion_mode(spec, path)
    errors += failurepolicy.failure_policy(spec, path)
    errors += failurepolicy.success_policy(spec, path)
    if (policy := spec.get("podReplacementPolicy")) is not None:
        errors += _replacement(spec, policy, f"{path}.podReplacementPolicy")
    errors += podspec.template(part(spec, "template"), f"{path}.template")
    return errors + _restart_policy(spec, f"{path}.template.spec.restartPolicy")


def _replacement(spec: Object, policy: str, path: str) -> list[FieldError]:
    if spec.get("podFailurePolicy") is not None:
        return fields.one_of(path, policy, ("Failed",))
    return fields.one_of(path, policy, _REPLACEMENT)


def _completion_mode(spec: Object, path: str) -> list[FieldError]:
    mode = spec.get("completionMode")
    if mode is None:
        return []
    errors = fields.one_of(f"{path}.completionMode", mode, _MODES)
    if mode == "NonIndexed":
        for key in _INDEX_COUNTS:
            if spec.get(key) is not None:
                errors.append(invalid_value(f"{path}.{key}", spec[key], _INDEXED_ONLY))
    if mode == "Indexed":
        if spec.get("completions") is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if (spec.get("parallelism") or 0) > _MAX_PARALLEL_INDEXED:
            detail = f"must be less than or equal to {_MAX_PARALLEL_INDEXED} when completion mode is Indexed"
            errors.append(invalid_value(f"{path}.parallelism", spec["parallelism"], detail))
        errors += _index_limits(spec, path)
    return errors


def _index_limits(spec: Object, path: str) -> list[FieldError]:
    completions, failed = spec.get("completions"), spec.get("maxFailedIndexes")
    at = f"{path}.maxFailedIndexes"
    errors: list[FieldError] = []
    if completions is not None and failed is not None and failed > completions:
        errors.append(invalid_value(at, failed, "must be less than or equal to completions"))
    if failed is not None and failed > _MAX_FAILED_INDEXES:
        errors.append(invalid_value(at, failed, f"must be less than or equal to {_MAX_FAILED_INDEXES}"))
    if (completions or 0) <= _MANY_COMPLETIONS or spec.get("backoffLimitPerIndex") is None:
        return errors
    if failed is None:
        errors.append(required(at, f"must be specified when completions is above {_MANY_COMPLETIONS}"))
    detail = (
        f"must be less than or equal to {_MAX_OF_MANY} when completions are above {_MANY_COMPLETIONS} "
        "and used with backoff limit per index"
    )
    for key in ("parallelism", "maxFailedIndexes"):
        if (value := spec.get(key)) is not None and value > _MAX_OF_MANY:
            errors.append(invalid_value(f"{path}.{key}", value, detail))
    return errors


def _restart_policy(spec: Object, path: str) -> list[FieldError]:
    policy = text(part(spec, "template", "spec"), "restartPolicy")
    if policy in ("", "Always"):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in _RESTART:
        return [not_supported(path, policy, _RESTART)]
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        return [invalid_value(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


_SCHEDULING: Final = ("nodeSelector", "tolerations", "schedulingGates")


def _update(spec: Object, old: Object) -> list[FieldError]:
    before = part(old, "spec")
    errors = _completions(spec, before)
    errors += fields.immutable_selector(spec, before)
    waits = bool(before.get("suspend")) and (not part(old, "status").get("startTime") or condition_is(old, "Suspended"))
    if _template(spec, waits) != _template(before, waits):
        errors.append(_immutable_template(part(spec, "template"), waits))
    for key in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        kind = _POLICIES.get(key)
        new, old_value = (STRUCTS.shown(kind, s.get(key)) if kind else s.get(key) for s in (spec, before))
        errors += fields.immutable(f"spec.{key}", new, old_value)
    return errors


_POLICIES: Final = {"podFailurePolicy": "*PodFailurePolicy", "successPolicy": "*SuccessPolicy"}


def _immutable_template(template: Object, waits: bool) -> FieldError:
    """Of a job that waits only the pods' specification is looked at."""
    if waits:
        shown = core.STRUCTS.shown("PodSpec", template.get("spec"))
        return invalid_value("spec.template.spec", shown, fields.IMMUTABLE)
    return invalid_value("spec.template", core.STRUCTS.shown("PodTemplateSpec", template), fields.IMMUTABLE)


def _template(spec: Object, waits: bool) -> Object:
    """The part of a template that cannot change: while a job waits to start, where it may run can, and on how much."""
    template = part(spec, "template")
    if not waits:
        return template
    pod = {k: v for k, v in part(template, "spec").items() if k not in _SCHEDULING}
    pod["affinity"] = {k: v for k, v in part(pod, "affinity").items() if k != "nodeAffinity"}
    for key in ("containers", "initContainers"):
        pod[key] = [{k: v for k, v in c.items() if k != "resources"} for c in fields.entries(pod, key)]
    return {"spec": pod}


def _completions(spec: Object, before: Object) -> list[FieldError]:
    after = spec.get("completions")
    if spec.get("completionMode") != "Indexed":
        return fields.immutable("spec.completions", after, before.get("completions"))
    if after == before.get("completions") or after is None or after == spec.get("parallelism"):
        return []
    return [invalid_value("spec.completions", after, "can only be modified in tandem with spec.parallelism")]


def warn(write: Write) -> None:
    if write.subresource:
        return
    if write.old is None:
        workload.warn_name(write)
    spec = part(write.new, "spec")
    if write.old is None or part(write.old, "spec") != spec:
        write.warnings += job_warnings(spec, "spec")
    workload.warn_template(write)


def job_warnings(spec: Object, path: str) -> list[str]:
    """Warnings about a `JobSpec` itself; its template has its own."""
    many, at_once = spec.get("completions") or 0, spec.get("parallelism") or 0
    if spec.get("completionMode") != "Indexed" or many <= _MANY_COMPLETIONS or at_once <= _MAX_OF_MANY:
        return []
    says = (
        "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
        "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
    )
    return [f"{path}: {says}"]


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Status", description="Status of the job."),
        Column("Completions", description=doc("batch.v1.JobStatus.succeeded")),
        Column("Duration", description="Time required to complete the job."),
        age_column(),
        *template_columns(doc("batch.v1.JobSpec.selector")),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    return [
        name(obj),
        _status(obj),
        _completed(spec, status.get("succeeded") or 0),
        _duration(status, now),
        age(obj, now),
        *containers(part(spec, "template")),
        printing.selector(spec.get("selector")),
    ]


def _completed(spec: Object, succeeded: int) -> str:
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    parallelism = spec.get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _duration(status: Object, now: datetime) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    ended = parse_time(end) if end else now
    return duration((ended - parse_time(start)).total_seconds())


def _status(obj: Object) -> str:
    def holds(kind: str) -> bool:
        found = condition(obj, kind)
        return found is not None and found.get("status") == "True"

    for kind in ("Complete", "Failed"):
        if holds(kind):
            return kind
    if part(obj, "metadata").get("deletionTimestamp"):
        return "Terminating"
    return next((k for k in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if holds(k)), "Running")


def _status_successful(obj: Object) -> str:
    return str(part(obj, "status").get("succeeded") or 0)


def resource() -> Resource:
    return Resource(
        group="batch",
        version="v1",
        kind="Job",
        plural="jobs",
        singular="job",
        namespaced=True,
        schema="io.k8s.api.batch.v1.Job",
        categories=("all",),
        status=True,
        strategy=Strategy(
            default=default,
            prepare=prepare,
            validate=validate,
            warn=warn,
            default_propagation="Orphan",
        ),
        columns=_columns(),
        row=row,
        selectable={"status.successful": _status_successful},
    )

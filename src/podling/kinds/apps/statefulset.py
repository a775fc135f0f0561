"""StatefulSet: pods with names and storage of their own, started and ended in order."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.api.resources import Column, Resource, ScalePaths, Strategy, Write
from podling.kinds.core import poddefaults, podwarnings, volumes, workload
from podling.kinds.printing import age, age_column, containers, name, name_column, template_columns
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import changed, common, object_meta
from podling.store.types import Object

_UPDATABLE: Final = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    poddefaults.fill(spec, "podManagementPolicy", "OrderedReady")
    workload.fill(spec, updateStrategy={}, persistentVolumeClaimRetentionPolicy={}, replicas=1, revisionHistoryLimit=10)
    strategy: Object = spec["updateStrategy"]
    poddefaults.fill(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        workload.fill(strategy, rollingUpdate={})
        workload.fill(strategy["rollingUpdate"], partition=0)
    for when in ("whenDeleted", "whenScaled"):
        poddefaults.fill(spec["persistentVolumeClaimRetentionPolicy"], when, "Retain")
    poddefaults.pod_template(spec.setdefault("template", {}))
    for claim in entries(spec, "volumeClaimTemplates"):
        _claim(claim)
    _status(obj.setdefault("status", {}))


def _claim(claim: Object) -> None:
    """A claim template is a whole PersistentVolumeClaim, and shown as one."""
    claim.setdefault("kind", "PersistentVolumeClaim")
    claim.setdefault("apiVersion", "v1")
    claim.setdefault("metadata", {})
    poddefaults.claim_spec(claim.setdefault("spec", {}))
    status: Object = claim.setdefault("status", {})
    poddefaults.fill(status, "phase", "Pending")


def _status(status: Object) -> None:
    status.setdefault("replicas", 0)
    status.setdefault("availableReplicas", 0)


def prepare(write: Write) -> None:
    workload.keep_status(write)
    _status(write.new["status"])
    _drop_max_unavailable(write)


def _drop_max_unavailable(write: Write) -> None:
    """`maxUnavailable` is behind a feature gate that is closed: only who has it already keeps it."""
    rolling: Object = part(part(write.new, "spec", "updateStrategy"), "rollingUpdate")
    held = part(write.old or {}, "spec", "updateStrategy", "rollingUpdate").get("maxUnavailable")
    if held is None:
        rolling.pop("maxUnavailable", None)


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, names.label_name)
    if write.old is None:
        return errors + _spec(part(write.new, "spec"), "spec")
    if write.subresource == "status":
        # Here, and only here, the status is looked at before the metadata.
        status = _validate_status(part(write.new, "status"))
        return common(write) + status + changed(write) + workload.collisions_kept(write)
    errors += _spec(part(write.new, "spec"), "spec")
    return errors + _update(part(write.new, "spec"), part(write.old, "spec"))


def _with_claims(spec: Object) -> Object:
    """As its pods will be: each claim template gives them a volume of its name."""
    claims = [part(claim, "metadata").get("name", "") for claim in entries(spec, "volumeClaimTemplates")]
    template: Object = part(spec, "template")
    pod: Object = part(template, "spec")
    kept = [volume for volume in entries(pod, "volumes") if volume.get("name") not in claims]
    added = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims if name]
    return {**spec, "template": {**template, "spec": {**pod, "volumes": [*kept, *added]}}}


def _spec(spec: Object, path: str) -> list[FieldError]:
    errors = _policies(spec, path)
    errors += fields.non_negative(f"{path}.replicas", spec.get("replicas"))
    errors += fields.non_negative(f"{path}.minReadySeconds", spec.get("minReadySeconds"))
    errors += fields.non_negative(f"{path}.ordinals.start", part(spec, "ordinals").get("start"))
    if service := text(spec, "serviceName"):
        errors += fields.check(f"{path}.serviceName", service, names.dns1123_label)
    errors += workload.selector(spec, path, "statefulset")
    errors += workload.template(_with_claims(spec), path, "StatefulSet", "")
    for at, claim in each(f"{path}.volumeClaimTemplates", spec.get("volumeClaimTemplates")):
        errors += volumes.claim_spec(part(claim, "spec"), f"{at}.spec")
    return errors


def _policies(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = text(spec, "podManagementPolicy")
    if not policy:
        errors.append(required(f"{path}.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid_value(f"{path}.podManagementPolicy", policy, detail))
    errors += _strategy(part(spec, "updateStrategy"), f"{path}.updateStrategy")
    retention = part(spec, "persistentVolumeClaimRetentionPolicy")
    for when in ("whenDeleted", "whenScaled"):
        value = text(retention, when)
        if value not in ("Retain", "Delete"):
            at = f"{path}.persistentVolumeClaimRetentionPolicy.{when}"
            errors.append(not_supported(at, value, ("Retain", "Delete")))
    return errors


def _shown(rolling: Object | None) -> Object | None:
    return rolling and {"Partition": rolling.get("partition", 0), "MaxUnavailable": rolling.get("maxUnavailable")}


def _strategy(strategy: Object, path: str) -> list[FieldError]:
    rolling: Object | None = strategy.get("rollingUpdate")
    match text(strategy, "type"):
        case "":
            return [required(path)]
        case "OnDelete":
            if rolling is None:
                return []
            detail = "only allowed for updateStrategy 'RollingUpdate'"
            return [invalid_value(f"{path}.rollingUpdate", _shown(rolling), detail)]
        case "RollingUpdate":
            return _rolling(rolling or {}, f"{path}.rollingUpdate")
        case other:
            shown = {"Type": other, "RollingUpdate": _shown(rolling)}
            return [invalid_value(path, shown, "must be 'RollingUpdate' or 'OnDelete'")]


def _rolling(rolling: Object, path: str) -> list[FieldError]:
    errors = fields.non_negative(f"{path}.partition", rolling.get("partition"))
    unavailable = rolling.get("maxUnavailable")
    if unavailable is not None:
        errors += fields.int_or_percent(f"{path}.maxUnavailable", unavailable)
        if fields.int_or_percent_is_zero(unavailable):
            errors.append(invalid_value(f"{path}.maxUnavailable", unavailable, "cannot be 0"))
        errors += fields.at_most_100_percent(f"{path}.maxUnavailable", unavailable)
    return errors


def _update(after: Object, before: Object) -> list[FieldError]:
    def fixed(spec: Object) -> Object:
        return {k: v for k, v in spec.items() if k not in _UPDATABLE and v not in (None, "", [])}

    if fixed(after) == fixed(before):
        return []
    listed = ", ".join(f"'{k}'" for k in _UPDATABLE[:-1])
    detail = f"updates to statefulset spec for fields other than {listed} and '{_UPDATABLE[-1]}' are forbidden"
    return [forbidden_field("spec", detail)]


def _validate_status(status: Object) -> list[FieldError]:
    counts = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    errors = workload.status_counts(status, (*counts, "observedGeneration", "collisionCount"))
    for key in counts[1:]:
        errors += workload.not_above(status, key, "replicas")
    return errors + workload.not_above(status, "availableReplicas", "readyReplicas")


def warn(write: Write) -> None:
    workload.warn_template(write)
    if write.subresource:
        return
    spec = part(write.new, "spec")
    for at, claim in each("spec.volumeClaimTemplates", spec.get("volumeClaimTemplates")):
        write.warnings += podwarnings.of_claim(part(claim, "spec"), at)
    if (spec.get("revisionHistoryLimit") or 0) < 0:
        says = "a negative value retains all historical revisions; a value >= 0 is recommended"
        write.warnings.append(f"spec.revisionHistoryLimit: {says}")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Ready", description="Number of the pod with ready state"),
        age_column(),
        *template_columns(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name(obj), ready, age(obj, now), *containers(part(spec, "template"))]


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="StatefulSet",
        plural="statefulsets",
        singular="statefulset",
        namespaced=True,
        schema="io.k8s.api.apps.v1.StatefulSet",
        short_names=("sts",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
        strategy=Strategy(default=default, prepare=prepare, validate=validate, warn=warn),
        columns=_columns(),
        row=row,
    )

"""What all workloads share: a selector, a template of pods that it must pick, and how the two are checked."""

from __future__ import annotations

from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, required
from podling.api.meta import matches_selector
from podling.api.resources import Write
from podling.kinds.core import podfeatures, podspec, podwarnings
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.store.types import Object

_MISMATCH: Final = "`selector` does not match template `labels`"


_TEMPLATES: Final = ("spec", "template"), ("spec", "jobTemplate", "spec", "template")
"""Where workloads have their template: themselves, or in the jobs that they make."""


def keep_status(write: Write) -> None:
    """A new object has no status yet, and changes outside `/status` leave it alone."""
    if write.old is None:
        write.new["status"] = {}
    elif write.subresource != "status":
        write.new["status"] = part(write.old, "status")
    for place in _TEMPLATES:
        podfeatures.drop_disabled(part(write.new, *place, "spec"), part(write.old or {}, *place, "spec"))


def selector(spec: Object, path: str, kind: str) -> list[FieldError]:
    value: Object | None = spec.get("selector")
    if value is None:
        return [required(f"{path}.selector")]
    errors = fields.label_selector(f"{path}.selector", value)
    if fields.selector_empty(value):
        errors.append(invalid_value(f"{path}.selector", {}, f"empty selector is invalid for {kind}"))
    return errors


def selected_template(spec: Object, path: str) -> list[FieldError]:
    """The template's labels must be such that the selector picks its pods. No selector picks nothing, an empty one
    everything, and one that is malformed is told elsewhere."""
    picks: Object | None = spec.get("selector")
    if fields.label_selector("", picks):
        return []
    labels = fields.go_map(part(spec, "template", "metadata").get("labels"))
    if picks is not None and (fields.selector_empty(picks) or matches_selector(picks, labels or {})):
        return []
    return [invalid_value(f"{path}.template.metadata.labels", labels or None, _MISMATCH)]


def template(spec: Object, path: str, kind: str, unusable: str = "invalid label selector") -> list[FieldError]:
    """The template of a workload whose pods run for ever. Behind a selector that is none it is not looked at."""
    picks: Object | None = spec.get("selector")
    if fields.label_selector("", picks):
        return [invalid_value(f"{path}.selector", fields.shown_selector(picks or {}), unusable)]
    errors = selected_template(spec, path)
    errors += podspec.template(part(spec, "template"), f"{path}.template")
    return errors + podspec.always_restarting(part(spec, "template", "spec"), f"{path}.template.spec", kind)


def lenient_selector(write: Write) -> bool:
    """Whether values that no label can have stay allowed, because the stored selector has some already."""
    held = part(write.old or {}, "spec", "selector")
    listed = [value for e in fields.entries(held, "matchExpressions") for value in fields.entries(e, "values")]
    values = [*part(held, "matchLabels").values(), *listed]
    return any(names.label_value(value) for value in values)


def warn_name(write: Write) -> None:
    """Pods are called after their workload, and a hostname has no dots."""
    if wrong := names.dns1123_label(text(part(write.new, "metadata"), "name")):
        write.warnings.append(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
            f"a DNS label is recommended: [{' '.join(wrong)}]"
        )


def warn_named_template(write: Write) -> None:
    """As `warn_template`, for the kinds whose name their pods share. Any change of theirs tells the template anew."""
    if write.old is None:
        warn_name(write)
    if not write.subresource and (write.old is None or generation(write.new) != generation(write.old)):
        write.warnings += podwarnings.of_template(part(write.new, "spec", "template"), "spec.template")


def generation(obj: Object) -> int:
    return part(obj, "metadata").get("generation") or 0


def warn_template(write: Write) -> None:
    """Warnings about the template of a new workload, or a template that changes."""
    if write.subresource:
        return
    new = part(write.new, "spec", "template")
    if write.old is None or part(write.old, "spec", "template") != new:
        write.warnings += podwarnings.of_template(new, "spec.template")


def status_counts(status: Object, keys: tuple[str, ...], path: str = "status") -> list[FieldError]:
    return [e for key in keys for e in fields.non_negative(f"{path}.{key}", status.get(key))]


def not_above(status: Object, key: str, limit_key: str, limit: str = "") -> list[FieldError]:
    """One count that cannot exceed another, which is called `limit` in the message."""
    value: int = status.get(key) or 0
    if value <= (status.get(limit_key) or 0):
        return []
    return [invalid_value(f"status.{key}", value, f"cannot be greater than {limit or f'status.{limit_key}'}")]


def collisions_kept(write: Write) -> list[FieldError]:
    """`status.collisionCount` only grows."""
    after, before = (part(obj or {}, "status").get("collisionCount") for obj in (write.new, write.old))
    if before is None or (after or 0) >= before:
        return []
    return [invalid_value("status.collisionCount", after or 0, "cannot be decremented")]


def fill(spec: Object, **defaults: Any) -> None:
    """Defaults of pointer fields: only what is absent is filled."""
    for key, value in defaults.items():
        if spec.get(key) is None:
            spec[key] = value


REPLICA_COUNTS: Final = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")


def keep_replica_status(write: Write) -> None:
    """As `keep_status`, for kinds whose status always shows `replicas`."""
    keep_status(write)
    write.new["status"].setdefault("replicas", 0)


def replica_status(status: Object) -> list[FieldError]:
    errors = status_counts(status, REPLICA_COUNTS)
    for key in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        errors += not_above(status, key, "replicas")
    return errors + not_above(status, "availableReplicas", "readyReplicas", "readyReplicas")


def status_replicas(obj: Object) -> str:
    """The field selector of kinds that count replicas."""
    return str(part(obj, "status").get("replicas", 0))

"""What may change of a pod that exists: by a plain update, by a resize, by adding ephemeral containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.kinds.core import podannotations, podspec, scheduling
from podling.kinds.core.containers import image_untrimmed
from podling.kinds.core.internal import STRUCTS
from podling.kinds.core.qos import qos_class
from podling.kinds.validation.fields import comparable, each, entries, part, text, without
from podling.store.types import Object

_UPDATABLE: Final = ",".join(
    (
        "`spec.containers[*].image`",
        "`spec.initContainers[*].image`",
        "`spec.activeDeadlineSeconds`",
        "`spec.tolerations` (only additions to existing tolerations)",
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )
)


def update(obj: Object, old: Object) -> list[FieldError]:
    """The rules of `ValidatePodUpdate` beside those of every pod."""
    before, after = old["spec"], part(obj, "spec")
    errors = _annotations(obj, old)
    for key in ("containers", "initContainers"):
        wrong, stop = _images(entries(after, key), entries(before, key), f"spec.{key}")
        errors += wrong
        if stop:
            return errors
    wrong = _deadline(after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    if wrong:
        return errors + wrong
    errors += _only_added_tolerations(after, before)
    errors += _only_removed_gates(after, before)
    if before.get("schedulingGates"):
        errors += _only_narrowed(after, before)
    munged = _munged(after, before)
    if comparable(munged) != comparable(before):
        shown = STRUCTS.difference("PodSpec", before, munged)
        detail = f"pod updates may not change fields other than {_UPDATABLE}\n{shown}"
        errors.append(forbidden_field("spec", detail))
    return errors


def _annotations(obj: Object, old: Object) -> list[FieldError]:
    after, before = part(obj, "metadata", "annotations"), part(old, "metadata", "annotations")
    errors = podannotations.changes(after, before, "metadata.annotations")
    return errors + podannotations.rules(after, part(obj, "spec"), "metadata.annotations")


def _images(after: Sequence[Object], before: Sequence[Object], path: str) -> tuple[list[FieldError], bool]:
    """Problems, and whether they are such that nothing else need be looked at."""
    if len(after) != len(before):
        return [forbidden_field(path, "pod updates may not add or remove containers")], True
    errors: list[FieldError] = []
    for at, container in each(path, after):
        errors += image_untrimmed(container, at) if container.get("image") else [required(f"{at}.image")]
    return errors, False


def _deadline(after: int | None, before: int | None) -> list[FieldError]:
    """A deadline may be set, and shortened."""
    path = "spec.activeDeadlineSeconds"
    if after is not None:
        if not 0 <= after <= 2**31 - 1:
            return [invalid_value(path, after, "must be between 0 and 2147483647, inclusive")]
        if before is not None and before < after:
            return [invalid_value(path, after, "must be less than or equal to previous value")]
    elif before is not None:
        return [invalid_value(path, None, "must not update from a positive integer to nil value")]
    return []


def _only_added_tolerations(after: Object, before: Object) -> list[FieldError]:
    """Existing tolerations stay; only their `tolerationSeconds` may change."""
    kept = [without(t, "tolerationSeconds") for t in entries(after, "tolerations")]
    for toleration in entries(before, "tolerations"):
        if without(toleration, "tolerationSeconds") not in kept:
            detail = "existing toleration can not be modified except its tolerationSeconds"
            return [forbidden_field("spec.tolerations", detail)]
    return scheduling.tolerations(after.get("tolerations"), "spec.tolerations")


def _only_removed_gates(after: Object, before: Object) -> list[FieldError]:
    held = {text(gate, "name") for gate in entries(before, "schedulingGates")}
    return [
        forbidden_field(f"{at}.name", f"only deletion is allowed, but found new scheduling gate '{text(gate, 'name')}'")
        for at, gate in each("spec.schedulingGates", after.get("schedulingGates"))
        if text(gate, "name") not in held
    ]


def _only_narrowed(after: Object, before: Object) -> list[FieldError]:
    """A pod that is not yet offered to the scheduler may be held to fewer nodes, never to more."""
    errors: list[FieldError] = []
    selector: Object = part(after, "nodeSelector")
    if any(selector.get(key) != value for key, value in part(before, "nodeSelector").items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid_value("spec.nodeSelector", after.get("nodeSelector"), detail))
    required_ = "requiredDuringSchedulingIgnoredDuringExecution"
    old: list[Object] = entries(part(before, "affinity", "nodeAffinity", required_), "nodeSelectorTerms")
    new: list[Object] = entries(part(after, "affinity", "nodeAffinity", required_), "nodeSelectorTerms")
    path = f"spec.affinity.nodeAffinity.{required_}.nodeSelectorTerms"
    if old and len(old) != len(new):
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [*errors, invalid_value(path, STRUCTS.shown("[]NodeSelectorTerm", new) or None, detail)]
    for index, term in enumerate(old):
        if not _only_added(new[index], term):
            detail = "only additions are allowed (no mutations or deletions)"
            errors.append(invalid_value(f"{path}[{index}]", STRUCTS.shown("NodeSelectorTerm", new[index]), detail))
    return errors


def _only_added(new: Object, old: Object) -> bool:
    kinds = ("matchExpressions", "matchFields")
    if not any(entries(old, key) for key in kinds):
        return not any(entries(new, key) for key in kinds)
    return all(entries(new, key)[: len(entries(old, key))] == entries(old, key) for key in kinds)


def _munged(after: Object, before: Object) -> Object:
    """The new spec with everything taken back that may change."""
    spec = dict(after)
    for key in ("containers", "initContainers"):
        pairs = zip(entries(spec, key), entries(before, key), strict=True)
        spec[key] = [{**new, "image": text(old, "image")} for new, old in pairs] or None
    keys = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        keys.append("terminationGracePeriodSeconds")
    if before.get("schedulingGates"):
        keys.append("nodeSelector")
        spec["affinity"] = _old_node_affinity(after.get("affinity"), before.get("affinity"))
    return {**spec, **{key: before.get(key) for key in keys}}


def _old_node_affinity(after: Object | None, before: Object | None) -> Object | None:
    old = (before or {}).get("nodeAffinity")
    others = {**without(after or {}, "nodeAffinity"), **({} if old is None else {"nodeAffinity": old})}
    return others or before


# Ephemeral containers


def ephemeral_containers(obj: Object, old: Object) -> list[FieldError]:
    if podannotations.MIRROR in part(old, "metadata", "annotations"):
        return [forbidden_field("", "static pods do not support ephemeral containers")]
    errors = podspec.pod(obj, old["spec"]) + _annotations(obj, old)
    by_name = {text(c, "name"): c for c in entries(part(obj, "spec"), "ephemeralContainers")}
    path = "spec.ephemeralContainers"
    for container in entries(part(old, "spec"), "ephemeralContainers"):
        held = text(container, "name")
        if held not in by_name:
            errors.append(forbidden_field(path, f'existing ephemeral containers "{held}" may not be removed\n'))
        elif comparable(by_name[held]) != comparable(container):
            shown = STRUCTS.difference("EphemeralContainer", container, by_name[held])
            errors.append(forbidden_field(path, f'existing ephemeral containers "{held}" may not be changed\n{shown}'))
    return errors


# Resizes

_RESIZABLE: Final = ("cpu", "memory")
_ONLY_RESIZABLE: Final = "only cpu and memory resources are mutable"


def resizing(obj: Object, old: Object) -> list[FieldError]:
    """The rules of `ValidatePodResize`."""
    if podannotations.MIRROR in part(old, "metadata", "annotations"):
        return [forbidden_field("", "static pods cannot be resized")]
    before, after = old["spec"], part(obj, "spec")
    if text(part(before, "os"), "name") == "windows":
        return [forbidden_field("", "windows pods cannot be resized")]
    errors = podspec.pod(obj, before)
    held = text(part(old, "status"), "qosClass") or qos_class(old)
    if held != qos_class(obj):
        errors.append(invalid_value("spec", held, "Pod QOS Class may not change as a result of resizing"))
    if not _resizes_are_seen(old):
        errors.append(forbidden_field("spec", "Pod running on node without support for resize"))
    errors += _resized_pod(after.get("resources"), before.get("resources"))
    if wrong := _reordered(after, before):
        return errors + wrong
    for key in ("initContainers", "containers"):
        pairs = zip(entries(after, key), entries(before, key), strict=True)
        for index, (new, was) in enumerate(pairs):
            errors += _removed(part(new, "resources"), part(was, "resources"), f"spec.{key}[{index}].resources", "")
    for new, was in zip(entries(after, "containers"), entries(before, "containers"), strict=True):
        if not _only_resized(new, was):
            errors.append(forbidden_field("spec", _ONLY_RESIZABLE))
    pairs = zip(entries(after, "initContainers"), entries(before, "initContainers"), strict=True)
    for index, (new, was) in enumerate(pairs):
        errors += _resized_init(new, was, f"spec.initContainers[{index}]")
    if errors:
        return errors
    kept = ("containers", "initContainers", "resources")
    if comparable(without(after, *kept)) != comparable(without(before, *kept)):
        return [forbidden_field("spec", _ONLY_RESIZABLE)]
    return []


def _resizes_are_seen(pod: Object) -> bool:
    """Whether the node reports what its containers have got, which a node that can resize does."""
    for status in entries(part(pod, "status"), "containerStatuses"):
        if part(status, "state").get("running") is not None:
            return status.get("resources") is not None
    return True


def _resized_pod(after: Object | None, before: Object | None) -> list[FieldError]:
    if not any(part(resources or {}, kind) for resources in (after, before) for kind in ("requests", "limits")):
        return []
    if before is not None and after is None:
        return [forbidden_field("spec.resources", "pod-level resources cannot be removed")]
    errors = [] if before is None else _removed(after or {}, before, "spec.resources", "pod-level ")
    if _fixed(after or {}) != _fixed(before or {}):
        errors.append(forbidden_field("spec", f"{_ONLY_RESIZABLE} at pod-level"))
    return errors


def _fixed(resources: Object) -> Object:
    """The part of `resources` that no resize changes."""
    amounts = {kind: without(part(resources, kind), *_RESIZABLE) for kind in ("requests", "limits")}
    return comparable({**resources, **amounts})


def _reordered(after: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("containers", "initContainers"):
        new, old = entries(after, key), entries(before, key)
        if len(new) != len(old):
            errors.append(forbidden_field(f"spec.{key}", f"{key} may not be added or removed on resize"))
            continue
        errors += [
            forbidden_field(f"spec.{key}[{index}].name", f"{key} may not be renamed or reordered on resize")
            for index, was in enumerate(old)
            if text(new[index], "name") != text(was, "name")
        ]
    return errors


def _removed(after: Object, before: Object, path: str, level: str) -> list[FieldError]:
    return [
        forbidden_field(f"{path}.{kind}", f"{level}resource {kind} cannot be removed")
        for kind in ("requests", "limits")
        if part(before, kind).keys() - part(after, kind).keys()
    ]


def _only_resized(new: Object, old: Object) -> bool:
    """Claims of devices are not compared: Kubernetes leaves them out."""
    kept = [without(_fixed(part(c, "resources")), "claims") for c in (new, old)]
    return kept[0] == kept[1] and comparable(without(new, "resources")) == comparable(without(old, "resources"))


def _resized_init(new: Object, old: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not _only_resized(new, old):
        detail = "only cpu and memory resources for init or sidecar containers are mutable"
        errors.append(forbidden_field(path, detail))
    if new.get("restartPolicy") == "Always" or comparable(new) == comparable(old):
        return errors
    detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
    restarting = [p for p in entries(new, "resizePolicy") if p.get("restartPolicy") == "RestartContainer"]
    return errors + [forbidden_field(path, detail) for _ in restarting]

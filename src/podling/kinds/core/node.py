"""Node: a machine that pods run on."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, cast

from podling.api import gojson
from podling.api.errors import FieldError, duplicate, forbidden_field, internal_field, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import requirements, scheduling
from podling.kinds.core.poddefaults import resource_list
from podling.kinds.printing import NONE, UNKNOWN, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import changed, common, whole
from podling.store.types import Object

_TAINTS: Final = "metadata.taints"
"""Where Kubernetes says that taints are, which are in `spec`."""
_OLD_TAINTS: Final = "scheduler.alpha.kubernetes.io/taints"
_AVOIDED: Final = "scheduler.alpha.kubernetes.io/preferAvoidPods"
_KEPT: Final = 'node updates may not change {} except from "" to valid'
_MAX_FEATURE: Final = 253
_ROLE_PREFIX: Final = "node-role.kubernetes.io/"
_ROLE: Final = "kubernetes.io/role"


def default(obj: Object) -> None:
    """`podCIDR` wins over `podCIDRs` where they differ."""
    spec: Object = obj.setdefault("spec", {})
    first, all_ = text(spec, "podCIDR"), entries(spec, "podCIDRs")
    if first and (not all_ or all_[0] != first):
        spec["podCIDRs"] = [first]
    elif all_:
        spec["podCIDR"] = all_[0]
    status: Object = obj.setdefault("status", {})
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])
    for key in ("capacity", "allocatable"):
        if amounts := status.get(key):
            resource_list(amounts)


def prepare(write: Write) -> None:
    """A node says itself what it has: status is taken on create (the kubelet registers with it)."""
    new, old = write.new, write.old or {}
    if write.old is not None and write.subresource != "status":
        new["status"] = part(old, "status")
    for place, key in (("spec", "configSource"), ("status", "config")):
        if part(old, place).get(key) is None:
            part(new, place).pop(key, None)


def validate(write: Write) -> list[FieldError]:
    errors = common(write)
    if write.subresource != "status":
        errors += whole(write) + _node(write.new)
    return errors if write.old is None else errors + changed(write) + _update(write.new, write.old)


def _node(node: Object) -> list[FieldError]:
    errors = _annotations(node)
    errors += scheduling.taints(part(node, "spec").get("taints"), _TAINTS)
    errors += _resources(node)
    swap: int | None = part(node, "status", "nodeInfo", "swap").get("capacity")
    errors += fields.positive("metadata.nodeSwapStatus.capacity", swap)
    errors += _features(node)
    return errors + _ranges(entries(part(node, "spec"), "podCIDRs"))


def warn(write: Write) -> None:
    spec = part(write.new, "spec")
    if write.subresource:
        return
    if spec.get("configSource") is not None:
        write.warnings.append("spec.configSource: the feature is removed")
    if text(spec, "externalID"):
        write.warnings.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for at, value in each("spec.podCIDRs", spec.get("podCIDRs")):
        write.warnings += names.cidr_warnings(at, value)


def _update(node: Object, old: Object) -> list[FieldError]:
    spec, before = part(node, "spec"), part(old, "spec")
    errors = _annotations(node) + _resources(node) + _features(node) + _addresses(node)
    errors += _ranges_change(entries(spec, "podCIDRs"), entries(before, "podCIDRs"))
    if text(before, "providerID") and text(spec, "providerID") != before["providerID"]:
        errors.append(forbidden_field("spec.providerID", _KEPT.format("providerID")))
    errors += scheduling.taints(spec.get("taints"), _TAINTS)
    if text(spec, "externalID") != text(before, "externalID"):
        errors.append(forbidden_field("spec.externalID", "may not be updated"))
    return errors


def _annotations(node: Object) -> list[FieldError]:
    """What was said in annotations before there were fields."""
    path, annotations = "metadata.annotations", part(node, "metadata", "annotations")
    errors: list[FieldError] = []
    if written := text(annotations, _OLD_TAINTS):
        value, wrong = _parsed(written)
        errors += [invalid_value(path, _OLD_TAINTS, wrong)] if wrong else []
        errors += scheduling.taints(_objects(value), f"{path}.{_OLD_TAINTS}")
    if written := text(annotations, _AVOIDED):
        value, wrong = _parsed(written)
        errors += [invalid_value(f"{path}.AvoidPods", _AVOIDED, wrong)] if wrong else []
        avoided: Any = cast(Object, value).get("preferAvoidPods") if isinstance(value, dict) else None
        for at, entry in each(f"{path}.{_AVOIDED}", _objects(avoided)):
            errors += _avoided(at, part(entry, "podSignature").get("podController"))
    return errors


def _parsed(written: str) -> tuple[Any, str]:
    try:
        return gojson.loads(written.encode()), ""
    except gojson.JsonError as error:
        return None, str(error)


def _objects(value: Any) -> list[Object]:
    return [cast(Object, v) for v in cast(list[Any], value) if isinstance(v, dict)] if isinstance(value, list) else []


def _avoided(path: str, controller: Object | None) -> list[FieldError]:
    if controller is None:
        return [required(f"{path}.PodSignature")]
    if controller.get("controller"):
        return []
    return [invalid_value(f"{path}.PodSignature.PodController.Controller", False, "must point to a controller")]


def _resources(node: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("capacity", "allocatable"):
        for resource_name, amount in part(node, "status", key).items():
            errors += requirements.amount_value(resource_name, amount, f"status.{key}.{resource_name}")
    return errors


def _features(node: Object) -> list[FieldError]:
    """Well-formed names, each once and in order."""
    errors: list[FieldError] = []
    previous: str | None = None
    for at, feature in each("status.declaredFeatures", part(node, "status").get("declaredFeatures")):
        if previous is not None and feature == previous:
            errors.append(duplicate(at, feature))
        elif previous is not None and feature < previous:
            errors.append(invalid_value(at, feature, "list must be sorted alphabetically"))
        if wrong := _feature_name(feature):
            errors.append(invalid_value(at, feature, f'invalid feature name "{feature}": {wrong}'))
        previous = feature
    return errors


def _feature_name(value: str) -> str:
    if len(value) > _MAX_FEATURE:
        return f"must be no more than {_MAX_FEATURE} characters"
    if re.fullmatch("[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*", value):
        return ""
    return (
        "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or "
        "MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
    )


def _ranges(ranges: list[str]) -> list[FieldError]:
    path = "spec.podCIDRs"
    errors = [error for at, value in each(path, ranges) for error in fields.check(at, value, names.cidr)]
    unread = [(index, value) for index, value in enumerate(ranges) if names.parse_cidr(value) is None]
    if unread and len(ranges) > 1:
        index, value = unread[0]
        found = f"invalid CIDR[{index}]: <nil> (invalid CIDR address: {value})"
        errors.append(internal_field(path, f"invalid PodCIDRs. failed to check with dual stack with error:{found}"))
    versions = set[bool]() if unread else {":" in value for value in ranges}
    if len(ranges) > 1 and (len(ranges) > 2 or len(versions) < 2):
        errors.append(invalid_value(path, ranges, "may specify no more than one CIDR for each IP family"))
    return errors


def _addresses(node: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for at, address in each("status.addresses", part(node, "status").get("addresses")):
        key = text(address, "type"), text(address, "address")
        if key in seen:
            errors.append(duplicate(at, {"Type": key[0], "Address": key[1]}))
        seen.add(key)
    return errors


def _ranges_change(new: list[str], old: list[str]) -> list[FieldError]:
    """The controller manager gives a node its ranges, once."""
    changes = 0 if not old else 1 if len(new) != len(old) else sum(a != b for a, b in zip(new, old, strict=True))
    return [forbidden_field("spec.podCIDRs", _KEPT.format("podCIDR"))] * changes


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Status", description="The status of the node"),
        Column("Roles", description="The roles of the node"),
        age_column(),
        Column("Version", description=doc("core.v1.NodeSystemInfo.kubeletVersion")),
        Column("Internal-IP", description=doc("core.v1.NodeStatus.addresses"), priority=1),
        Column("External-IP", description=doc("core.v1.NodeStatus.addresses"), priority=1),
        Column("OS-Image", description=doc("core.v1.NodeSystemInfo.osImage"), priority=1),
        Column("Kernel-Version", description=doc("core.v1.NodeSystemInfo.kernelVersion"), priority=1),
        Column("Container-Runtime", description=doc("core.v1.NodeSystemInfo.containerRuntimeVersion"), priority=1),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    info = part(obj, "status", "nodeInfo")
    return [
        name(obj),
        _status(obj),
        ",".join(_roles(obj)) or NONE,
        age(obj, now),
        text(info, "kubeletVersion"),
        _address(obj, "InternalIP"),
        _address(obj, "ExternalIP"),
        text(info, "osImage") or UNKNOWN,
        _kernel(info),
        text(info, "containerRuntimeVersion") or UNKNOWN,
    ]


def _kernel(info: Object) -> str:
    kernel, architecture = text(info, "kernelVersion") or UNKNOWN, text(info, "architecture")
    return f"{kernel} ({architecture})" if architecture else kernel


def _status(obj: Object) -> str:
    ready = [c for c in entries(part(obj, "status"), "conditions") if c.get("type") == "Ready"]
    words = [("" if c.get("status") == "True" else "Not") + "Ready" for c in ready[-1:]] or ["Unknown"]
    if part(obj, "spec").get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(obj: Object) -> list[str]:
    found: set[str] = set()
    for key, value in part(obj, "metadata", "labels").items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            found.add(key.removeprefix(_ROLE_PREFIX))
        elif key == _ROLE and value:
            found.add(value)
    return sorted(found)


def _address(obj: Object, kind: str) -> str:
    for address in entries(part(obj, "status"), "addresses"):
        if address.get("type") == kind:
            return text(address, "address")
    return NONE


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Node",
        plural="nodes",
        singular="node",
        namespaced=False,
        schema="io.k8s.api.core.v1.Node",
        short_names=("no",),
        status=True,
        subresources=("proxy",),
        strategy=Strategy(
            default=default, prepare=prepare, validate=validate, warn=warn, generation=None, status_on_create=True
        ),
        columns=_columns(),
        row=row,
        selectable={
            "spec.unschedulable": lambda obj: "true" if part(obj, "spec").get("unschedulable") else "false",
        },
    )

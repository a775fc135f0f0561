"""Node: a machine that pods run on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import requirements, scheduling
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_ROLE_PREFIX: Final = "node-role.kubernetes.io/"
_ROLE: Final = "kubernetes.io/role"


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    status: Object = obj.setdefault("status", {})
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def prepare(write: Write) -> None:
    """A node says itself what it has: status is taken on create (the kubelet registers with it)."""
    if write.old is not None and write.subresource != "status":
        write.new["status"] = part(write.old, "status")


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    if spec.get("taints"):
        errors += scheduling.taints(spec["taints"], "spec.taints")
    for key in ("capacity", "allocatable"):
        for resource_name, amount in part(write.new, "status", key).items():
            errors += requirements.amount_value(resource_name, amount, f"status.{key}[{resource_name}]")
    for at, cidr in each("spec.podCIDRs", spec.get("podCIDRs")):
        errors += fields.check(at, cidr, names.cidr)
    if write.old is not None:
        errors += _update(spec, part(write.old, "spec"))
    return errors


def _update(spec: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if before.get("podCIDRs") and entries(spec, "podCIDRs") != before["podCIDRs"]:
        detail = 'node updates may not change podCIDR except from "" to valid'
        errors.append(forbidden_field("spec.podCIDRs", detail))
    if text(before, "providerID") and text(spec, "providerID") != before["providerID"]:
        detail = 'node updates may not change providerID except from "" to valid'
        errors.append(forbidden_field("spec.providerID", detail))
    return errors


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
        *(text(info, key) or "<unknown>" for key in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    ]


def _status(obj: Object) -> str:
    ready = [c for c in entries(part(obj, "status"), "conditions") if c.get("type") == "Ready"]
    words = [("" if c.get("status") == "True" else "Not") + "Ready" for c in ready[:1]] or ["Unknown"]
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
        strategy=Strategy(default=default, prepare=prepare, validate=validate, generation=None, status_on_create=True),
        columns=_columns(),
        row=row,
        selectable={
            "spec.unschedulable": lambda obj: "true" if part(obj, "spec").get("unschedulable") else "false",
        },
    )

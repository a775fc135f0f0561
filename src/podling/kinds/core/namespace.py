"""Namespace: a room for names; it ends only after everything in it has."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.poddefaults import fill
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import changed, common, finalizer_name, known_finalizer, whole
from podling.store.types import Object

_NAME_LABEL: Final = "kubernetes.io/metadata.name"
_FINALIZER: Final = "kubernetes"


def default(obj: Object) -> None:
    """Every namespace is labelled with its name, so that selectors can pick one."""
    meta: Object = obj.setdefault("metadata", {})
    if given := text(meta, "name"):
        meta["labels"] = {**part(meta, "labels"), _NAME_LABEL: given}
    obj.setdefault("spec", {})
    fill(obj.setdefault("status", {}), "phase", "Active")


def prepare(write: Write) -> None:
    """Only `/finalize` changes `spec.finalizers`."""
    spec: Object = write.new.setdefault("spec", {})
    if write.old is None:
        write.new["status"] = {"phase": "Active"}
        held: list[str] = entries(spec, "finalizers")
        spec["finalizers"] = held if _FINALIZER in held else [*held, _FINALIZER]
        default(write.new)
    elif write.subresource == "finalize":
        write.new["status"] = part(write.old, "status")
    else:
        write.new["spec"] = part(write.old, "spec")


def validate(write: Write) -> list[FieldError]:
    match write.subresource:
        case "status":
            return common(write) + changed(write) + _phase(write.new)
        case "finalize":
            listed = each("spec.finalizers", part(write.new, "spec").get("finalizers"))
            return common(write) + changed(write) + [error for at, name in listed for error in _finalizer(name, at)]
        case _:
            listed = entries(part(write.new, "spec"), "finalizers")
            errors = common(write) + whole(write, names.label_name)
            return errors + [e for name in listed for e in _finalizer(name, "spec.finalizers")] + changed(write)


def _finalizer(name: str, path: str) -> list[FieldError]:
    return finalizer_name(path, name) + known_finalizer(path, name)


def _phase(obj: Object) -> list[FieldError]:
    phase = text(part(obj, "status"), "phase")
    deleting = "deletionTimestamp" in obj["metadata"]
    if not deleting and phase != "Active":
        detail = "may only be 'Active' if `deletionTimestamp` is empty"
        return [invalid_value("status.Phase", phase, detail)]
    if deleting and phase != "Terminating":
        detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        return [invalid_value("status.Phase", phase, detail)]
    return []


def held(obj: Object) -> bool:
    return bool(part(obj, "spec").get("finalizers"))


def deleting(obj: Object) -> None:
    obj["status"] = {**part(obj, "status"), "phase": "Terminating"}


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), text(part(obj, "status"), "phase"), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Namespace",
        plural="namespaces",
        singular="namespace",
        namespaced=False,
        schema="io.k8s.api.core.v1.Namespace",
        short_names=("ns",),
        verbs=frozenset({"create", "delete", "get", "list", "patch", "update", "watch"}),
        status=True,
        subresources=("finalize",),
        strategy=Strategy(
            default=default,
            prepare=prepare,
            validate=validate,
            generation=None,
            held=held,
            deleting=deleting,
            resets={"": ("status",), "status": ("spec",), "finalize": ("status",)},
        ),
        columns=(name_column(), Column("Status", description="The status of the namespace"), age_column()),
        row=row,
        selectable={"status.phase": lambda obj: text(part(obj, "status"), "phase")},
    )

"""CSINode: the storage drivers of one node."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.volumes import csi_driver
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, meta, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_LONGEST_NODE_ID: Final = 256


def prepare(write: Write) -> None:
    """No drivers show as `null`, however they were left out: Kubernetes stores them so."""
    spec: Object = write.new.setdefault("spec", {})
    spec["drivers"] = spec.get("drivers") or None


def validate(write: Write) -> list[FieldError]:
    errors = meta.common(write) + meta.whole(write)
    drivers = entries(part(write.new, "spec"), "drivers")
    seen: set[str] = set()
    for at, driver in each("spec.drivers", drivers):
        errors += _driver(driver, at, text(driver, "name") in seen)
        seen.add(text(driver, "name"))
    return errors + _kept(drivers, entries(part(write.old or {}, "spec"), "drivers"))


def _driver(driver: Object, path: str, repeated: bool) -> list[FieldError]:
    """Problems of topology keys are told of the driver, as Kubernetes does."""
    node = text(driver, "nodeID")
    errors = csi_driver(text(driver, "name"), f"{path}.name")
    if not node:
        errors.append(required(f"{path}.nodeID"))
    if len(node) > _LONGEST_NODE_ID:
        errors.append(invalid_value(f"{path}.nodeID", node, f"must be {_LONGEST_NODE_ID} characters or less"))
    errors += fields.non_negative(f"{path}.allocatable.count", part(driver, "allocatable").get("count"))
    if repeated:
        errors.append(duplicate(f"{path}.name", text(driver, "name")))
    keys: list[str] = entries(driver, "topologyKeys")
    for index, key in enumerate(keys):
        if not key:
            errors.append(required(path))
        if key in keys[:index]:
            errors.append(duplicate(path, key))
        errors += fields.check(path, key, names.qualified_name)
    return errors


def _kept(drivers: list[Object], before: list[Object]) -> list[FieldError]:
    """A driver that is there changes only how many volumes it takes."""
    fixed = {text(d, "name"): {k: v for k, v in d.items() if k != "allocatable"} for d in drivers}
    return [
        invalid_value("spec.drivers", _shown(fixed[text(old, "name")]), fields.IMMUTABLE)
        for old in before
        if fixed.get(text(old, "name"), {}) not in ({}, {k: v for k, v in old.items() if k != "allocatable"})
    ]


def _shown(driver: Object) -> Object:
    return {
        "Name": text(driver, "name"),
        "NodeID": text(driver, "nodeID"),
        "TopologyKeys": driver.get("topologyKeys"),
        "Allocatable": None,
    }


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), len(entries(part(obj, "spec"), "drivers")), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="CSINode",
        plural="csinodes",
        singular="csinode",
        namespaced=False,
        schema="io.k8s.api.storage.v1.CSINode",
        strategy=Strategy(
            unconditional_update=False, prepare=prepare, validate=validate, generation=None, returns_deleted=True
        ),
        columns=(
            name_column(),
            Column(
                "Drivers", "integer", description="Drivers indicates the number of CSI drivers registered on the node"
            ),
            age_column(),
        ),
        row=row,
    )

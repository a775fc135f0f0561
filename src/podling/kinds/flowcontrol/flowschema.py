"""FlowSchema: which requests share a priority level. Stored for clients that manage it; nothing is queued by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_EXEMPT: Final = "exempt"
_MAX_PRECEDENCE: Final = 10_000


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    errors += _precedence(spec.get("matchingPrecedence") or 0, name(write.new))
    level = text(part(spec, "priorityLevelConfiguration"), "name")
    at = "spec.priorityLevelConfiguration.name"
    if level:
        return errors + fields.check(at, level, names.dns1123_subdomain)
    return [*errors, required(at, "must reference a priority level")]


def _precedence(value: int, schema: str) -> list[FieldError]:
    path = "spec.matchingPrecedence"
    errors: list[FieldError] = []
    if value == 1 and schema != _EXEMPT:
        errors.append(invalid_value(path, value, f"only the schema named '{_EXEMPT}' may have matchingPrecedence 1"))
    if value <= 0:
        errors.append(invalid_value(path, value, "must be a positive value"))
    if value > _MAX_PRECEDENCE:
        errors.append(invalid_value(path, value, f"must not be greater than {_MAX_PRECEDENCE}"))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("PriorityLevel", description=doc("flowcontrol.v1.PriorityLevelConfigurationReference.name")),
        Column("MatchingPrecedence", description=doc("flowcontrol.v1.FlowSchemaSpec.matchingPrecedence")),
        Column("DistinguisherMethod", description=doc("flowcontrol.v1.FlowSchemaSpec.distinguisherMethod")),
        age_column(),
        Column("MissingPL", description="references a broken or non-existent PriorityLevelConfiguration"),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    dangling = [c for c in entries(part(obj, "status"), "conditions") if c.get("type") == "Dangling"]
    return [
        name(obj),
        text(part(spec, "priorityLevelConfiguration"), "name"),
        spec.get("matchingPrecedence", 0),
        text(part(spec, "distinguisherMethod"), "type") or NONE,
        age(obj, now),
        text(dangling[0], "status") if dangling else "?",
    ]


def resource() -> Resource:
    return Resource(
        group="flowcontrol.apiserver.k8s.io",
        version="v1",
        kind="FlowSchema",
        plural="flowschemas",
        singular="flowschema",
        namespaced=False,
        schema="io.k8s.api.flowcontrol.v1.FlowSchema",
        status=True,
        strategy=Strategy(default=default, prepare=keep_status, validate=validate),
        columns=_columns(),
        row=row,
    )

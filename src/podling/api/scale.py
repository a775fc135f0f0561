"""The scale subresource: `autoscaling/v1` Scale as a view of a workload's replica numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from podling.api import managed_fields, meta
from podling.api.ages import age
from podling.api.errors import conflict, internal, invalid, invalid_value
from podling.api.resources import Column, Resource, ScalePaths
from podling.api.selectors import Requirement, format_requirements
from podling.api.table import CREATED_DESCRIPTION, NAME_DESCRIPTION
from podling.store.types import Object


def _row(scale: Object, now: datetime) -> list[Any]:
    return [
        scale["metadata"]["name"],
        meta.spec(scale).get("replicas", 0),
        scale["status"]["replicas"],
        age(scale, now),
    ]


SCALE = Resource(
    group="autoscaling",
    version="v1",
    kind="Scale",
    plural="scales",
    singular="scale",
    namespaced=True,
    schema="io.k8s.api.autoscaling.v1.Scale",
    columns=(
        Column("Name", "string", "", NAME_DESCRIPTION),
        Column("Desired", "integer", "", "replicas is the desired number of instances for the scaled object."),
        Column("Available", "integer", "", "replicas is the actual number of observed instances of the scaled object."),
        Column("Age", "string", "", CREATED_DESCRIPTION),
    ),
    row=_row,
)
"""The kind of the bodies; it is not a resource of its own."""

_EXPRESSION_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


def scale_of(paths: ScalePaths, obj: Object) -> Object:
    """The Scale of a workload."""
    metadata = obj["metadata"]
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas = at_path(obj, paths.spec_replicas)
    if replicas is None and paths.custom:
        raise internal(f'the spec replicas field ".{paths.spec_replicas}" does not exist')
    status: Object = {"replicas": at_path(obj, paths.status_replicas) or 0}
    if selector := selector_text(at_path(obj, paths.selector)):
        status["selector"] = selector
    return {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {field: metadata[field] for field in shown if field in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def scaled(resource: Resource, paths: ScalePaths, obj: Object, scale: Object) -> Object:
    """The workload with the replicas of `scale`. Raises 409 for that of another workload, and 422."""
    replicas = cast(int, meta.spec(scale).get("replicas") or 0)
    if replicas < 0 and not paths.custom:
        error = invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(SCALE.kind, SCALE.group, obj["metadata"]["name"], [error])
    uid = meta.uid(scale)
    if uid and uid != meta.uid(obj) and not paths.custom:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta.uid(obj)}"
        raise conflict(f"{resource.plural}/scale", resource.group, meta.name(obj), why)
    changed = with_path(obj, paths.spec_replicas.split("."), replicas)
    version = meta.metadata(scale).get("resourceVersion")
    metadata = {**changed["metadata"], "resourceVersion": version or obj["metadata"]["resourceVersion"]}
    return {**changed, "metadata": metadata}


def scale_with_owners(paths: ScalePaths, obj: Object) -> Object:
    """The Scale with the `managedFields` of those who own the workload's replicas: what a Scale is applied to."""
    scale = scale_of(paths, obj)
    path = _field_path(paths)
    owners = [_as_scale_owner(entry) for entry in _managed_fields(obj) if _owns(entry, path)]
    return {**scale, "metadata": {**scale["metadata"], "managedFields": owners}}


def scale_applied(resource: Resource, paths: ScalePaths, obj: Object, scale: Object) -> Object:
    """The workload with the replicas, and their owners, of a Scale that was written (`ScaleHandler.ToParent`).

    Updaters are told apart by version too, and that of a Scale is another: whoever still owns the replicas there gets
    an entry of its own for them. Entries that come from a Scale tell no time.
    """
    changed = scaled(resource, paths, obj, scale)
    owners = {_owner(entry): entry for entry in _managed_fields(scale)}
    path = _field_path(paths)
    entries: list[Object] = []
    for entry in _managed_fields(obj):
        if entry["apiVersion"].rpartition("/")[0] == resource.group:
            keeps = not _owns(entry, path) or owners.pop(_owner(entry), None) is not None
            entries += [entry] if keeps else _disowned(entry, path)
    for entry in owners.values():
        if _owns(entry, _SCALE_FIELDS):
            timeless = {key: value for key, value in entry.items() if key != "time"}
            entries.append({**timeless, "apiVersion": resource.api_version, "fieldsV1": _nested(path)})
    metadata = {key: value for key, value in changed["metadata"].items() if key != "managedFields"}
    owned = {"managedFields": managed_fields.in_order(entries)} if entries else {}
    return {**changed, "metadata": {**metadata, **owned}}


_SCALE_FIELDS = ("f:spec", "f:replicas")


def _managed_fields(obj: Object) -> list[Object]:
    return cast("list[Object]", meta.metadata(obj).get("managedFields") or [])


def _field_path(paths: ScalePaths) -> tuple[str, ...]:
    return tuple(f"f:{step}" for step in paths.spec_replicas.split(".") if step)


def _owner(entry: Object) -> tuple[str, ...]:
    operation: str = entry["operation"]
    version: str = "" if operation == "Apply" else entry["apiVersion"]
    return entry["manager"], operation, version, entry.get("subresource", "")


def _as_scale_owner(entry: Object) -> Object:
    return {**entry, "apiVersion": SCALE.api_version, "fieldsV1": _nested(_SCALE_FIELDS)}


def _nested(path: tuple[str, ...]) -> Object:
    fields: Object = {}
    for step in reversed(path):
        fields = {step: fields}
    return fields


def _owns(entry: Object, path: tuple[str, ...]) -> bool:
    fields: Any = entry.get("fieldsV1")
    for step in path:
        if not isinstance(fields, dict) or step not in fields:
            return False
        fields = cast(Object, fields)[step]
    return True


def _disowned(entry: Object, path: tuple[str, ...]) -> list[Object]:
    fields = _without(cast(Object, entry["fieldsV1"]), path)
    return [{**entry, "fieldsV1": fields}] if fields else []


def _without(fields: Object, path: tuple[str, ...]) -> Object:
    step, *rest = path
    others = {k: v for k, v in fields.items() if k != step}
    inner = _without(cast(Object, fields[step]), tuple(rest)) if rest else {}
    return {**others, step: inner} if inner else others


def at_path(obj: Object, path: str) -> Any:
    """The value at a dotted path; `None` where a step is missing."""
    value: Any = obj
    for step in path.lstrip(".").split("."):
        if not isinstance(value, dict):
            return None
        value = cast(Object, value).get(step)
    return value


def with_path(obj: Object, steps: list[str], value: Any) -> Object:
    """A copy with another value at a path; what lies beside it is shared."""
    step, *rest = (s for s in steps if s)
    if not rest:
        return {**obj, step: value}
    return {**obj, step: with_path(cast(Object, obj.get(step) or {}), rest, value)}


def selector_text(selector: Any) -> str:
    """A selector (a `LabelSelector`, a plain map, or text already) as `status.selector` shows it."""
    if not selector or isinstance(selector, str):
        return selector or ""
    fields = cast(Object, selector)
    if "matchLabels" not in fields and "matchExpressions" not in fields:
        fields = {"matchLabels": fields}
    requirements = [Requirement(k, "=", frozenset({v})) for k, v in (fields.get("matchLabels") or {}).items()]
    for expression in cast("list[Object]", fields.get("matchExpressions") or []):
        operator = _EXPRESSION_OPERATORS[expression["operator"]]
        requirements.append(Requirement(expression["key"], operator, frozenset(expression.get("values") or ())))
    return format_requirements(requirements)

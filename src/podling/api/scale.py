"""The scale subresource: `autoscaling/v1` Scale as a view of a workload's replica numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from podling.api import meta
from podling.api.ages import age
from podling.api.errors import invalid, invalid_value
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
    replicas = at_path(obj, paths.spec_replicas) or 0
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


def scaled(paths: ScalePaths, obj: Object, scale: Object) -> Object:
    """The workload with the replicas of `scale`. Raises 422."""
    replicas = cast(int, meta.spec(scale).get("replicas") or 0)
    if replicas < 0:
        error = invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(SCALE.kind, SCALE.group, obj["metadata"]["name"], [error])
    changed = with_path(obj, paths.spec_replicas.split("."), replicas)
    version = meta.metadata(scale).get("resourceVersion")
    metadata = {**changed["metadata"], "resourceVersion": version or obj["metadata"]["resourceVersion"]}
    return {**changed, "metadata": metadata}


def scale_configuration(resource: Resource, paths: ScalePaths, scale: Object) -> Object:
    """What an applied Scale means as a configuration of the workload, whose `managedFields` own the replicas."""
    spec = meta.spec(scale)
    config: Object = {
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": meta.metadata(scale),
    }
    return with_path(config, paths.spec_replicas.split("."), spec["replicas"]) if "replicas" in spec else config


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

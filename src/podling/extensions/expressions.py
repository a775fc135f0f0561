"""The values that the expressions of policies and match conditions speak of, for one write."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from podling.api.registry import Registry
from podling.api.requests import Attributes, Authorize
from podling.api.resources import Resource, ScalePaths, Write
from podling.api.scale import SCALE, scale_of, scaled
from podling.api.schema import Node
from podling.api.structs import shape
from podling.extensions.matching import Match, namespace_of
from podling.kinds.admissionregistration import expressions
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program

KEPT: Final = 1024
"""So many compiled expressions are kept."""
_CONDITIONS_BUDGET: Final = 2_500_000
"""What all match conditions of a webhook or policy may cost (`RuntimeCELCostBudgetMatchConditions`)."""


@lru_cache(KEPT)
def compiled(source: str, *, params: bool = False) -> Program:
    """An expression without variables of a policy. Raises `podling.cel.syntax.CompileError`."""
    from podling.cel.compiler import compile_expression

    return compile_expression(source, expressions.variable_types(params=params))


class Views:
    """Shows writes to expressions and webhooks: in the version that they ask for, with the rights of who writes."""

    def __init__(self, registry: Registry, authorize: Authorize) -> None:
        self._registry = registry
        self._authorize = authorize

    async def objects(self, write: Write, match: Match) -> tuple[Object | None, Object | None]:
        """`object` and `oldObject`."""
        if write.about is not None:
            return write.new, None
        present = [obj for obj in (write.new, write.old) if obj is not None]
        if match.resource is not write.resource:
            present = await self._registry.between(write.resource, match.resource, present)
        if (paths := _scale_paths(write)) is not None:
            present = [scale_of(paths, obj) for obj in present]
        if write.operation == "DELETE":
            return None, present[0]
        return present[0], present[1] if len(present) > 1 else None

    async def values(self, write: Write, match: Match) -> Object:
        """The values of the variables for a write."""
        from podling.cel import authorization

        obj, old = await self.objects(write, match)
        return {
            "object": obj,
            "oldObject": old,
            "namespaceObject": namespace_of(write),
            "authorizer": authorization.authorizer(self._authorize, write.user),
            "authorizer.requestResource": authorization.resource_check(self._authorize, write.user, _attributes(write)),
            "request": request(write, match),
        }

    async def changed(self, write: Write, match: Match, obj: Object) -> Object:
        """What a mutation made of the `object` that was shown, as an object of the version that is written: without
        what is unknown there, and with defaults, like one that a client sent."""
        if write.about is not None:
            return obj  # nothing of it is stored
        if (paths := _scale_paths(write)) is not None:
            return scaled(write.resource, paths, write.new, obj)
        (shown,) = await self._registry.between(match.resource, write.resource, [obj])
        shaped, _ = shape(shown, self._registry.node(write.resource))
        copy: Object = orjson.loads(orjson.dumps(shaped))
        write.resource.strategy.default(copy)
        return copy

    def node(self, write: Write, match: Match) -> Node:
        """The fields of what is shown."""
        schemas, name = self._registry.schemas, _shown_kind(write, match.resource).schema
        return schemas.node(name) if name in schemas else schemas.any


def _scale_paths(write: Write) -> ScalePaths | None:
    return write.resource.scale if write.subresource == "scale" else None


def _shown_kind(write: Write, resource: Resource) -> Resource:
    return write.about or (SCALE if _scale_paths(write) is not None else resource)


def _attributes(write: Write) -> Attributes:
    resource = write.resource
    return Attributes("", "", resource.group, "*", resource.plural, write.subresource, write.namespace, write.name)


def request(write: Write, match: Match, uid: str = "") -> Object:
    """The `AdmissionRequest` of a write, without the objects."""
    wanted, asked = match.resource, write.resource
    user: Object = {"username": write.user.name, "groups": list(write.user.groups)}
    if write.user.uid:
        user["uid"] = write.user.uid
    if write.user.extra:
        user["extra"] = {key: list(items) for key, items in write.user.extra.items()}
    place = {"namespace": write.namespace} if write.namespace else {}
    subresources = {"subResource": write.subresource, "requestSubResource": write.subresource}
    return {
        **({"uid": uid} if uid else {}),
        "kind": _kind(_shown_kind(write, wanted)),
        "resource": _resource(wanted),
        **(subresources if write.subresource else {}),
        "requestKind": _kind(_shown_kind(write, asked)),
        "requestResource": _resource(asked),
        **({"name": write.name} if write.name else {}),
        **place,
        "operation": write.operation,
        "userInfo": user,
        "dryRun": write.dry_run,
        "options": _options(write),
    }


def _kind(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _resource(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


_OPTIONS: Final = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def _options(write: Write) -> Object | None:
    kind = _OPTIONS.get(write.operation)
    if kind is None:
        return None
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", **orjson.loads(orjson.dumps(write.options, default=str))}


def conditions_hold(conditions: list[Any], variables: Object, *, params: bool = False) -> bool:
    """Whether all match conditions are true. One that is false decides before those that fail do. Kubernetes shows
    them no namespace.

    Raises EvaluationError with all that fail, where none is false.
    """
    from podling.cel.values import Budget, EvaluationError, OutOfBudget

    failures: list[str] = []
    budget, given = Budget(_CONDITIONS_BUDGET), {**variables, "namespaceObject": None}
    for condition in conditions:
        source = condition["expression"]
        try:
            if compiled(source, params=params).run(given, budget) is not True:
                return False
        except OutOfBudget:
            raise
        except EvaluationError as error:
            failures.append(f"expression '{source}' resulted in error: {error}")
    if failures:
        told = list(dict.fromkeys(failures))
        raise EvaluationError(told[0] if len(told) == 1 else f"[{', '.join(told)}]")
    return True

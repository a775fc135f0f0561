"""The values that the expressions of policies and match conditions speak of, for one write."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from podling.api import meta
from podling.api.resources import Resource, Write
from podling.extensions.matching import Match, namespace_of
from podling.kinds.admissionregistration import expressions
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program

KEPT: Final = 1024
"""So many compiled expressions are kept."""


@lru_cache(KEPT)
def compiled(source: str, *, params: bool = False) -> Program:
    """An expression without variables of a policy. Raises `podling.cel.syntax.CompileError`."""
    from podling.cel.compiler import compile_expression

    return compile_expression(source, expressions.variable_types(params=params))


def values(write: Write, match: Match) -> Object:
    """The values of the variables for a write."""
    deleting = write.operation == "DELETE"
    return {
        "object": None if deleting else write.new,
        "oldObject": write.new if deleting else write.old,
        "namespaceObject": namespace_of(write),
        "authorizer": None,
        "request": request(write, match),
    }


def request(write: Write, match: Match, uid: str = "") -> Object:
    """The `AdmissionRequest` of a write, without the objects."""
    wanted, asked = match.resource, write.resource
    user: Object = {"username": write.user.name, "groups": list(write.user.groups)}
    if write.user.uid:
        user["uid"] = write.user.uid
    if write.user.extra:
        user["extra"] = {key: list(items) for key, items in write.user.extra.items()}
    place = {"namespace": meta.namespace(write.new)} if meta.namespace(write.new) else {}
    subresources = {"subResource": write.subresource, "requestSubResource": write.subresource}
    return {
        **({"uid": uid} if uid else {}),
        "kind": _kind(wanted),
        "resource": _resource(wanted),
        **(subresources if write.subresource else {}),
        "requestKind": _kind(asked),
        "requestResource": _resource(asked),
        **({"name": meta.name(write.new)} if meta.name(write.new) else {}),
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
    """Whether all match conditions are true. One that is false decides before one that fails does.

    Raises CelError (or CompileError) for the first that fails where none is false.
    """
    from podling.cel.values import CelError

    failure: CelError | None = None
    for condition in conditions:
        try:
            if compiled(condition["expression"], params=params).run(variables) is not True:
                return False
        except CelError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return True

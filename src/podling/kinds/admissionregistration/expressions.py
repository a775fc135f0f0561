"""The expressions of policies and match conditions: what they can speak of, and whether they compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from podling.api.errors import FieldError, invalid_value

if TYPE_CHECKING:
    from podling.cel.types import Type


def variable_types(
    *, params: bool = False, authorizer: bool = True, variables: Mapping[str, Type] | None = None
) -> dict[str, Type]:
    """What an admission expression can speak of."""
    from podling.cel import types
    from podling.cel.authorization import AUTHORIZER, RESOURCE_CHECK

    names = ("object", "oldObject", "namespaceObject")
    found: dict[str, Type] = dict.fromkeys(names, types.DYN)
    if authorizer:
        found["authorizer"] = types.Type(AUTHORIZER)
        found["authorizer.requestResource"] = types.Type(RESOURCE_CHECK)
    found["request"] = request_type()
    if params:
        found["params"] = types.DYN
    if variables is not None:
        found |= own_variables(variables)
    return found


def own_variables(known: Mapping[str, Type]) -> dict[str, Type]:
    """The variables of a policy, as one."""
    from podling.cel import types

    return {"variables": types.object_of("kubernetes.variables", dict(known))}


def request_type() -> Type:
    from podling.cel import types

    kind = types.object_of("kubernetes.GroupVersionKind", dict.fromkeys(("group", "version", "kind"), types.STRING))
    resource = types.object_of(
        "kubernetes.GroupVersionResource", dict.fromkeys(("group", "version", "resource"), types.STRING)
    )
    extra = types.map_of(types.STRING, types.list_of(types.STRING))
    user = types.object_of(
        "kubernetes.UserInfo",
        {"username": types.STRING, "uid": types.STRING, "groups": types.list_of(types.STRING), "extra": extra},
    )
    texts = dict.fromkeys(("subResource", "requestSubResource", "name", "namespace", "operation"), types.STRING)
    whole = {
        **texts,
        "kind": kind,
        "requestKind": kind,
        "resource": resource,
        "requestResource": resource,
        "userInfo": user,
        "dryRun": types.BOOL,
        "options": types.DYN,
    }
    return types.object_of("kubernetes.AdmissionRequest", whole)


def without_authorizer(types: Mapping[str, Type]) -> dict[str, Type]:
    """What a messageExpression can speak of."""
    return {name: type_ for name, type_ in types.items() if name.partition(".")[0] != "authorizer"}


def check(
    path: str, source: str, types: Mapping[str, Type], *wanted: str, makes: bool = False
) -> tuple[list[FieldError], Type | None]:
    """The problems of an expression that has to give one of the `wanted` types, and the type that it gives."""
    from podling.cel.compiler import compile_expression
    from podling.cel.syntax import CompileError

    try:
        given = compile_expression(source, types, makes=makes).type
    except CompileError as error:
        return [invalid_value(path, source, f"compilation failed: {error}")], None
    if not wanted or str(given) in (*wanted, "dyn"):
        return [], given
    what = wanted[0] if len(wanted) == 1 else f"one of [{' '.join(wanted)}]"
    return [invalid_value(path, source, f"must evaluate to {what} but got {given}")], given

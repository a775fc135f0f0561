"""Which expressions of a ValidatingAdmissionPolicy cannot hold for the kinds that it names: `status.typeChecking`.

A policy is compiled without knowing what `object` is, because it may be for anything. Where its rules name kinds, its
expressions are checked once more with their fields, and what does not fit is told in the status, never refused
(`k8s.io/apiserver/pkg/admission/plugin/policy/validating/typechecking.go`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice, product
from typing import TYPE_CHECKING, Final

from podling.api.resources import Resource
from podling.api.schema import Kind, Node, Schemas
from podling.api.served import Served
from podling.kinds.admissionregistration import expressions
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.types import Type

_MOST_TYPES: Final = 10


def warnings(policy: Object, served: Served, schemas: Schemas) -> list[Object]:
    """The `expressionWarnings` of a policy."""
    spec = part(policy, "spec")
    kinds = _named(spec, served)
    found: list[Object] = []
    for at, validation in enumerate(entries(spec, "validations")):
        for key in ("expression", "messageExpression"):
            source = text(validation, key)
            problems = [words for kind in kinds if (words := _problem(source, spec, kind, schemas))] if source else []
            if problems:
                found.append({"fieldRef": f"spec.validations[{at}].{key}", "warning": "\n".join(problems)})
    return found


def _named(spec: Object, served: Served) -> list[Resource]:
    """The kinds that the rules name, each once. Groups or versions that stand for all name none."""
    found: dict[tuple[str, str, str], Resource] = {}
    for rule in entries(part(spec, "matchConstraints"), "resourceRules"):
        groups, versions = entries(rule, "apiGroups"), entries(rule, "apiVersions")
        if any("*" in value for value in (*groups, *versions)):
            continue
        plurals = [name for name in entries(rule, "resources") if not {"*", "/"} & set(name)]
        places = product(sorted(groups), sorted(versions), sorted(plurals))
        resources = (served.find(*place) for place in places)
        some = list(islice((r for r in resources if r is not None), _MOST_TYPES))
        found |= {(resource.group, resource.version, resource.kind): resource for resource in some}
        if len(some) == _MOST_TYPES:
            break
    return [found[key] for key in sorted(found)]


def _problem(source: str, spec: Object, kind: Resource, schemas: Schemas) -> str:
    from podling.cel.compiler import compile_expression
    from podling.cel.syntax import CompileError

    shown = type_of(schemas.node(kind.schema), kind.kind)
    types = expressions.variable_types(params=spec.get("paramKind") is not None, variables={})
    types |= {"object": shown, "oldObject": shown}
    try:
        known: dict[str, Type] = {}
        for variable in entries(spec, "variables"):
            known[variable["name"]] = compile_expression(variable["expression"], types).type
            types |= expressions.own_variables(known)
        compile_expression(source, types)
    except CompileError as error:
        return f"{kind.group}/{kind.version}, Kind={kind.kind}: {error}\n"
    return ""


def type_of(node: Node, name: str) -> Type:
    """The type in CEL of what has such a shape."""
    from podling.cel import types

    match node.kind:
        case Kind.STRUCT:
            return types.object_of(name, _Fields(node, name))
        case Kind.MAP:
            return types.map_of(types.STRING, type_of(node.element, f"{name}.@prop"))
        case Kind.LIST:
            return types.list_of(type_of(node.element, f"{name}.@idx"))
        case Kind.STRING | Kind.QUANTITY:
            return types.STRING
        case Kind.TIME | Kind.MICRO_TIME:
            return types.TIMESTAMP
        case Kind.BYTES:
            return types.BYTES
        case Kind.BOOLEAN:
            return types.BOOL
        case Kind.INTEGER:
            return types.INT
        case Kind.NUMBER:
            return types.DOUBLE
        case _:
            return types.DYN


class _Fields(Mapping[str, "Type"]):
    """The fields of a struct, each with its type when it is asked for: shapes may hold themselves."""

    def __init__(self, node: Node, name: str) -> None:
        from podling.cel.access import escaped

        self._name = name
        self._fields: dict[str, Callable[[], Node]] = {
            called: lambda field=field: field.node
            for key, field in node.fields.items()
            if (called := escaped(key)) is not None
        }

    def __getitem__(self, key: str) -> Type:
        return type_of(self._fields[key](), f"{self._name}.{key}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

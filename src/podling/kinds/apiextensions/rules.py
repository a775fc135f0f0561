"""x-kubernetes-validations in the schema of a custom resource: are the rules well formed, well typed and cheap enough?

The rules of `pkg/apis/apiextensions/validation` and of `schema/cel/compilation.go`. The compiled rules are also what
custom resources are checked with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from podling.api.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from podling.kinds.validation.fields import each, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program
    from podling.cel.types import Type

VALIDATIONS: Final = "x-kubernetes-validations"
_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_RULE_BUDGET: Final = 10_000_000
_SCHEMA_BUDGET: Final = 100_000_000
_ADVICE: Final = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)
_STEP: Final = re.compile(r"\.(?P<name>[A-Za-z_][\w-]*)|\['(?P<quoted>[^']+)'\]|\[(?P<index>\d+)\]")
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule."""

    declared: Object
    program: Program
    message: Program | None
    transition: bool
    """Whether it compares with the old value, and so has nothing to say about a new one."""


def declared_type(schema: Object, name: str = "self", *, root: bool = False) -> Type:
    """The type that a value of a schema has in CEL."""
    from podling.cel import types

    if schema.get("x-kubernetes-int-or-string"):
        return types.DYN
    size: int | None = schema.get("maxLength")
    match schema.get("type"):
        case "integer":
            return types.INT
        case "number":
            return types.DOUBLE
        case "boolean":
            return types.BOOL
        case "string":
            return _text_type(schema, size)
        case "array":
            element = declared_type(part(schema, "items"), f"{name}.@idx")
            return types.list_of(element, schema.get("maxItems"))
        case "object":
            return _object_type(schema, name, root)
        case _:
            return types.DYN


def _text_type(schema: Object, size: int | None) -> Type:
    from podling.cel import types

    formats = {"byte": types.BYTES, "duration": types.DURATION, "date": types.TIMESTAMP, "date-time": types.TIMESTAMP}
    if (special := formats.get(schema.get("format", ""))) is not None:
        return special
    enum: list[Any] = schema.get("enum") or []
    if enum and size is None:
        size = max(len(str(value)) for value in enum)
    return types.Type("string", size=size, smallest=2 + (schema.get("minLength") or 0))


def _object_type(schema: Object, name: str, root: bool) -> Type:
    from podling.cel import types
    from podling.cel.compiler import escaped

    others: Any = schema.get("additionalProperties")
    if isinstance(others, dict):
        value = declared_type(cast(Object, others), f"{name}.@prop")
        return types.map_of(types.STRING, value, schema.get("maxProperties"))
    properties: Mapping[str, Object] = schema.get("properties") or {}
    fields = {escaped(key): declared_type(value, f"{name}.{key}") for key, value in properties.items()}
    if root or schema.get("x-kubernetes-embedded-resource"):
        metadata = {"name": types.STRING, "generateName": types.STRING}
        own = {"apiVersion": types.STRING, "kind": types.STRING}
        fields = {**fields, **own, "metadata": types.object_of(f"{name}.metadata", metadata)}
    needed: list[str] = schema.get("required") or []
    smallest = 2 + sum(len(key) + 3 + fields[escaped(key)].smallest for key in needed if escaped(key) in fields)
    return types.object_of(name, fields, smallest)


def compile_rule(declared: Object, type_: Type) -> Rule:
    """Raises `podling.cel.syntax.CompileError`."""
    from podling.cel.compiler import compile_expression
    from podling.cel.types import optional_of

    optional = bool(declared.get("optionalOldSelf"))
    variables = {"self": type_, "oldSelf": optional_of(type_) if optional else type_}
    program = compile_expression(declared["rule"], variables)
    message = (
        compile_expression(declared["messageExpression"], variables) if declared.get("messageExpression") else None
    )
    return Rule(declared, program, message, "oldSelf" in program.names and not optional)


class _Budget:
    """What all rules of a schema may cost together."""

    def __init__(self) -> None:
        self.total = 0
        self.dearest: list[tuple[int, str]] = []

    def spend(self, cost: int, path: str) -> None:
        self.total += cost
        self.dearest = sorted([*self.dearest, (cost, path)], key=lambda spent: -spent[0])[:4]


def check(schema: Object, path: str) -> list[FieldError]:
    """The problems of all rules of a schema."""
    budget = _Budget()
    errors = _node(schema, path, budget, 1, root=True)
    if budget.total > _SCHEMA_BUDGET:
        detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        errors += [forbidden_field(at, detail) for cost, at in budget.dearest if cost * 100 > _SCHEMA_BUDGET]
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        errors.append(forbidden_field(path, _too_dear(what, budget.total, _SCHEMA_BUDGET)))
    return errors


def _node(
    schema: Object, path: str, budget: _Budget, times: int, *, lost: str = "", root: bool = False
) -> list[FieldError]:
    errors: list[FieldError] = []
    if schema.get(VALIDATIONS):
        type_ = declared_type(schema, root=root)
        for at, declared in each(f"{path}.{VALIDATIONS}", schema[VALIDATIONS]):
            errors += _rule(declared, at, schema, type_, budget, times, lost)
    inside = lost or (path if schema.get("x-kubernetes-map-type") == "atomic" else "")
    for name, child in part(schema, "properties").items():
        errors += _node(child, f"{path}.properties[{name}]", budget, times, lost=inside)
    for key, limit, kept in (
        ("items", "maxItems", _is_map_list(schema)),
        ("additionalProperties", "maxProperties", True),
    ):
        inner: Any = schema.get(key)
        if isinstance(inner, dict) and _has_rules(cast(Object, inner)):
            rounds = schema.get(limit)
            if rounds is None:
                rounds = _most(schema)
            errors += _node(
                cast(Object, inner), f"{path}.{key}", budget, times * rounds, lost=lost or ("" if kept else path)
            )
    return errors


def _most(schema: Object) -> int:
    from podling.cel.compiler import most_items

    return most_items(declared_type(schema))


def _is_map_list(schema: Object) -> bool:
    return schema.get("x-kubernetes-list-type") == "map"


def _has_rules(schema: Object) -> bool:
    inner = [*part(schema, "properties").values(), schema.get("items"), schema.get("additionalProperties")]
    return bool(schema.get(VALIDATIONS)) or any(_has_rules(cast(Object, s)) for s in inner if isinstance(s, dict))


def _rule(
    declared: Object, path: str, schema: Object, type_: Type, budget: _Budget, times: int, lost: str
) -> list[FieldError]:
    rule = text(declared, "rule")
    if not rule.strip():
        return [required(f"{path}.rule", "rule is not specified")]
    errors = _message(declared, path, rule)
    expression = text(declared, "messageExpression")
    if expression and not expression.strip():
        errors.append(required(f"{path}.messageExpression", "messageExpression must be non-empty if specified"))
    reason = declared.get("reason")
    if reason is not None and reason not in _REASONS:
        errors.append(not_supported(f"{path}.reason", reason, _REASONS))
    if field_path := text(declared, "fieldPath"):
        errors += _field_path(field_path, schema, f"{path}.fieldPath")
    return errors + _compiled(declared, path, type_, budget, times, lost)


def _message(declared: Object, path: str, rule: str) -> list[FieldError]:
    message = text(declared, "message")
    if message and not message.strip():
        return [invalid_value(f"{path}.message", message, "must be non-empty if specified")]
    if "\n" in message.strip():
        return [invalid_value(f"{path}.message", message, "must not contain line breaks")]
    if "\n" in rule.strip() and not message:
        return [required(f"{path}.message", "message must be specified if rule contains line breaks")]
    return []


def field_steps(field_path: str) -> list[str] | None:
    """The names on the way of a rule's `fieldPath`; `None` where it is none."""
    steps: list[str] = []
    at = 0
    while at < len(field_path):
        match = _STEP.match(field_path, at)
        if match is None or match["index"]:
            return None
        steps.append(match["name"] or match["quoted"])
        at = match.end()
    return steps


def _field_path(field_path: str, schema: Object, path: str) -> list[FieldError]:
    place: Object | None = schema
    for step in field_steps(field_path) or [""]:
        fields: Mapping[str, Object] = part(place, "properties")
        others: Any = place.get("additionalProperties")
        place = fields.get(step) or (cast(Object, others) if isinstance(others, dict) else None)
        if place is None:
            return [invalid_value(path, field_path, "must be a valid path")]
    return []


def _compiled(declared: Object, path: str, type_: Type, budget: _Budget, times: int, lost: str) -> list[FieldError]:
    from podling.cel.syntax import CompileError

    shown = {
        "Rule": declared["rule"],
        "Message": text(declared, "message"),
        "MessageExpression": text(declared, "messageExpression"),
        "Reason": declared.get("reason"),
        "FieldPath": text(declared, "fieldPath"),
        "OptionalOldSelf": declared.get("optionalOldSelf"),
    }
    try:
        rule = compile_rule({**declared, "messageExpression": ""}, type_)
    except CompileError as error:
        return [invalid_value(f"{path}.rule", shown, f"compilation failed: {error}")]
    errors: list[FieldError] = []
    if rule.program.type.name not in ("bool", "dyn"):
        errors.append(
            invalid_value(f"{path}.rule", shown, "compilation failed: cel expression must evaluate to a bool")
        )
    errors += _within_budget(rule.program.cost * times, f"{path}.rule", "estimated rule cost", budget)
    errors += _message_expression(declared, shown, path, type_, budget, times)
    if "oldSelf" in rule.program.names and lost:
        detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
        errors.append(invalid_value(f"{path}.rule", declared["rule"], detail))
    if "oldSelf" not in rule.program.names and (optional := declared.get("optionalOldSelf")) is not None:
        detail = "may not be set if oldSelf is not used in rule"
        errors.append(invalid_value(f"{path}.optionalOldSelf", optional, detail))
    return errors


def _message_expression(
    declared: Object, shown: Object, path: str, type_: Type, budget: _Budget, times: int
) -> list[FieldError]:
    from podling.cel.syntax import CompileError

    if not text(declared, "messageExpression"):
        return []
    at = f"{path}.messageExpression"
    try:
        message = compile_rule(declared, type_).message
    except CompileError as error:
        return [invalid_value(at, shown, f"messageExpression compilation failed: {error}")]
    assert message is not None
    if message.type.name not in ("string", "dyn"):
        return [invalid_value(at, shown, "messageExpression must evaluate to a string")]
    return _within_budget(message.cost * times, at, "estimated messageExpression cost", budget)


def _within_budget(cost: int, path: str, what: str, budget: _Budget) -> list[FieldError]:
    budget.spend(cost, path)
    return [forbidden_field(path, _too_dear(what, cost, _RULE_BUDGET))] if cost > _RULE_BUDGET else []


def _too_dear(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown} {_ADVICE}"


# What the values of a schema are in CEL

Convert = Callable[[Any], Any]


def converter(schema: Object) -> Convert | None:
    """What makes CEL values of JSON ones: durations, times and bytes; `None` where nothing is to be done."""
    if schema.get("type") == "string":
        return _text_converter(schema.get("format", ""))
    inner: Any = schema.get("items") or schema.get("additionalProperties")
    element = converter(cast(Object, inner)) if isinstance(inner, dict) else None
    if schema.get("type") == "array":
        return _list_converter(element) if element else None
    fields = {name: made for name, child in part(schema, "properties").items() if (made := converter(child))}
    if not fields and element is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        members = cast(Object, value)
        return {name: (fields.get(name) or element or _same)(member) for name, member in members.items()}

    return convert


def _list_converter(element: Convert) -> Convert:
    return lambda value: [element(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _same(value: Any) -> Any:
    return value


def _text_converter(form: str) -> Convert | None:
    if form not in ("byte", "duration", "date", "date-time"):
        return None
    import base64

    from podling.cel.compiler import compile_expression
    from podling.cel.types import STRING

    if form == "byte":
        return lambda value: base64.b64decode(value) if isinstance(value, str) else value
    parse = compile_expression("duration(text)" if form == "duration" else "timestamp(text)", {"text": STRING}).run
    return lambda value: parse({"text": value}) if isinstance(value, str) else value

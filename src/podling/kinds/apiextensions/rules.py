"""x-kubernetes-validations in the schema of a custom resource: are the rules well formed, well typed and cheap enough?

The rules of `pkg/apis/apiextensions/validation` and of `schema/cel/compilation.go`. The compiled rules are also what
custom resources are checked with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from podling.api.errors import FieldError, forbidden_field, internal_field, invalid_value, not_supported, required
from podling.kinds.apiextensions import fieldpaths
from podling.kinds.validation.fields import each, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program
    from podling.cel.syntax import CompileError
    from podling.cel.types import Type

VALIDATIONS: Final = "x-kubernetes-validations"
_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_RULE_BUDGET: Final = 10_000_000
_SCHEMA_BUDGET: Final = 100_000_000
_ADVICE: Final = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_MAX_REQUEST: Final = 3 * 1024 * 1024
"""Bytes of a request: what bounds collections whose size the schema leaves open."""
_WIDEST: Final = 4
"""Bytes of a character."""
_LONGEST_TIME, _LONGEST_DATE = 32, 12
_TEXT: Final = {"type": "string"}
_OWN_FIELDS: Final = {
    "kind": _TEXT,
    "apiVersion": _TEXT,
    "metadata": {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}},
}
"""What rules see of every object."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule."""

    declared: Object
    program: Program
    message: Program | None
    transition: bool
    """Whether it compares with the old value, and so has nothing to say about a new one."""


def declared_type(schema: Object, name: str = "self", *, root: bool = False) -> Type | None:
    """The type that a value of a schema has in CEL, with its greatest size (`common/schemas.go`); `None`: it has none,
    and rules see nothing of it."""
    from podling.cel import types

    if schema.get(_INT_OR_STRING):
        most = schema.get("maxLength")
        return types.Type("dyn", size=_MAX_REQUEST - 2 if most is None else max(0, most) * _WIDEST)
    root = root or bool(schema.get("x-kubernetes-embedded-resource"))
    match "object" if root else schema.get("type"):
        case "integer":
            return types.INT
        case "number":
            return types.DOUBLE
        case "boolean":
            return types.BOOL
        case "string":
            return _text_type(schema)
        case "array":
            element = declared_type(part(schema, "items"), f"{name}.@idx")
            if element is None:
                return None
            return types.list_of(element, _most(schema, "maxItems", element.smallest + 1))
        case "object":
            return _object_type(schema, name, root)
        case _:
            return None


def _most(schema: Object, key: str, smallest: int) -> int:
    """As many as the schema allows, else as would fit into a request."""
    most: int | None = schema.get(key)
    return (_MAX_REQUEST - 2) // smallest if most is None else max(0, most)


def _text_type(schema: Object) -> Type:
    from podling.cel import types

    most: int | None = schema.get("maxLength")
    match schema.get("format"):
        case "byte":
            return types.Type("bytes", size=_MAX_REQUEST - 2 if most is None else max(0, most), smallest=2)
        case "duration":
            return types.Type(types.DURATION.name, size=_LONGEST_TIME, smallest=3)
        case "date":
            return types.Type(types.TIMESTAMP.name, size=_LONGEST_DATE, smallest=_LONGEST_DATE)
        case "date-time":
            return types.Type(types.TIMESTAMP.name, size=_LONGEST_TIME, smallest=21)
        case _:
            pass
    enum: list[Any] = schema.get("enum") or []
    if most is not None:
        size = max(0, most) * _WIDEST
    elif enum:
        size = max((len(value.encode()) for value in enum if isinstance(value, str)), default=0)
    else:
        size = _MAX_REQUEST - 2
    return types.Type("string", size=size, smallest=2)


def _object_type(schema: Object, name: str, root: bool) -> Type | None:
    from podling.cel import types
    from podling.cel.access import escaped

    others: Any = schema.get("additionalProperties")
    if isinstance(others, dict):
        value = declared_type(cast(Object, others), f"{name}.@prop")
        if value is None:
            return None
        return types.map_of(types.STRING, value, _most(schema, "maxProperties", value.smallest + 6))
    properties: Mapping[str, Object] = schema.get("properties") or {}
    if root and not _tells_own_fields(properties):
        properties = {**properties, **_OWN_FIELDS}
    needed: list[str] = schema.get("required") or []
    fields: dict[str, Type] = {}
    smallest = 2
    for key, inner in properties.items():
        if (type_ := declared_type(inner, f"{name}.{key}")) is None:
            continue
        if (called := escaped(key)) is not None:
            fields[called] = type_
        if key in needed and "default" not in inner:
            smallest += len(key.encode()) + type_.smallest + 4
    return types.object_of(name, fields, smallest)


def _tells_own_fields(properties: Mapping[str, Object]) -> bool:
    metadata = part(properties.get("metadata") or {}, "properties")
    texts = [*(properties.get(key) for key in ("kind", "apiVersion")), *map(metadata.get, ("name", "generateName"))]
    return all((field or {}).get("type") == "string" for field in texts)


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


def check(schema: Object, path: str, wrong: Sequence[FieldError]) -> list[FieldError]:
    """The problems of all rules of a schema. `wrong` is what is wrong with the schema itself: where it is, rules are
    not looked at."""
    budget = _Budget()
    errors = _node(_Place(schema, path, 1, "", root=True), [error.field for error in wrong], budget)
    if budget.total > _SCHEMA_BUDGET:
        detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        errors += [forbidden_field(at, detail) for cost, at in budget.dearest if cost * 100 >= _SCHEMA_BUDGET]
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        errors.append(forbidden_field(path, _too_dear(what, budget.total, _SCHEMA_BUDGET)))
    return errors


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a schema."""

    schema: Object
    path: str
    times: int | None
    """How often there may be such a value; `None`: as often as fits into a request."""
    lost: str
    """The list above it whose items cannot be told apart, so that nothing knows their old values."""
    root: bool = False

    def below(self) -> Iterator[_Place]:
        others: Any = self.schema.get("additionalProperties")
        if isinstance(others, dict):
            most: int | None = self.schema.get("maxProperties")
            yield _Place(cast(Object, others), f"{self.path}.additionalProperties", self._times(most), self.lost)
        times = None if others is not None and self.schema.get("maxProperties") is None else self.times
        for name, child in part(self.schema, "properties").items():
            yield _Place(child, f"{self.path}.properties[{name}]", times, self.lost)
        items: Any = self.schema.get("items")
        if isinstance(items, dict):
            lost = self.lost or ("" if self.schema.get("x-kubernetes-list-type") == "map" else self.path)
            yield _Place(cast(Object, items), f"{self.path}.items", self._times(self.schema.get("maxItems")), lost)

    def _times(self, most: int | None) -> int | None:
        return None if most is None or self.times is None else self.times * max(0, most)


def _node(place: _Place, wrong: Sequence[str], budget: _Budget) -> list[FieldError]:
    errors = [error for below in place.below() for error in _node(below, wrong, budget)]
    rules: list[Object] = place.schema.get(VALIDATIONS) or []
    if not rules or any(at.startswith(place.path) for at in wrong):
        return errors
    type_ = declared_type(place.schema, root=place.root)
    if type_ is None:
        why = "unable to convert structural schema to CEL declarations"
        detail = f"failed to construct type information for {VALIDATIONS} rules: {why}"
        return [*errors, internal_field(f"{place.path}.{VALIDATIONS}", f"internal error: {detail}")]
    for at, declared in each(f"{place.path}.{VALIDATIONS}", rules):
        errors += _compiled(declared, at, type_, budget, place)
    return errors


def forms(schema: Object, path: str) -> list[FieldError]:
    """Whether the rules of a place are told as they should be; what they say is checked when the schema is good."""
    return [
        error
        for at, declared in each(f"{path}.{VALIDATIONS}", schema.get(VALIDATIONS))
        for error in _form(declared, at, schema)
    ]


def _form(declared: Object, path: str, schema: Object) -> list[FieldError]:
    rule = text(declared, "rule")
    if not rule.strip():
        errors = [required(f"{path}.rule", "rule is not specified")]
    else:
        errors = _message(declared, path, rule)
    expression = text(declared, "messageExpression")
    if expression and not expression.strip():
        errors.append(required(f"{path}.messageExpression", "messageExpression must be non-empty if specified"))
    reason = declared.get("reason")
    if reason is not None and reason not in _REASONS:
        errors.append(not_supported(f"{path}.reason", reason, _REASONS))
    if field_path := text(declared, "fieldPath"):
        errors += _field_path(field_path, schema, f"{path}.fieldPath")
    return errors


def _message(declared: Object, path: str, rule: str) -> list[FieldError]:
    message = text(declared, "message")
    if message and not message.strip():
        return [invalid_value(f"{path}.message", message, "must be non-empty if specified")]
    if _has_breaks(message.strip()):
        return [invalid_value(f"{path}.message", message, "must not contain line breaks")]
    if _has_breaks(rule.strip()) and not message:
        return [required(f"{path}.message", "message must be specified if rule contains line breaks")]
    return []


def _has_breaks(value: str) -> bool:
    return "\n" in value or "\r" in value


def _field_path(field_path: str, schema: Object, path: str) -> list[FieldError]:
    details = [] if field_path.strip() else ["must be non-empty if specified"]
    if _has_breaks(field_path):
        details.append("must not contain line breaks")
    try:
        fieldpaths.follow(field_path, schema)
    except fieldpaths.PathError:
        details.append("must be a valid path")
    return [invalid_value(path, field_path, detail) for detail in details]


def _compiled(declared: Object, path: str, type_: Type, budget: _Budget, place: _Place) -> list[FieldError]:
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
        return [invalid_value(f"{path}.rule", shown, f"{_step(error)} failed: {error}")]
    if rule.program.type.name != "bool":
        return [invalid_value(f"{path}.rule", shown, "cel expression must evaluate to a bool")]
    times = _MAX_REQUEST // (type_.smallest + 1) if place.times is None else place.times
    errors = _within_budget(rule.program.cost * times, f"{path}.rule", "estimated rule cost", budget)
    errors += _message_expression(declared, shown, path, type_, budget)
    if "oldSelf" in rule.program.names:
        if place.lost:
            detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.lost}"
            errors.append(invalid_value(f"{path}.rule", declared["rule"], detail))
    elif (optional := declared.get("optionalOldSelf")) is not None:
        detail = "may not be set if oldSelf is not used in rule"
        errors.append(invalid_value(f"{path}.optionalOldSelf", optional, detail))
    return errors


def _step(error: CompileError) -> str:
    from podling.cel.syntax import InstantiationError

    return "program instantiation" if isinstance(error, InstantiationError) else "compilation"


def _message_expression(declared: Object, shown: Object, path: str, type_: Type, budget: _Budget) -> list[FieldError]:
    from podling.cel.syntax import CompileError

    if not text(declared, "messageExpression"):
        return []
    at = f"{path}.messageExpression"
    try:
        message = compile_rule(declared, type_).message
    except CompileError as error:
        step = _step(error).removeprefix("program ")
        return [invalid_value(at, shown, f"messageExpression {step} failed: {error}")]
    assert message is not None
    if message.type.name != "string":
        return [invalid_value(at, shown, "messageExpression must evaluate to a string")]
    return _within_budget(message.cost, at, "estimated messageExpression cost", budget)


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
    """What makes CEL values of JSON ones: times, bytes, lists that are sets; `None` where nothing is to be done."""
    match schema.get("type"):
        case "string":
            return _text_converter(schema.get("format", ""))
        case "number":
            return lambda value: float(value) if type(value) is int else value
        case "array":
            return _list_converter(schema)
        case _:
            return _object_converter(schema)


def _inner(schema: Object, key: str) -> Convert | None:
    inner: Any = schema.get(key)
    return converter(cast(Object, inner)) if isinstance(inner, dict) else None


def _object_converter(schema: Object) -> Convert | None:
    element = _inner(schema, "additionalProperties")
    fields = {name: made for name, child in part(schema, "properties").items() if (made := converter(child))}
    if not fields and element is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        members = cast(Object, value)
        return {name: (fields.get(name) or element or _same)(member) for name, member in members.items()}

    return convert


def _list_converter(schema: Object) -> Convert | None:
    from podling.cel.values import KeyedItems, SetItems

    element, kind = _inner(schema, "items") or _same, schema.get("x-kubernetes-list-type")
    keys: Sequence[str] = schema.get("x-kubernetes-list-map-keys") or ()
    if element is _same and kind not in ("set", "map"):
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        items = [element(item) for item in cast("list[Any]", value)]
        return SetItems(items) if kind == "set" else KeyedItems(items, keys) if kind == "map" else items

    return convert


def _same(value: Any) -> Any:
    return value


def _text_converter(form: str) -> Convert | None:
    if form not in ("byte", "duration", "date", "date-time"):
        return None
    import base64

    from podling.cel.library import to_duration, to_timestamp

    if form == "byte":
        return lambda value: base64.b64decode(value) if isinstance(value, str) else value
    parse = to_duration if form == "duration" else to_timestamp
    return lambda value: parse(value) if isinstance(value, str) else value

"""Whether a custom resource fits its schema: the checks and words of kube-openapi's validator.

A schema is compiled once into a tree of small checks. The order in which problems are told is that of
`kube-openapi/pkg/validation/validate`: type, combined schemas, strings, formats, numbers, lists, enums, objects.

On an update, what has not changed is not refused, even where it would be today (ratcheting, KEP-4008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from podling.api.errors import FieldError, invalid_value, not_supported, required, too_long, too_many, type_invalid
from podling.api.regexp import regexp
from podling.kinds.apiextensions.instances.formats import FORMATS
from podling.kinds.apiextensions.instances.values import MISSING, corresponding, json_equal
from podling.kinds.validation.fields import part
from podling.store.types import Object

_NOWHERE: Final = "<nil>"
_IN_BODY: Final = "in body"


@dataclass(slots=True)
class _Result:
    """What a check found, and how many checks were made: of alternatives that all fail, the one that went furthest
    is told."""

    errors: list[FieldError] = field(default_factory=list[FieldError])
    made: int = 0

    def merge(self, other: _Result) -> None:
        self.errors += other.errors
        self.made += other.made


Check = Callable[[Any, str, Any], _Result]
"""Of a value at a path; the third is the old value there, `MISSING` for none."""
_Simple = Callable[[Any, str], FieldError | None]


def compile_schema(schema: Object) -> Check:
    """The check of values against a structural schema."""
    checks = _checks(schema)
    kind_check = _type_check(schema)
    enum_check = _enum_check(schema)
    nullable = bool(schema.get("nullable"))

    def check(value: Any, path: str, old: Any) -> _Result:
        if old is not MISSING and json_equal(old, value):
            return _Result(made=1)
        result = _Result(made=1)
        if value is None:
            if not nullable:
                _note(result, kind_check(value, path) if kind_check else None)
                _note(result, enum_check(value, path) if enum_check else None)
            return result
        for one in checks:
            result.merge(one(value, path, old))
            result.made += 1
        return result

    return check


def _note(result: _Result, error: FieldError | None) -> None:
    if error is not None:
        result.errors.append(error)


def _checks(schema: Object) -> list[Check]:
    checks: list[Check] = []
    if simple := _type_check(schema):
        checks.append(_plain(simple))
    checks += _combined(schema)
    checks += [_plain(simple) for simple in (*_string_checks(schema), *_number_checks(schema))]
    checks += _list_checks(schema)
    if simple := _enum_check(schema):
        checks.append(_plain(simple))
    return checks + _object_checks(schema)


def _plain(simple: _Simple) -> Check:
    def check(value: Any, path: str, _old: Any) -> _Result:
        error = simple(value, path)
        return _Result([error] if error else [])

    return check


def _at(path: str) -> str:
    return path or _NOWHERE


def _wrong(path: str, value: Any, what: str) -> FieldError:
    return invalid_value(_at(path), value, f"{path} {_IN_BODY} {what}")


# Types


def json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _type_check(schema: Object) -> _Simple | None:
    kind, either = cast(str, schema.get("type") or ""), schema.get("x-kubernetes-int-or-string")
    wanted = ("integer", "string") if either else (kind,) if kind else ()
    if not wanted:
        return None
    accepted = {*wanted, "integer"} if "number" in wanted else {*wanted}
    whole_numbers = "integer" in wanted
    form = "" if either else known_format(schema)

    def check(value: Any, path: str) -> FieldError | None:
        given = json_type(value)
        if given in accepted or (whole_numbers and given == "number" and cast(float, value).is_integer()):
            return None
        if form and given not in ("string", "array", "null"):
            return type_error(path, form, _NATIVE.get(given, ""))
        return type_error(path, ",".join(wanted), given)

    return check


_NATIVE: Final = {"integer": "int64", "number": "float64"}
"""What Kubernetes calls a number that is given where something with a format is wanted."""
_NUMBER_FORMATS: Final = {"integer": ("int32", "int64"), "number": ("float", "double")}


def known_format(schema: Object) -> str:
    """The format of a schema, if it is one that is checked there; else `""`."""
    form, kind = cast(str, schema.get("format") or ""), schema.get("type") or "string"
    if kind in _NUMBER_FORMATS:
        return form if form in _NUMBER_FORMATS[kind] else ""
    return form if kind == "string" and form.replace("-", "") in FORMATS else ""


def type_error(path: str, wanted: str, given: str) -> FieldError:
    return type_invalid(_at(path), given, f'{path} {_IN_BODY} must be of type {wanted}: "{given}"')


# Combined schemas


def _combined(schema: Object) -> list[Check]:
    makers = {"anyOf": _any_of, "oneOf": _one_of, "allOf": _all_of}
    found = [
        make([compile_schema(s) for s in cast("list[Object]", schema[key])])
        for key, make in makers.items()
        if schema.get(key)
    ]
    return [*found, _not(compile_schema(schema["not"]))] if schema.get("not") else found


def _combination_error(path: str, what: str) -> FieldError:
    return invalid_value(_NOWHERE, "", f'"{path}" {what}')


def _furthest(results: Sequence[_Result]) -> _Result:
    return max(results, key=lambda result: result.made)


def _any_of(alternatives: list[Check]) -> Check:
    def check(value: Any, path: str, old: Any) -> _Result:
        results: list[_Result] = []
        for alternative in alternatives:
            results.append(alternative(value, path, old))
            if not results[-1].errors:
                return results[-1]
        outcome = _Result([_combination_error(path, "must validate at least one schema (anyOf)")])
        outcome.merge(_furthest(results))
        return outcome

    return check


def _one_of(alternatives: list[Check]) -> Check:
    def check(value: Any, path: str, old: Any) -> _Result:
        results = [alternative(value, path, old) for alternative in alternatives]
        valid = [result for result in results if not result.errors]
        if len(valid) == 1:
            return valid[0]
        found = f"Found {len(valid)} valid alternatives" if valid else "Found none valid"
        outcome = _Result([_combination_error(path, f"must validate one and only one schema (oneOf). {found}")])
        if not valid:
            outcome.merge(_furthest(results))
        return outcome

    return check


def _all_of(parts: list[Check]) -> Check:
    def check(value: Any, path: str, old: Any) -> _Result:
        outcome = _Result()
        results = [part(value, path, old) for part in parts]
        for result in results:
            outcome.merge(result)
        failed = sum(bool(result.errors) for result in results)
        if failed:
            more = ". None validated" if failed == len(parts) else ""
            outcome.errors.append(_combination_error(path, f"must validate all the schemas (allOf){more}"))
        return outcome

    return check


def _not(refused: Check) -> Check:
    def check(value: Any, path: str, _old: Any) -> _Result:
        if refused(value, path, MISSING).errors:
            return _Result()
        return _Result([_combination_error(path, "must not validate the schema (not)")])

    return check


# Scalars


def _string_checks(schema: Object) -> list[_Simple]:
    checks: list[_Simple] = []
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None:
        checks.append(_of(str, lambda text, path: too_long(_at(path), longest) if len(text) > longest else None))
    if shortest is not None:
        words = f"should be at least {shortest} chars long"
        checks.append(_of(str, lambda text, path: _wrong(path, text, words) if len(text) < shortest else None))
    if pattern := schema.get("pattern"):
        compiled = regexp(pattern)
        words = f"should match '{pattern}'"
        checks.append(_of(str, lambda text, path: None if compiled.matches(text) else _wrong(path, text, words)))
    named = FORMATS.get(known_format(schema).replace("-", ""))
    if named:
        checks.append(_of(str, _format_check(schema["format"], named)))
    # Of a string's own checks the first that fails is told; a format is a check of its own.
    return [_first(checks[:-1]), checks[-1]] if named and len(checks) > 1 else [_first(checks)] if checks else []


def _first(checks: list[_Simple]) -> _Simple:
    def check(value: Any, path: str) -> FieldError | None:
        return next((error for one in checks if (error := one(value, path))), None)

    return check


def _of(kind: type, check: Callable[[Any, str], FieldError | None]) -> _Simple:
    return lambda value, path: check(value, path) if isinstance(value, kind) else None


def _format_check(name: str, fits: Callable[[str], bool]) -> _Simple:
    def check(value: Any, path: str) -> FieldError | None:
        if fits(value):
            return None
        return type_invalid(_at(path), value, f'{path} {_IN_BODY} must be of type {name}: "{value}"')

    return check


def _number_checks(schema: Object) -> list[_Simple]:
    checks: list[_Simple] = []
    divisor = schema.get("multipleOf")
    if divisor is not None:
        checks.append(_multiple_check(divisor))
    highest, lowest = schema.get("maximum"), schema.get("minimum")
    if highest is not None:
        if schema.get("exclusiveMaximum"):
            checks.append(_numeric(lambda value: value < highest, f"should be less than {_number(highest)}"))
        else:
            words = f"should be less than or equal to {_number(highest)}"
            checks.append(_numeric(lambda value: value <= highest, words))
    if lowest is not None:
        if schema.get("exclusiveMinimum"):
            checks.append(_numeric(lambda value: value > lowest, f"should be greater than {_number(lowest)}"))
        else:
            words = f"should be greater than or equal to {_number(lowest)}"
            checks.append(_numeric(lambda value: value >= lowest, words))
    if (fits := _WIDTHS.get(known_format(schema))) is not None:
        checks.append(_width_check(schema["type"], schema["format"], fits))
    return checks


def _multiple_check(divisor: float) -> _Simple:
    """Of whole numbers the whole part of the divisor counts, which may be none."""
    words = f"should be a multiple of {_number(divisor)}"

    def check(value: Any, path: str) -> FieldError | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        factor = int(divisor) if isinstance(value, int) else divisor
        if factor <= 0:
            detail = f"factor MultipleOf declared for {path} must be positive: {_number(factor)}"
            return invalid_value(_at(path), factor, detail)
        share = value % factor if isinstance(value, int) else (1 / factor * value if factor < 1 else value / factor) % 1
        return None if share == 0 else _wrong(path, value, words)

    return check


_WIDTHS: Final[dict[str, Callable[[float], bool]]] = {
    "int32": lambda value: -(1 << 31) <= value < 1 << 31,
    "float": lambda value: abs(value) <= 3.4028235677973366e38,
}


def _width_check(kind: str, name: str, fits: Callable[[float], bool]) -> _Simple:
    def check(value: Any, path: str) -> FieldError | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or fits(value):
            return None
        detail = f"Checked value must be of type {kind} with format {name} in {path}"
        return invalid_value(_NOWHERE, "", detail)

    return check


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e21 else repr(value)


def _numeric(fits: Callable[[Any], bool], words: str) -> _Simple:
    def check(value: Any, path: str) -> FieldError | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or fits(value):
            return None
        return _wrong(path, value, words)

    return check


def _enum_check(schema: Object) -> _Simple | None:
    allowed: list[Any] | None = schema.get("enum")
    if not allowed:
        return None
    names = [value if isinstance(value, str) else _json(value) for value in allowed]

    def check(value: Any, path: str) -> FieldError | None:
        if any(json_equal(value, one) for one in allowed):
            return None
        return not_supported(_at(path), value, names)

    return check


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()


# Lists and objects


def _list_checks(schema: Object) -> list[Check]:
    most, least, items = schema.get("maxItems"), schema.get("minItems"), schema.get("items")
    if most is None and least is None and not isinstance(items, dict):
        return []
    item_check = compile_schema(cast(Object, items)) if isinstance(items, dict) else None

    def check(value: Any, path: str, old: Any) -> _Result:
        result = _Result()
        if not isinstance(value, list):
            return result
        found = cast("list[Any]", value)
        if item_check is not None:
            for index, (item, before) in enumerate(corresponding(schema, found, old)):
                result.merge(item_check(item, f"{path}[{index}]", before))
        if least is not None and len(found) < least:
            result.errors.append(_wrong(path, len(found), f"should have at least {least} items"))
        if most is not None and len(found) > most:
            result.errors.append(too_many(_at(path), len(found), most))
        return result

    return [check]


def _object_checks(schema: Object) -> list[Check]:
    fields = {name: compile_schema(field) for name, field in sorted(part(schema, "properties").items())}
    others: Any = schema.get("additionalProperties")
    other_check = compile_schema(cast(Object, others)) if isinstance(others, dict) else None
    needed: list[str] = schema.get("required") or []
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if not fields and other_check is None and not needed and most is None and least is None:
        return []

    def check(value: Any, path: str, old: Any) -> _Result:
        result = _Result()
        if not isinstance(value, dict):
            return result
        members = cast(Object, value)
        if least is not None and len(members) < least:
            result.errors.append(_wrong(path, len(members), f"should have at least {least} properties"))
        if most is not None and len(members) > most:
            result.errors.append(too_many(_at(path), len(members), most))
        before = cast(Object, old) if isinstance(old, dict) else {}
        prefix = f"{path}." if path else ""
        if other_check is not None:
            for name, member in members.items():
                if name not in fields:
                    result.merge(other_check(member, prefix + name, before.get(name, MISSING)))
        for name, field_check in fields.items():
            if name in members:
                result.merge(field_check(members[name], prefix + name, before.get(name, MISSING)))
        result.errors += [required(prefix + name) for name in needed if name not in members]
        return result

    return [check]


def problems(check: Check, value: Any, old: Any) -> list[FieldError]:
    """All that is wrong with a value; `old` is what it was before an update, `None` for a new one."""
    return check(value, "", old if old is not None else MISSING).errors

"""Values as Go's typed structs would hold and write them: the API server's decoding, without the structs.

A real API server reads every body into a Go struct and writes that struct out again. Much of what its users see
comes from there and nowhere else: unknown fields are gone (or refused), `hostNetwork: false` is not stored but
`replicas: 0` is, `status: {}` and `resources: {}` appear, a Role without rules shows `rules: null`, `1000m` becomes
`1`, and a number where a string belongs is refused in encoding/json's words. `shape` does all of that in one walk,
led by the schema. Values of custom resources go through no struct: there only unknown fields are pruned.

The rules are those of sigs.k8s.io/json (case-sensitive encoding/json): the first mismatch is remembered while
decoding goes on; a type with its own decoder (times, quantities) that fails ends it at once.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final, cast

import orjson

from podling.api import quantity
from podling.api.meta import micro_timestamp, timestamp
from podling.api.schema import NEVER_EMPTY, SCHEMA_UNIONS, Field, Kind, Node
from podling.store.types import Object

MAX_STRICT_ERRORS: Final = 100
"""As many as sigs.k8s.io/json collects."""

MISSING: Final = object()
"""What a field has when it is not written at all."""


class DecodeError(ValueError):
    """The value does not fit the type; the message is Go's."""


class RepeatedKeys(dict[str, Any]):
    """An object whose text had some keys more than once (the last ones won)."""

    repeated: tuple[str, ...] = ()

    def renewed(self, members: dict[str, Any]) -> RepeatedKeys:
        """The same marks on other members."""
        result = RepeatedKeys(members)
        result.repeated = self.repeated
        return result


class Literal(float):
    """A number that is shown in errors as it was written."""

    text: str

    def __new__(cls, text: str) -> Literal:
        self = super().__new__(cls, text)
        self.text = text
        return self


class _Place:
    """Where the walk is: a link to the place above, and the step from there."""

    __slots__ = ("above", "owner", "step")

    def __init__(self, above: _Place | None, step: str | int, owner: str = "") -> None:
        self.above = above
        self.step = step
        self.owner = owner
        """The Go name of the struct, when the step is one of its fields."""

    def steps(self) -> list[_Place]:
        found: list[_Place] = []
        place: _Place | None = self
        while place is not None:
            found.append(place)
            place = place.above
        return found[::-1]


def _strict_path(place: _Place | None, name: str) -> str:
    """`spec.containers[0].image`: as strict decoding names fields, map keys included."""
    text = ""
    for step in place.steps() if place else ():
        text += f"[{step.step}]" if isinstance(step.step, int) else f".{step.step}"
    return f"{text}.{name}"[1:]


def _go_path(place: _Place | None) -> str:
    """`PodSpec.spec.containers`: as encoding/json names a field, without indexes and map keys."""
    fields = [step for step in place.steps() if step.owner] if place else []
    return ".".join([fields[-1].owner, *(str(step.step) for step in fields)]) if fields else ""


class _Walk:
    """The state of one decoding: what went wrong so far."""

    __slots__ = ("embedded", "error", "strict")

    def __init__(self) -> None:
        self.error = ""
        self.strict: list[str] = []
        self.embedded: list[str] = []
        """Of the metadata of embedded objects, which the API server looks at after all else."""

    def unknown(self, place: _Place | None, name: str) -> None:
        self._report(f'unknown field "{_strict_path(place, name)}"')

    def duplicate(self, place: _Place | None, name: str) -> None:
        self._report(f'duplicate field "{_strict_path(place, name)}"')

    def path(self, place: _Place | None) -> str:
        """How a type with its own decoder is told where it stands."""
        return _go_path(place)

    def _report(self, message: str) -> None:
        if len(self.strict) < MAX_STRICT_ERRORS and message not in self.strict:
            self.strict.append(message)

    def mismatch(self, value: Any, node: Node, place: _Place | None) -> None:
        """encoding/json goes on after a mismatch, and tells of the first."""
        if not self.error:
            self.error = unmarshal_error(value, node.go_type or _GO_TYPES[node.kind], _go_path(place))


class _Conversion(_Walk):
    """The walk of apimachinery's converter of unstructured objects, which ends at the first mismatch."""

    def mismatch(self, value: Any, node: Node, place: _Place | None) -> None:
        raise DecodeError(_conversion_error(value, node))

    def path(self, place: _Place | None) -> str:
        return ""


_GO_TYPES: Final = {
    Kind.STRUCT: "map[string]interface {}",
    Kind.MAP: "map[string]interface {}",
    Kind.LIST: "[]interface {}",
    Kind.STRING: "string",
    Kind.BOOLEAN: "bool",
    Kind.INTEGER: "int64",
    Kind.NUMBER: "float64",
    Kind.BYTES: "[]uint8",
}
_CANNOT_RESTORE: Final = {
    Kind.STRUCT: "cannot restore struct from: {}",
    Kind.MAP: "cannot restore map from {}",
    Kind.LIST: "cannot restore slice from {}",
    Kind.BYTES: "cannot restore slice from {}",
}


def _conversion_error(value: Any, node: Node) -> str:
    """Go converts between some kinds of numbers and strings that JSON may not; it words these apart."""
    source = _go_kind(value)
    if node.kind in _CANNOT_RESTORE:
        return _CANNOT_RESTORE[node.kind].format(source)
    is_number = source in {"int64", "float64"}
    if (node.kind is Kind.STRING and source == "int64") or (node.kind is Kind.INTEGER and is_number):
        return f"cannot convert {source} to {node.go_type or _GO_TYPES[node.kind]}"
    target = f"int{node.bits}" if node.kind is Kind.INTEGER else _GO_TYPES[node.kind]
    return f"unrecognized type: {target}"


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    return "slice" if isinstance(value, list) else "map"


def unmarshal_error(value: Any, go_type: str, path: str = "") -> str:
    """encoding/json's UnmarshalTypeError; with `path` for a field, else for a value of its own."""
    target = f"struct field {path}" if path else "value"
    return f"json: cannot unmarshal {_described(value, go_type)} into Go {target} of type {go_type}"


def _described(value: Any, go_type: str) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {_number_text(value)}" if go_type.startswith(_NUMERIC) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


_NUMERIC: Final = ("int", "uint", "float")


def _number_text(value: float) -> str:
    if isinstance(value, Literal):
        return value.text
    return str(value) if isinstance(value, int) else repr(value).replace("e+", "e")


def shape(
    value: Any, node: Node, *, unstructured: bool = False, settled: Object | None = None
) -> tuple[Object, list[str]]:
    """An object as Go would write it again, and the strict errors (`unknown field "spec.foo"`).

    `unstructured` words mismatches as the converter does that strategic merge patches go through. `settled` is an
    object of the kind that was shaped before: what `value` shares with it is only copied.

    Raises DecodeError. Never changes `value`; the result shares no container with it unless nothing is known of
    the part (`Kind.ANY`).
    """
    walk = _Conversion() if unstructured else _Walk()
    result = _pruned(value, node, None, walk) if node.structural else _struct(value, node, None, walk, settled)
    if walk.error:
        raise DecodeError(walk.error)
    return cast(Object, result), walk.strict + walk.embedded


def zero(node: Node) -> Object:
    """What Go writes for an empty struct: its value structs, and null or zero for what has no omitempty."""
    return {field.name: zero_of(field) for field in node.written}


def zero_of(field: Field) -> Any:
    """The value of a field that was never set, in JSON."""
    if field.pointer:
        return None
    return _zero_value(field.node)


def _zero_value(node: Node) -> Any:
    if node.kind is Kind.STRUCT:
        return zero(node)
    return _ZEROS.get(node.kind)


_ZEROS: Final[dict[Kind, Any]] = {
    Kind.STRING: "",
    Kind.BOOLEAN: False,
    Kind.INTEGER: 0,
    Kind.NUMBER: 0,
    Kind.INT_OR_STRING: 0,
    Kind.QUANTITY: "0",
    Kind.DURATION: "0s",
}


def _struct(value: Any, node: Node, place: _Place | None, walk: _Walk, settled: Object | None = None) -> Any:
    if not isinstance(value, dict):
        walk.mismatch(value, node, place)
        return {}
    items = cast(dict[str, Any], value)
    fields = node.fields
    owner = node.go_name
    result: Object = {}
    for name, item in items.items():
        field = fields.get(name)
        if field is None:
            walk.unknown(place, name)
        elif item is None:
            continue
        elif settled is not None and type(item) in _CONTAINERS:
            _set_part(result, field, item, owner, place, walk, settled.get(name))
        else:
            _set_field(result, field, item, owner, place, walk)
    if isinstance(items, RepeatedKeys):
        _note_repeated(items, place, walk)
    for field in node.written:
        if field.name not in result:
            result[field.name] = zero_of(field)
    return result


def _note_repeated(items: RepeatedKeys, place: _Place | None, walk: _Walk) -> None:
    for name in items.repeated:
        walk.duplicate(place, name)


_CONTAINERS: Final = (dict, list)


def _set_part(
    result: Object, field: Field, item: Any, owner: str, place: _Place | None, walk: _Walk, settled: Any
) -> None:
    """A field of an object of which an earlier state is known: what is still the same part of it is only copied."""
    if item is settled:
        result[field.name] = orjson.loads(orjson.dumps(item))
    elif field.node.kind is Kind.STRUCT and type(settled) is dict:
        below = cast(Object, settled)
        result[field.name] = _struct(item, field.node, _Place(place, field.name, owner), walk, below)
    else:
        _set_field(result, field, item, owner, place, walk)


def _set_field(result: Object, field: Field, item: Any, owner: str, place: _Place | None, walk: _Walk) -> None:
    node = field.node
    if type(item) is _PLAIN_TYPES.get(node.kind) and (
        node.kind is not Kind.INTEGER or _MIN_INT32 <= item < -_MIN_INT32
    ):
        decoded: Any = item
    else:
        decoded = _value(item, node, _Place(place, field.name, owner), walk)
    if decoded or field.pointer or not field.omitempty or node.kind in NEVER_EMPTY:
        result[field.name] = decoded


_PLAIN_TYPES: Final = {Kind.STRING: str, Kind.BOOLEAN: bool, Kind.INTEGER: int}
"""Values that need no decoding (in their range); a body is mostly these, so they take no place on the way."""
_MIN_INT32: Final = -(2**31)


def _value(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    return _DECODERS[node.kind](value, node, place, walk)


def _map(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    if not isinstance(value, dict):
        walk.mismatch(value, node, place)
        return {}
    items = cast(dict[str, Any], value)
    element = node.element
    result: Object = {}
    for name, item in items.items():
        if element.kind is Kind.STRING and isinstance(item, str):
            result[name] = item
        elif item is None:
            result[name] = "" if element.kind is Kind.BYTES else _zero_value(element)
        else:
            result[name] = _value(item, element, _Place(place, name), walk)
    if isinstance(items, RepeatedKeys):
        _note_repeated(items, place, walk)
    return result


def _list(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    if not isinstance(value, list):
        walk.mismatch(value, node, place)
        return []
    element = node.element
    result: list[Any] = []
    for index, item in enumerate(cast(list[Any], value)):
        if element.kind is Kind.STRING and isinstance(item, str):
            result.append(item)
        elif item is None:
            result.append(_zero_value(element))
        else:
            result.append(_value(item, element, _Place(place, index), walk))
    return result


def _string(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    if isinstance(value, str):
        return value
    walk.mismatch(value, node, place)
    return ""


def _boolean(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    if isinstance(value, bool):
        return value
    walk.mismatch(value, node, place)
    return False


def _integer(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        limit = 1 << (node.bits - 1)
        if -limit <= value < limit:
            return value
    walk.mismatch(value, node, place)
    return 0


def _number(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    walk.mismatch(value, node, place)
    return 0


def _bytes(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    if not isinstance(value, str):
        walk.mismatch(value, node, place)
        return ""
    text = value.replace("\n", "").replace("\r", "")
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except (binascii.Error, ValueError):
        walk.error = walk.error or f"illegal base64 data at input byte {_illegal_base64(text)}"
        return ""


def _illegal_base64(text: str) -> int:
    """Where Go's decoder stops: the first character that is none of base64, else the unfinished group."""
    bad = re.search(r"[^A-Za-z0-9+/=]", text)
    padding = text.find("=")
    if bad is not None and (padding < 0 or bad.start() < padding):
        return bad.start()
    if padding >= 0:
        return padding if padding % 4 < 2 else min(padding // 4 * 4 + 4, len(text))
    return len(text) // 4 * 4


def _quantity(value: Any, _node: Node, _place: _Place, _walk: _Walk) -> Any:
    text = value.strip() if isinstance(value, str) else _raw_text(value)
    try:
        return quantity.canonical(text)
    except quantity.QuantityError as error:
        raise DecodeError(str(error)) from None


def _raw_text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_text(value)
    return str(value)


def _int_or_string(value: Any, _node: Node, place: _Place, walk: _Walk) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
        return value
    raise DecodeError(unmarshal_error(value, "int32", walk.path(place)))


_TIME_LENGTH: Final = len("2006-01-02T15:04:05Z")
_CANONICAL_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@lru_cache(maxsize=1024)
def _is_canonical(text: str) -> bool:
    """Whether it is a time as the API writes it. Objects hold many, and most of them again and again."""
    if not _CANONICAL_TIME.fullmatch(text):
        return False
    try:
        return datetime.fromisoformat(text) != _ZERO_TIME
    except ValueError:
        return False


def _time(value: Any, _node: Node, place: _Place, walk: _Walk) -> Any:
    if type(value) is str and len(value) == _TIME_LENGTH and _is_canonical(value):
        return value
    moment = _moment(value, _LAYOUT, place, walk)
    return timestamp(moment) if moment else None


def _micro_time(value: Any, _node: Node, place: _Place, walk: _Walk) -> Any:
    moment = _moment(value, "2006-01-02T15:04:05.000000Z07:00", place, walk)
    return micro_timestamp(moment) if moment else None


_ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)
_MICRO_DIGITS: Final = 6
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)


_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"


def read_time(text: str) -> datetime | None:
    """A time as RFC 3339 writes it; None for the zero time. Raises DecodeError in the words of Go's time.Parse."""
    return _parsed_time(text, _LAYOUT)


def _moment(value: Any, layout: str, place: _Place, walk: _Walk) -> datetime | None:
    if not isinstance(value, str):
        raise DecodeError(unmarshal_error(value, "string", walk.path(place)))
    return _parsed_time(value, layout)


def _parsed_time(value: str, layout: str) -> datetime | None:
    """In UTC."""
    match = _RFC3339.fullmatch(value)
    if match is None or (".000000" in layout and len(match[7] or "") != _MICRO_DIGITS):
        raise DecodeError(_parse_error(value, layout))
    *numbers, fraction, zone = match.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    try:
        micro = int((fraction or "").ljust(6, "0")[:6])
        local = datetime(year, month, day, hour, minute, second, micro, _zone(zone))
        moment = local.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        part = (
            "day"
            if "day" in str(error)
            else next((p for p in ("month", "hour", "minute", "second") if p in str(error)), "year")
        )
        raise DecodeError(f'parsing time "{value}": {part} out of range') from None
    return None if moment == _ZERO_TIME else moment


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(offset if text[0] == "+" else -offset)


_LAYOUT_PARTS = re.compile(r"2006|01|02|15|04|05|\.000000|Z07:00|.")
_PART_SYNTAX: Final = {
    "2006": r"\d{4}",
    ".000000": r"\.\d{6}",
    "Z07:00": r"Z|[+-]\d\d:\d\d",
    "05": r"\d\d(?:[.,]\d+(?=[Z+-]))?",
}


def _parse_error(value: str, layout: str) -> str:
    """Go's ParseError: which part of the layout met which rest of the text."""
    rest = value
    for part in _LAYOUT_PARTS.findall(layout):
        syntax = _PART_SYNTAX.get(part, r"\d\d" if part.isdigit() else re.escape(part))
        if part == "05" and ".000000" in layout:
            syntax = r"\d\d"
        match = re.match(syntax, rest, re.ASCII)
        if match is None:
            return f'parsing time "{value}" as "{layout}": cannot parse "{rest}" as "{part}"'
        rest = rest[match.end() :]
    return f'parsing time "{value}": extra text: "{rest}"'


_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def _duration(value: Any, _node: Node, place: _Place, walk: _Walk) -> Any:
    if not isinstance(value, str):
        raise DecodeError(unmarshal_error(value, "string", walk.path(place)))
    return duration_text(parse_duration(value))


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration (`1h2m3.5s`). Raises DecodeError."""
    body = text.lstrip("+-") if text[:1] in "+-" else text
    parts = _DURATION.findall(body)
    if body != "0" and (not parts or "".join(number + unit for number, unit in parts) != body):
        raise DecodeError(_duration_error(text))
    total = sum(int(float(number) * _UNITS[unit]) for number, unit in parts)
    return -total if text.startswith("-") else total


_QUANTITY_OF_TIME: Final = re.compile(r"(?=\.?[0-9])[0-9]*\.?[0-9]*")
_UNIT_OF_TIME: Final = re.compile(r"[^.0-9]*")


def _duration_error(text: str) -> str:
    """Go's time.ParseDuration: which part of the text is none."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    while (number := _QUANTITY_OF_TIME.match(rest)) is not None:
        unit = cast("re.Match[str]", _UNIT_OF_TIME.match(rest, number.end()))
        if not unit[0]:
            return f'time: missing unit in duration "{text}"'
        if unit[0] not in _UNITS:
            return f'time: unknown unit "{unit[0]}" in duration "{text}"'
        rest = rest[unit.end() :]
    return f'time: invalid duration "{text}"'


def duration_text(nanoseconds: int) -> str:
    """Go's Duration.String: `1h2m3.5s`, `1.5ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    if rest < 10**9:
        unit = next(unit for unit in ("ms", "µs", "ns") if rest >= _UNITS[unit])
        return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
    minutes, rest = divmod(rest, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{sign}{text}{_decimal(rest, 10**9)}s"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _any(value: Any, _node: Node, _place: _Place, _walk: _Walk) -> Any:
    return value


def _schema_union(value: Any, node: Node, _place: _Place, _walk: _Walk) -> Any:
    """`items`, `additionalProperties`, `dependencies` of a CRD's schema: a schema, or what else the type allows."""
    schema = node.json_schema
    if isinstance(value, dict):
        return shape(value, schema)[0]
    if node.kind is Kind.SCHEMA_OR_BOOL:
        if isinstance(value, bool):
            return value
        raise DecodeError("boolean or JSON schema expected")
    if not isinstance(value, list):
        return None
    items = cast(list[Any], value)
    return [shape(item, schema)[0] for item in items] if node.kind is Kind.SCHEMA_OR_ARRAY else items


_OBJECTS: Final = frozenset({Kind.STRUCT, Kind.MAP})


def _pruned(value: Any, node: Node, place: _Place | None, walk: _Walk) -> Any:
    """A custom resource's value without what its schema does not declare; types are left to validation."""
    if isinstance(value, list) and node.kind is Kind.LIST:
        items = cast(list[Any], value)
        return [_pruned(item, node.element, _Place(place, index), walk) for index, item in enumerate(items)]
    if not isinstance(value, dict) or node.kind not in _OBJECTS:
        return cast(Any, value)
    members = cast(dict[str, Any], value)
    if isinstance(members, RepeatedKeys):
        _note_repeated(members, place, walk)
    if node.kind is Kind.MAP:
        return {name: _pruned(item, node.element, _Place(place, name), walk) for name, item in members.items()}
    result: Object = {}
    for name, item in members.items():
        field = node.fields.get(name)
        here = _Place(place, name, node.go_name)
        if field is not None:
            child = field.node
            if item is None and not child.structural:
                continue
            result[name] = _pruned(item, child, here, walk) if child.structural else _metadata(item, child, here, walk)
        elif node.preserve:
            result[name] = item
        else:
            walk.unknown(place, name)
    return result


def _metadata(value: Any, node: Node, place: _Place, walk: _Walk) -> Any:
    """The one part of a custom resource (or of an object embedded in one) that is a Go struct."""
    if place.above is None:
        return _value(value, node, place, walk)
    own = _Walk()
    result = _struct(value, node, None, own)
    for problem in own.strict:
        kind, _, name = problem.partition(' "')
        walk.embedded.append(f'{kind} "{_strict_path(place, name)}')
    if own.error:
        path = _strict_path(place.above, str(place.step))
        raise DecodeError(f"{path}: Invalid value: {orjson.dumps(value).decode()}: {own.error}")
    return result


_Decoder = Callable[[Any, Node, _Place, _Walk], Any]
_DECODERS: Final[dict[Kind, _Decoder]] = {
    Kind.STRUCT: _struct,
    Kind.MAP: _map,
    Kind.LIST: _list,
    Kind.STRING: _string,
    Kind.BOOLEAN: _boolean,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.BYTES: _bytes,
    Kind.QUANTITY: _quantity,
    Kind.INT_OR_STRING: _int_or_string,
    Kind.TIME: _time,
    Kind.MICRO_TIME: _micro_time,
    Kind.DURATION: _duration,
    Kind.ANY: _any,
    **dict.fromkeys(SCHEMA_UNIONS, _schema_union),
}

"""Protobuf request bodies (`application/vnd.kubernetes.protobuf`): what typed Go clients send since client-go 0.32.

The envelope is `k8s\\0` and a `runtime.Unknown` {1: TypeMeta {1: apiVersion, 2: kind}, 2: the message}. Messages are
read with the field numbers of the schema pack into plain JSON values; `structs.shape` then treats them like any other
body. Presence needs no guessing that way: gogo writes every value field, also when it is empty, and pointers only
when they are set, so what an empty value means is what Go's omitempty says of it, which `shape` knows.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from podling.api import gojson
from podling.api.meta import micro_timestamp, timestamp
from podling.api.schema import SCHEMA_UNIONS, Field, Kind, Node
from podling.api.structs import duration_text
from podling.store.types import Object

MAGIC: Final = b"k8s\0"
MAX_DEPTH: Final = 100
"""Messages within messages; Go's decoder has no limit, but no type of the API is nearly as deep."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value = int | memoryview


class ProtobufError(ValueError):
    """The bytes are no message of that type."""


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if place >= len(data):
            raise ProtobufError("unexpected EOF")
        byte = data[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, place
        shift += 7
        if shift >= 64:
            raise ProtobufError("proto: integer overflow")


def _entries(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Field numbers and values, unknown ones included. Raises ProtobufError."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ProtobufError(f"proto: illegal tag {number} (wire type {wire})")
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(data, place)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if place + length > end:
            raise ProtobufError("unexpected EOF")
        yield number, data[place : place + length]
        place += length


def unwrap(body: bytes) -> tuple[str, str, memoryview]:
    """apiVersion, kind and message of the envelope. Raises ProtobufError."""
    if body[:4] != MAGIC:
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    version = kind = ""
    message = memoryview(b"")
    for number, value in _entries(memoryview(body)[4:]):
        if number == 1:
            header = dict(_entries(_nested(value)))
            version, kind = _text(header.get(1, message)), _text(header.get(2, message))
        elif number == 2:
            message = _nested(value)
        elif number == 3 and _text(value):
            raise ProtobufError(f"unable to decode content encoding {_text(value)}")
    return version, kind, message


def _nested(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ProtobufError("proto: wrong wireType = 0 for a message")
    return value


def _text(value: Value) -> str:
    try:
        return str(_nested(value), "utf-8")
    except UnicodeDecodeError:
        raise ProtobufError("proto: invalid UTF-8 in a string") from None


def _signed(value: Value) -> int:
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType = 2 for an integer")
    return value - (1 << 64) if value >> 63 else value


def message(data: memoryview, node: Node, depth: int = 0) -> Object:
    """The JSON value of a message. Raises ProtobufError."""
    if depth > MAX_DEPTH:
        raise ProtobufError("exceeded max depth")
    result: Object = {}
    _read_into(result, data, _layout(node), depth)
    return result


Layout = dict[int, "Field | Layout"]
"""What each number holds: a field, or the message of an embedded struct whose fields appear in its place."""


def _layout(node: Node) -> Layout:
    if node.protobuf_layout is not None:
        return node.protobuf_layout
    layout: Layout = {}
    for field in node.fields.values():
        _place(layout, field.numbers, field)
    node.protobuf_layout = layout
    return layout


def _place(layout: Layout, numbers: tuple[int, ...], field: Field) -> None:
    if not numbers:
        return
    for number in numbers[:-1]:
        inner = layout.setdefault(number, {})
        if isinstance(inner, dict):
            layout = inner
    layout[numbers[-1]] = field


def _read_into(result: Object, data: memoryview, layout: Layout, depth: int) -> None:
    for number, value in _entries(data):
        target = layout.get(number)
        if target is None:
            continue
        if isinstance(target, dict):
            _read_into(result, _nested(value), target, depth)
        else:
            _read_field(result, target, value, depth)


def _read_field(result: Object, field: Field, value: Value, depth: int) -> None:
    node = field.node
    if node.kind is Kind.LIST and not field.wrapped:
        result.setdefault(field.name, []).extend(_items(value, node.element, depth))
    elif node.kind is Kind.MAP:
        entry = dict(_entries(_nested(value)))
        key = _text(entry.get(1, memoryview(b"")))
        result.setdefault(field.name, {})[key] = _map_value(entry.get(2), field, depth)
    elif node.kind is Kind.LIST:
        result[field.name] = _wrapped_list(_nested(value), node, depth)
    elif node.kind is Kind.STRUCT and field.name in result:
        # A message may come in pieces, which merge.
        result[field.name].update(message(_nested(value), node, depth + 1))
    else:
        result[field.name] = _value(value, node, depth)


def _map_value(value: Value | None, field: Field, depth: int) -> Any:
    element = field.node.element
    if value is None:
        value = 0 if element.kind in _PACKABLE else memoryview(b"")
    if field.wrapped and element.kind is Kind.LIST:
        return _wrapped_list(_nested(value), element, depth)
    return _value(value, element, depth)


def _wrapped_list(data: memoryview, node: Node, depth: int) -> list[Any]:
    return [_value(value, node.element, depth) for number, value in _entries(data) if number == 1]


_PACKABLE: Final = frozenset({Kind.INTEGER, Kind.BOOLEAN})


def _items(value: Value, element: Node, depth: int) -> list[Any]:
    """One item, or several where numbers are packed into one value."""
    if element.kind in _PACKABLE and isinstance(value, memoryview):
        items: list[Any] = []
        place = 0
        while place < len(value):
            number, place = _varint(value, place)
            items.append(_value(number, element, depth))
        return items
    return [_value(value, element, depth)]


def _value(value: Value, node: Node, depth: int) -> Any:
    if node.kind is Kind.STRUCT:
        return message(_nested(value), node, depth + 1)
    if node.kind in SCHEMA_UNIONS:
        return _schema_union(_nested(value), node, depth)
    return _SCALARS[node.kind](value)


def _number(value: Value) -> float:
    data = _nested(value)
    form = {8: "<d", 4: "<f"}.get(len(data))
    if form is None:
        raise ProtobufError("proto: wrong length for a floating point number")
    return cast(float, struct.unpack(form, data)[0])


def _base64(value: Value) -> str:
    return base64.b64encode(_nested(value)).decode()


def _one(value: Value, default: Value) -> Value:
    """Field 1 of a message that only wraps a value."""
    return dict(_entries(_nested(value))).get(1, default)


def _quantity(value: Value) -> str:
    return _text(_one(value, memoryview(b""))) or "0"


def _int_or_string(value: Value) -> int | str:
    parts = dict(_entries(_nested(value)))
    if _signed(parts.get(1, 0)) == 0:
        return _signed(parts.get(2, 0))
    return _text(parts.get(3, memoryview(b"")))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(value: Value) -> datetime | None:
    parts = dict(_entries(_nested(value)))
    if not parts:
        return None
    try:
        return _EPOCH + timedelta(seconds=_signed(parts.get(1, 0)), microseconds=_signed(parts.get(2, 0)) // 1000)
    except OverflowError:
        raise ProtobufError("a time out of range") from None


def _time(value: Value) -> str | None:
    moment = _moment(value)
    return timestamp(moment) if moment else None


def _micro_time(value: Value) -> str | None:
    moment = _moment(value)
    return micro_timestamp(moment) if moment else None


def _duration(value: Value) -> str:
    return duration_text(_signed(_one(value, 0)))


def _raw_json(value: Value) -> Any:
    raw = _nested(_one(value, memoryview(b"")))
    if not raw:
        return None
    try:
        return gojson.loads(bytes(raw))
    except gojson.JsonError:
        raise ProtobufError("a raw field holds no JSON") from None


def _schema_union(data: memoryview, node: Node, depth: int) -> Any:
    """JSONSchemaPropsOr...: {Schema, JSONSchemas}, {Allows, Schema} or {Schema, Property}."""
    schema, rest = (2, 1) if node.kind is Kind.SCHEMA_OR_BOOL else (1, 2)
    result: list[Any] = []
    allowed = False
    for number, value in _entries(data):
        if number == schema:
            return message(_nested(value), node.json_schema, depth + 1)
        if number == rest and node.kind is Kind.SCHEMA_OR_BOOL:
            allowed = bool(value)
        elif number == rest and node.kind is Kind.SCHEMA_OR_ARRAY:
            result.append(message(_nested(value), node.json_schema, depth + 1))
        elif number == rest:
            result.append(_text(value))
    return allowed if node.kind is Kind.SCHEMA_OR_BOOL else result


_SCALARS: Final[dict[Kind, Callable[[Value], Any]]] = {
    Kind.STRING: _text,
    Kind.BYTES: _base64,
    Kind.BOOLEAN: lambda value: bool(_signed(value)),
    Kind.INTEGER: _signed,
    Kind.NUMBER: _number,
    Kind.QUANTITY: _quantity,
    Kind.INT_OR_STRING: _int_or_string,
    Kind.TIME: _time,
    Kind.MICRO_TIME: _micro_time,
    Kind.DURATION: _duration,
    Kind.ANY: _raw_json,
}

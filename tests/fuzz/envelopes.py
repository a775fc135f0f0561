"""Objects as protobuf, with the field numbers of the schema pack; what does not fit its field is left out."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

from podling.api.protobuf import MAGIC
from podling.api.schema import Field, Kind, Node


def envelope(obj: dict[str, Any], node: Node) -> bytes:
    """`k8s\\0` and a runtime.Unknown with the object."""
    version, kind = (str(obj.get(name, "")).encode("utf-8", "surrogatepass") for name in ("apiVersion", "kind"))
    header = _bytes(1, version) + _bytes(2, kind)
    return MAGIC + _bytes(1, header) + _bytes(2, message(obj, node))


def message(value: Any, node: Node) -> bytes:
    if not isinstance(value, dict):
        return b""
    return b"".join(_field(value[f.name], f) for f in node.fields.values() if f.name in value and f.numbers)


def _field(value: Any, field: Field) -> bytes:
    *outer, number = field.numbers
    data = _numbered(number, value, field.node)
    for level in reversed(outer):
        data = _bytes(level, data)
    return data


def _numbered(number: int, value: Any, node: Node) -> bytes:
    if node.kind is Kind.LIST:
        return b"".join(_numbered(number, item, node.element) for item in value) if isinstance(value, list) else b""
    if node.kind is Kind.MAP:
        if not isinstance(value, dict):
            return b""
        pairs = ((str(k).encode("utf-8", "surrogatepass"), v) for k, v in value.items())
        return b"".join(_bytes(number, _bytes(1, k) + _numbered(2, v, node.element)) for k, v in pairs)
    if node.kind in (Kind.INTEGER, Kind.BOOLEAN):
        return _varint(number << 3) + _varint(int(value) % 2**64) if isinstance(value, int) else b""
    if node.kind is Kind.NUMBER:
        return _varint(number << 3 | 1) + struct.pack("<d", float(value)) if isinstance(value, float) else b""
    return _bytes(number, _content(value, node))


def _content(value: Any, node: Node) -> bytes:
    text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""
    if node.kind is Kind.STRUCT:
        return message(value, node)
    if node.kind is Kind.BYTES:
        try:
            return base64.b64decode(text)
        except binascii.Error:
            return text
    if node.kind in (Kind.QUANTITY, Kind.ANY):
        return _bytes(1, text)
    if node.kind is Kind.INT_OR_STRING:
        number = int(value) % 2**64 if isinstance(value, int) else 0
        return b"\x08" + _varint(int(bool(text))) + b"\x10" + _varint(number) + _bytes(3, text)
    if node.kind in (Kind.TIME, Kind.MICRO_TIME, Kind.DURATION):
        return b"\x08" + _varint(1_700_000_000)
    return text


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])

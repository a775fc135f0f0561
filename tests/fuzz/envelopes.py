"""Objects as protobuf, with the field numbers of the schema pack; what does not fit its field is left out."""

from __future__ import annotations

import base64
import binascii
import random
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


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """A well-formed envelope with something wrong in one of its fields, at any depth: the lengths around it fit.

    Bytes at random mostly break the outermost length and get no further.
    """
    pick = rng.randrange(12)
    if pick == 0:
        return _whole(rng.choice(_STRANGE), data, rng)
    if pick == 1:
        return MAGIC + data
    return MAGIC + _within(data[len(MAGIC) :], rng)


_STRANGE = (
    *(b"\x0a\x00" * 5000, b"\x80" * 30, b"\xff" * 9 + b"\x7f", b"\x0b\x0c", b"\x0b" * 1000, b"\x0f\x00", b"\x00\x00"),
    *(_bytes(2**29 - 1, b"x"), _varint(1 << 3 | 2) + _varint(2**63), _varint(1 << 3 | 2) + _varint(2**31), b"\x0a\x7f"),
    *(
        _bytes(1, b"\xff\xfe"),
        b"\x09" + b"\xff" * 8,
        b"\x0d" + b"\xff" * 4,
        b"\x08" + b"\xff" * 9 + b"\x01",
        b"\x08\x80",
    ),
)
"""Wire types that do not exist or do not end, lengths beyond the end, text that is none, numbers beyond 64 bits."""


def _whole(strange: bytes, data: bytes, rng: random.Random) -> bytes:
    return MAGIC + rng.choice((strange, strange + data[4:], data[4:] + strange, _bytes(2, strange), _bytes(4, data)))


def _within(message: bytes, rng: random.Random, depth: int = 0) -> bytes:
    """The message with one of its fields changed, or one of a message in it."""
    fields = _split(message)
    if not fields:
        return rng.choice(_STRANGE)
    at = rng.randrange(len(fields))
    number, wire, content = fields[at]
    if wire == 2 and content and depth < 12 and rng.random() < 0.75:
        changed = _bytes(number, _within(content, rng, depth + 1))
    else:
        changed = _another(number, wire, content, rng)
    return b"".join(changed if n == at else _again(*f) for n, f in enumerate(fields))


def _another(number: int, wire: int, content: bytes, rng: random.Random) -> bytes:
    same = _again(number, wire, content)
    nested = content
    for _ in range(rng.choice((3, 200))):
        nested = _bytes(number, nested)
    choices = (
        *(b"", same + same, same * 300, rng.choice(_STRANGE), same + rng.choice(_STRANGE), nested),
        *(
            _bytes(number, content * 1000),
            _bytes(number, b""),
            _varint(number << 3) + b"\x05",
            _bytes(number + 1, content),
        ),
        *(_varint(number << 3 | 1) + b"\0" * 8, _bytes(number, content + b"\xff"), _bytes(number, content[:-1])),
    )
    return rng.choice(choices)


def _again(number: int, wire: int, content: bytes) -> bytes:
    return _bytes(number, content) if wire == 2 else _varint(number << 3 | wire) + content


def _split(message: bytes) -> list[tuple[int, int, bytes]]:
    """Number, wire type and content of each field; none where it is no message."""
    found: list[tuple[int, int, bytes]] = []
    at = 0
    while at < len(message):
        key, at = _read(message, at)
        wire = key & 7
        start = at
        if wire == 0:
            _, at = _read(message, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, start = _read(message, at)
            at = start + size
        if wire not in (0, 1, 2, 5) or at > len(message) or not key >> 3:
            return []
        found.append((key >> 3, wire, message[start:at]))
    return found


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not message[at - 1] & 0x80:
            return value, at
    return value, len(message) + 1

"""The types of CEL, as the checker compares and prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Type:
    """`name` with parameters (`list(int)`). A name in capitals (`A`) is a parameter of a function's signature."""

    name: str
    parts: tuple[Type, ...] = ()
    fields: Mapping[str, Type] = field(default_factory=dict[str, "Type"], compare=False)
    """Of objects: what they have; compared by name."""
    size: int = field(default=0, compare=False)
    """The most characters, items or members that a value can have by its schema; of other types 0."""
    smallest: int = field(default=1, compare=False)
    """The fewest bytes of JSON that a value takes."""

    @property
    def is_object(self) -> bool:
        return self.name.startswith("object")

    def __str__(self) -> str:
        if self.is_object:
            return self.name.partition(":")[2] or "object"
        if not self.parts:
            return "null" if self.name == "null_type" else self.name
        return f"{self.name}({', '.join(map(str, self.parts))})"


BOOL: Final = Type("bool", smallest=4)
INT: Final = Type("int")
UINT: Final = Type("uint")
DOUBLE: Final = Type("double")
STRING: Final = Type("string", smallest=2)
BYTES: Final = Type("bytes", smallest=2)
NULL: Final = Type("null_type", smallest=4)
DYN: Final = Type("dyn")
DURATION: Final = Type("google.protobuf.Duration")
TIMESTAMP: Final = Type("google.protobuf.Timestamp")
TYPE: Final = Type("type")


def list_of(element: Type, size: int = 0) -> Type:
    return Type("list", (element,), size=size, smallest=2)


def map_of(key: Type, value: Type, size: int = 0) -> Type:
    return Type("map", (key, value), size=size, smallest=2)


def optional_of(inner: Type) -> Type:
    return Type("optional_type", (inner,))


def object_of(name: str, fields: Mapping[str, Type], smallest: int = 2) -> Type:
    return Type(f"object:{name}", fields=fields, smallest=smallest)


Bindings = dict[str, Type]


def fits(wanted: Type, given: Type, bindings: Bindings) -> bool:
    """Whether a value of one type can stand where another is wanted; binds the parameters of a signature."""
    if len(wanted.name) == 1:
        bound = bindings.get(wanted.name)
        if bound is None or bound == DYN:
            bindings[wanted.name] = given
            return True
        return fits(bound, given, bindings)
    if DYN in (wanted, given) or (len(given.name) == 1):
        return True
    if given == NULL and (wanted.is_object or wanted in (DURATION, TIMESTAMP)):
        return True
    if wanted.name != given.name or len(wanted.parts) != len(given.parts):
        return False
    return all(fits(w, g, bindings) for w, g in zip(wanted.parts, given.parts, strict=True))


def bound(type_: Type, bindings: Bindings) -> Type:
    """A signature's result with its parameters filled in."""
    if len(type_.name) == 1:
        return bindings.get(type_.name, DYN)
    if not type_.parts:
        return type_
    return Type(type_.name, tuple(bound(part, bindings) for part in type_.parts), size=type_.size)


_SHORT: Final = {
    "int": INT,
    "uint": UINT,
    "double": DOUBLE,
    "bool": BOOL,
    "string": STRING,
    "bytes": BYTES,
    "null": NULL,
    "dyn": DYN,
    "duration": DURATION,
    "timestamp": TIMESTAMP,
    "type": TYPE,
}


def parse_type(text: str) -> Type:
    """A type in the notation of the library's tables: `list<A>`, `map<K,V>`, `?A` (optional), `Quantity`."""
    if text.startswith("?"):
        return optional_of(parse_type(text[1:]))
    if text.startswith("list<"):
        return list_of(parse_type(text[5:-1]))
    if text.startswith("map<"):
        key, _, value = text[4:-1].partition(",")
        return map_of(parse_type(key), parse_type(value))
    return _SHORT.get(text) or Type(text)

"""The values of CEL that Python has none of, and what holds between values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, cast


class CelError(Exception):
    """An evaluation without a value; the message is cel-go's."""


class UInt(int):
    """An unsigned integer."""


@dataclass(frozen=True, slots=True)
class Optional:
    """`optional.of(value)`, or none."""

    value: Any = None
    present: bool = False


@dataclass(frozen=True, slots=True)
class Quantity:
    amount: Fraction
    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and other.amount == self.amount

    def __hash__(self) -> int:
        return hash(self.amount)


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value of one of Kubernetes' own types (`net.IP`, `kubernetes.URL`, `kubernetes.Semver`)."""

    type: str
    value: Any


def no_key(name: str) -> CelError:
    return CelError(f"no such key: {name}")


def no_overload() -> CelError:
    return CelError("no such overload")


def equal(one: Any, other: Any) -> bool:
    """CEL's equality: numbers by value, whatever their type; a boolean is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        left, right = cast("list[Any]", one), cast("list[Any]", other)
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(one, dict) and isinstance(other, dict):
        first, second = cast("dict[Any, Any]", one), cast("dict[Any, Any]", other)
        return first.keys() == second.keys() and all(equal(value, second[key]) for key, value in first.items())
    if isinstance(one, Optional) and isinstance(other, Optional):
        return one.present == other.present and (not one.present or equal(one.value, other.value))
    return bool(one == other)


def type_name(value: Any) -> str:
    """The name of the type that a value has when it runs."""
    match value:
        case None:
            return "null_type"
        case bool():
            return "bool"
        case UInt():
            return "uint"
        case int():
            return "int"
        case float():
            return "double"
        case str():
            return "string"
        case bytes():
            return "bytes"
        case list():
            return "list"
        case dict():
            return "map"
        case datetime():
            return "google.protobuf.Timestamp"
        case timedelta():
            return "google.protobuf.Duration"
        case Optional():
            return "optional"
        case Quantity():
            return "kubernetes.Quantity"
        case Opaque():
            return value.type
        case _:
            return "dyn"

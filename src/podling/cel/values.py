"""The values of CEL that Python has none of, and what holds between values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, cast

PER_CALL: Final = 1_000_000
"""What one evaluation may cost (`PerCallLimit`)."""
_LONGEST_WHOLE: Final = 6
"""A number that is longer has an exponent in a text."""
BUDGET: Final = 10_000_000
"""What all evaluations for one object, or of one policy, may cost together (`RuntimeCELCostBudget`)."""


class EvaluationError(Exception):
    """An evaluation without a value; the message is that of cel-go or Kubernetes."""


class CelError(EvaluationError):
    """No value, of this expression or a part of it: where the rest decides, it does not matter."""


class CostExceeded(EvaluationError):
    """The evaluation was ended, because it took too long; nothing in it can make up for that."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class OutOfBudget(EvaluationError):
    """Evaluations together took too long: no more is asked."""

    def __init__(self) -> None:
        super().__init__("validation failed due to running out of cost budget, no further validation rules will be run")


class Meter:
    """What one evaluation may still cost, in cel-go's units; a step of an expression is about one."""

    def __init__(self, limit: float = PER_CALL) -> None:
        self.limit = limit
        self.spent = 0.0

    def spend(self, cost: float) -> None:
        """Raises CostExceeded."""
        self.spent += cost
        if self.spent > self.limit:
            raise CostExceeded


class Budget:
    """What evaluations may still cost together."""

    def __init__(self, limit: float = BUDGET) -> None:
        self.left = limit

    def spend(self, cost: float) -> None:
        """Raises OutOfBudget."""
        self.left -= cost
        if self.left < 0:
            raise OutOfBudget


class UInt(int):
    """An unsigned integer."""


@dataclass(frozen=True, slots=True)
class Optional:
    """`optional.of(value)`, or none."""

    value: Any = None
    present: bool = False


@dataclass(frozen=True, slots=True)
class TypeValue:
    """`int`, `type(1)`: a type as a value."""

    name: str


@dataclass(frozen=True, slots=True)
class Quantity:
    amount: Fraction
    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and other.amount == self.amount

    def __hash__(self) -> int:
        return hash(self.amount)


class Struct(dict[str, Any]):
    """An object that an expression has made, `Object.spec{replicas: 1}`, with the name of its type."""

    def __init__(self, type: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.type = type


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value of one of Kubernetes' own types (`net.IP`, `kubernetes.URL`, `kubernetes.Semver`)."""

    type: str
    value: Any


class SetItems(list[Any]):
    """A list that is a set: the order of its items means nothing."""

    def __add__(self, other: Any) -> SetItems:
        return SetItems([*self, *(item for item in other if not contains(item, self))])


class KeyedItems(list[Any]):
    """A list of objects that are told apart by some of their fields; their order means nothing."""

    def __init__(self, items: Iterable[Any], keys: Sequence[str]) -> None:
        super().__init__(items)
        self.keys = keys

    def key(self, item: Any) -> tuple[Any, ...]:
        return tuple(item.get(key) for key in self.keys) if isinstance(item, dict) else (item,)  # type: ignore[union-attr]

    def __add__(self, other: Any) -> KeyedItems:
        """The items of both; an item of the other takes the place of the one with the same keys."""
        items = {self.key(item): item for item in self}
        items |= {self.key(item): item for item in other}
        return KeyedItems(items.values(), self.keys)


def no_key(name: str) -> CelError:
    return CelError(f"no such key: {name}")


def no_overload() -> CelError:
    return CelError("no such overload")


def equal(one: Any, other: Any) -> bool:
    """CEL's equality: numbers by value, whatever their type; a boolean is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, SetItems) and isinstance(other, list):
        others = cast("list[Any]", other)
        return len(one) == len(others) and all(contains(item, one) for item in others)
    if isinstance(one, KeyedItems) and isinstance(other, list):
        items = {one.key(item): item for item in one}
        others = cast("list[Any]", other)
        return len(items) == len(others) and all(equal(items.get(one.key(item)), item) for item in others)
    if isinstance(one, list) and isinstance(other, list):
        left, right = cast("list[Any]", one), cast("list[Any]", other)
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(one, dict) and isinstance(other, dict):
        first, second = cast("dict[Any, Any]", one), cast("dict[Any, Any]", other)
        return first.keys() == second.keys() and all(equal(value, second[key]) for key, value in first.items())
    if isinstance(one, Optional) and isinstance(other, Optional):
        return one.present == other.present and (not one.present or equal(one.value, other.value))
    return bool(one == other)


def contains(item: Any, items: Iterable[Any]) -> bool:
    return any(equal(item, other) for other in items)


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
        case Struct():
            return value.type
        case dict():
            return "map"
        case datetime():
            return "google.protobuf.Timestamp"
        case timedelta():
            return "google.protobuf.Duration"
        case Optional():
            return "optional_type"
        case TypeValue():
            return "type"
        case Quantity():
            return "kubernetes.Quantity"
        case Opaque():
            return value.type
        case _:
            return "dyn"


def to_string(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return _decoded(value)
        case float():
            return go_float(value)
        case datetime():
            return _go_time(value)
        case timedelta():
            return f"{value.total_seconds():.9f}".rstrip("0").rstrip(".") + "s"
        case Quantity():
            return value.text
        case TypeValue():
            return value.name
        case Opaque():
            return str(value.value)
        case _:
            return str(value)


def _go_time(moment: datetime) -> str:
    day, _, rest = moment.isoformat().partition("T")
    clock, zone = rest[:-6], rest[-6:].replace("+00:00", "Z")
    return f"{day}T{clock.rstrip('0') if '.' in clock else clock}{zone}"


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None


def go_float(value: float) -> str:
    """A number as Go's `%g` shows it: `0.1`, `1e+06`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    exact = Decimal(repr(value)).normalize()
    exponent = exact.adjusted()
    if -4 <= exponent < _LONGEST_WHOLE or not exact:
        return f"{exact:f}"
    sign, digits, _ = exact.as_tuple()
    first, *others = map(str, digits)
    return f"{'-' * sign}{first}{'.' * bool(others)}{''.join(others)}e{exponent:+03}"

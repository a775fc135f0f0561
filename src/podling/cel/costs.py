"""What expressions cost, in cel-go's units: something looked at is one, a text walked over a tenth for each character.

There are two of each rule: what a step costs at most, from the sizes that a schema allows, and what it does cost with
the values that it got. Most functions look at all of what they are given, and then the two are one formula over sizes
(cel-go's `checker/cost.go`, `interpreter/runtimecost.go`, `ext/`; `k8s.io/apiserver/pkg/cel/library/cost.go`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from podling.cel.authorization import CHECK_COST
from podling.cel.values import Opaque, Optional, type_name

UNKNOWN: Final = 2**64 - 1
"""The size of what no schema bounds, and the most that anything costs."""
LIST, MAP, STRUCT = 10, 30, 40
"""What it costs to make one."""
_WALK: Final = 0.1
_PATTERN: Final = 0.25
_NEW_LIST: Final = 1 + LIST
_SELECTOR: Final = LIST + STRUCT


class Size(NamedTuple):
    """How many characters, items or members a value has, at least and at most."""

    least: int
    most: int

    def __add__(self, other: Any) -> Size:
        return Size(self.least + other.least, plus(self.most, other.most))

    def joined(self, other: Size) -> Size:
        """Of one value or the other."""
        return Size(min(self.least, other.least), max(self.most, other.most))


ANY_SIZE: Final = Size(0, UNKNOWN)
ONE: Final = Size(1, 1)


def plus(*costs: int) -> int:
    return min(sum(costs), UNKNOWN)


def times(count: int, cost: int) -> int:
    return min(count * cost, UNKNOWN)


def walk(size: int, factor: float = _WALK) -> int:
    """What it costs to look at all of something once."""
    return min(math.ceil(size * factor), UNKNOWN)


# The formulas over the sizes of what a function is given, first what it is called on

Formula = Callable[[Sequence[int]], int]


def _searched(sizes: Sequence[int]) -> int:
    return times(walk(sizes[0] + 1), walk(sizes[1], _PATTERN))


def _selected(sizes: Sequence[int]) -> int:
    return plus(LIST, walk(sizes[1]), walk(walk(sizes[1], 0.5), _SELECTOR))


def _once(factor: float = _WALK) -> Formula:
    return lambda sizes: walk(sizes[0], factor)


def _each_with_each(factor: int) -> Formula:
    return lambda sizes: plus(1, times(factor, times(sizes[0], sizes[1])))


_BY_NAME: Final[dict[str, Formula]] = {
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim", "jsonpatch.escapeKey"), _once()),
    **dict.fromkeys(("cidr", "ip", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _once()),
    **dict.fromkeys(("replace", "split", "ip.isCanonical"), _once(2 * _WALK)),
    **dict.fromkeys(("find", "findAll"), _searched),
    **dict.fromkeys(("fieldSelector", "labelSelector"), _selected),
    **dict.fromkeys(("sets.contains", "sets.intersects"), _each_with_each(1)),
    "sets.equivalent": _each_with_each(2),
    "check": lambda _sizes: CHECK_COST,
}
"""Kubernetes' own functions, whatever they are given."""
_BY_TYPE: Final[dict[tuple[str, str], Formula]] = {
    # cel-go's, where their kinds are known: the name, and the type of the first (of `@in`: the second) of them.
    ("matches", "string"): _searched,
    ("contains", "string"): lambda sizes: times(walk(sizes[0]), walk(sizes[1])),
    ("format", "string"): _once(),
    ("strings.quote", "string"): _once(),
    ("bytes", "string"): _once(),
    ("string", "bytes"): _once(),
    ("@in", "list"): lambda sizes: sizes[1],
    ("_+_", "string"): lambda sizes: walk(plus(*sizes)),
    ("_+_", "bytes"): lambda sizes: walk(plus(*sizes)),
    ("reverse", "list"): lambda sizes: plus(sizes[0], _NEW_LIST),
}
_ORDERED: Final = frozenset({"_<_", "_<=_", "_>_", "_>=_"})
EQUAL: Final = frozenset({"_==_", "_!=_"})
_OVER_ITEMS: Final = frozenset({"isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"})
_SORTS: Final = frozenset({"sort", "@sortByAssociatedKeys"})
_TEXTS: Final = ("string", "bytes")
_ADDRESSES: Final = ("net.IP", "net.CIDR")
_ADDRESS_SIZE: Final = 16
_FORMATTED: Final = 64
_FORMAT_PATTERN: Final = 128


def _formula(name: str, kinds: Sequence[str]) -> Formula | None:
    """`kinds` are the types of the parameters, first what it is called on."""
    if name == "ip" and kinds == ["net.CIDR"]:
        return None
    if name in _ORDERED and kinds[0] in _TEXTS:
        return lambda sizes: walk(min(sizes))
    if name == "matches" and len(kinds) != 2:
        return None
    return _BY_NAME.get(name) or _BY_TYPE.get((name, kinds[1] if name == "@in" else kinds[0] if kinds else ""))


# What a call costs at most


@dataclass(slots=True)
class Operand:
    """What is known of something that a function is given, before there are values."""

    kind: str
    size: Size
    item: tuple[str, Size] | None = None
    """Of a list: the type and size of its items."""
    constant: Any = None


def estimate(name: str, kinds: Sequence[str], operands: Sequence[Operand]) -> tuple[int, Size | None]:
    """What a call costs at most beside its operands, and how large its result may be."""
    sizes = [operand.size.most for operand in operands]
    return _estimate_special(name, kinds, operands) or (
        (formula(sizes) if (formula := _formula(name, kinds)) else 1),
        _result_size(name, kinds, operands),
    )


def _estimate_special(name: str, kinds: Sequence[str], operands: Sequence[Operand]) -> tuple[int, Size | None] | None:
    most = operands[0].size.most if operands else 0
    match name:
        case "_==_" | "_!=_":
            return _equality(name, operands), None
        case "startsWith" | "endsWith":
            return walk(operands[1].size.most), None
        case "join":
            return _joined(operands)
        case "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf":
            item = operands[0].item
            if item is None:
                return walk(most), None
            return times(most, 1 + (walk(item[1].most) if item[0] in _TEXTS else 0)), None
        case "validate":
            return walk(walk(operands[1].size.most), _FORMAT_PATTERN * _PATTERN), None
        case "containsIP" | "containsCIDR":
            nets = walk(2 * _ADDRESS_SIZE) + (walk(_ADDRESS_SIZE) + 1 if name == "containsCIDR" else 0)
            return plus(nets, walk(operands[1].size.most) if kinds[1] == "string" else 0), None
        case "slice":
            size = max(0, _whole(operands[2], most) - _whole(operands[1], 0))
            return plus(size, _NEW_LIST), Size(size, size)
        case "lists.range":
            size = _whole(operands[0], UNKNOWN)
            return plus(size, _NEW_LIST), Size(size, size)
        case "flatten":
            depth = _whole(operands[1], UNKNOWN) if len(operands) > 1 else 1
            return plus(times(most, depth), _NEW_LIST), operands[0].size
        case "distinct" | "sort" | "@sortByAssociatedKeys":
            keys = operands[-1]
            square = times(keys.size.most, keys.size.most)
            texts = name in _SORTS and keys.item is not None and keys.item[0] in _TEXTS
            return plus(walk(square, 2 + _WALK * texts), _NEW_LIST), Size(keys.size.least**2, square)
        case _:
            return None


def _whole(operand: Operand, otherwise: int) -> int:
    return max(0, operand.constant) if type(operand.constant) is int else otherwise


def _equality(name: str, operands: Sequence[Operand]) -> int:
    if name == "_==_" and operands[0].kind == operands[1].kind:
        kind = operands[0].kind
        if kind == "kubernetes.NamedFormat":
            return walk(_FORMATTED)
        if kind in _ADDRESSES or kind.startswith("kubernetes."):
            return 1
    return walk(min(operand.size.most for operand in operands))


def _joined(operands: Sequence[Operand]) -> tuple[int, Size]:
    count, item = operands[0].size, operands[0].item
    size = Size(count.least * item[1].least, times(count.most, item[1].most)) if item else Size(0, 0)
    if len(operands) > 1:
        between = operands[1].size
        size += Size(max(0, count.least - 1) * between.least, times(max(0, count.most - 1), between.most))
    return walk(size.most), size


def _result_size(name: str, kinds: Sequence[str], operands: Sequence[Operand]) -> Size | None:
    if not operands:
        return None
    size = operands[0].size
    match name:
        case "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" | "reverse":
            return size
        case "strings.quote":
            return Size(size.least + 2, plus(size.most, size.most, 2))
        case "bytes" if kinds[0] == "string":
            return Size(size.least, times(size.most, 4))
        case "string" if kinds[0] == "bytes":
            return Size(size.least // 4, size.most)
        case "_+_" if kinds[0] in ("string", "bytes", "list"):
            return size + operands[1].size
        case "find" | "findAll":
            return Size(0, size.most)
        case "split":
            return Size(0, _whole(operands[2], size.most) if len(operands) > 2 else size.most)
        case "replace":
            return _replaced(size, operands[1].size, operands[2].size)
        case _:
            return None


def _replaced(text: Size, old: Size, new: Size) -> Size:
    if old.least == 0:
        most = plus(times(plus(text.most, 1), new.most), text.most)
    elif new.most <= old.least:
        most = text.most
    else:
        most = times(math.ceil(text.most / old.least), new.most)
    if old.most == 0:
        least = (text.least + 1) * new.least + text.least
    elif old.most <= new.least:
        least = text.least
    else:
        least = math.ceil(text.least / old.most) * new.least
    return Size(min(least, UNKNOWN), most)


# What a call does cost

Charge = Callable[[Sequence[Any], Any], int]
"""Of the values that a function was given and the one that it gave."""


def charge(name: str, kinds: Sequence[str] | None) -> Charge | None:
    """What a function costs when it runs; `None`: one, always. Without `kinds` what it will be given is not known."""
    match name:
        case "startsWith" | "endsWith" if kinds is not None:
            return lambda values, _result: walk(size_of(values[0]))
        case "join":
            return lambda _values, result: walk(size_of(result), 2 * _WALK)
        case "validate":
            return lambda values, _result: times(walk(size_of(values[1]) + 1), walk(_pattern_size(values[0]), _PATTERN))
        case "containsIP" | "containsCIDR":
            return _compared_nets
        case "slice" | "lists.range":
            return lambda _values, result: size_of(result) + _NEW_LIST
        case "flatten":
            return lambda values, _r: size_of(values[0]) * (values[1] if len(values) > 1 else 1) + _NEW_LIST
        case "distinct" | "sort" | "@sortByAssociatedKeys":
            return lambda values, _result: _sorted(values[-1])
        case _ if name in _OVER_ITEMS:
            return lambda values, _result: _traversed(values[0])
        case _:
            formula = _BY_NAME.get(name) if kinds is None else _formula(name, kinds)
            if formula is None:
                return None
            return lambda values, _result: formula([size_of(value) for value in values])


def equality(one: Any, other: Any) -> int:
    """What it costs to compare two values."""
    if isinstance(one, Opaque):
        return 1
    return math.ceil(min(size_of(one), size_of(other)) * _WALK)


def size_of(value: Any) -> int:
    """What `size()` would tell, one for what has none."""
    if isinstance(value, str | bytes | list | dict):
        return len(cast("str | list[Any]", value))
    if isinstance(value, Opaque) and value.type in _ADDRESSES:
        bits = value.value.network.prefixlen if value.type == "net.CIDR" else value.value.max_prefixlen
        return -(-bits // 8)
    if isinstance(value, Optional) and value.present:
        return size_of(value.value)
    return 1


def _compared_nets(values: Sequence[Any], _result: Any) -> int:
    net, other = size_of(values[0]), values[1]
    cost = walk(2 * net)
    if isinstance(other, str):
        cost += walk(len(other))
    kind = "net.CIDR" if isinstance(other, str) else type_name(other)
    return cost + (walk(net) + 1 if kind == "net.CIDR" else 0)


def _sorted(items: list[Any]) -> int:
    texts = bool(items) and isinstance(items[0], str | bytes)
    return int(len(items) ** 2 * (2 + _WALK * texts)) + _NEW_LIST


def _traversed(value: Any) -> int:
    match value:
        case str():
            return int(len(value.encode("utf-8", "replace")) * _WALK)
        case bytes():
            return int(len(value) * _WALK)
        case list():
            return sum(map(_traversed, cast("list[Any]", value)))
        case dict():
            members = cast("dict[Any, Any]", value)
            return sum(_traversed(key) + _traversed(member) for key, member in members.items())
        case _:
            return 1


_PATTERN_SIZES: Final = {
    # How long the longest regular expression of a format is taken to be (`library/format.go`).
    "dns1123Label": 30,
    "dns1123Subdomain": 60,
    "dns1035Label": 30,
    "qualifiedName": 60,
    "dns1123LabelPrefix": 30,
    "dns1123SubdomainPrefix": 60,
    "dns1035LabelPrefix": 30,
    "labelValue": 40,
}


def _pattern_size(named_format: Opaque) -> int:
    return _PATTERN_SIZES.get(named_format.value, _FORMAT_PATTERN)

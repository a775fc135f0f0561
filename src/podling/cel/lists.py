"""The functions of lists, sets and optional values: cel-go's extensions, and Kubernetes' own."""

# The functions of the table are one-line lambdas over values that the checker has typed already.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, cast

from podling.cel.standard import ranged
from podling.cel.values import PER_CALL, CelError, CostExceeded, Optional, UInt, contains, equal, type_name


def _sum_from(nothing: Any) -> Callable[[list[Any]], Any]:
    def compute(items: list[Any]) -> Any:
        total = sum(items, nothing)
        return ranged(total, isinstance(nothing, UInt)) if isinstance(nothing, int) else total

    return compute


def _extreme(choose: Callable[..., Any], name: str) -> Callable[[list[Any]], Any]:
    def compute(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        return choose(items)

    return compute


def _first_at(items: list[Any], value: Any) -> int:
    return next((at for at, item in enumerate(items) if equal(item, value)), -1)


def _last_at(items: list[Any], value: Any) -> int:
    return next((at for at in range(len(items) - 1, -1, -1) if equal(items[at], value)), -1)


def _is_sorted(items: list[Any]) -> bool:
    return all(a <= b for a, b in pairwise(items))


def _value(optional: Optional) -> Any:
    if not optional.present:
        raise CelError("optional.none() dereference")
    return optional.value


_NOTHINGS: Final = (0, "", None, [], {}, b"", timedelta(), datetime(1, 1, 1, tzinfo=UTC))


def _non_zero(value: Any) -> Optional:
    return Optional(value, True) if value not in _NOTHINGS else Optional()


def _unwrapped(items: list[Optional]) -> list[Any]:
    return [item.value for item in items if item.present]


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    found: list[Any] = []
    for item in items:
        if isinstance(item, list) and depth:
            found += _flatten(cast("list[Any]", item), depth - 1)
        else:
            found.append(item)
    return found


def _range(count: int) -> list[int]:
    if count > PER_CALL:
        raise CostExceeded
    return list(range(count))


def _distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not contains(item, found):
            found.append(item)
    return found


def _sorted_by(items: list[Any], keys: list[Any]) -> list[Any]:
    if len({type_name(key) for key in keys}) > 1:
        raise CelError("list elements must have the same type")
    return [items[at] for at in sorted(range(len(items)), key=keys.__getitem__)]


_SUMMABLE: Final = {"int": 0, "uint": UInt(0), "double": 0.0, "duration": timedelta()}
"""Each with the sum of none."""
_COMPARABLE: Final = (*_SUMMABLE, "bool", "timestamp", "string", "bytes")


def overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    for kind in _COMPARABLE:
        yield f"list<{kind}>.isSorted() bool", _is_sorted
        yield f"list<{kind}>.min() {kind}", _extreme(min, "min")
        yield f"list<{kind}>.max() {kind}", _extreme(max, "max")
        yield f"list<{kind}>.sort() list<{kind}>", sorted
        yield f"list<A>.@sortByAssociatedKeys(list<{kind}>) list<A>", _sorted_by
    for kind, nothing in _SUMMABLE.items():
        yield f"list<{kind}>.sum() {kind}", _sum_from(nothing)
    yield "list<A>.indexOf(A) int", _first_at
    yield "list<A>.lastIndexOf(A) int", _last_at
    yield "list<A>.slice(int, int) list<A>", _slice
    yield "list<list<A>>.flatten() list<A>", _flatten
    yield "list<dyn>.flatten(int) list<dyn>", _flatten
    yield "list<A>.reverse() list<A>", lambda a: a[::-1]
    yield "list<A>.distinct() list<A>", _distinct
    yield "lists.range(int) list<int>", _range
    yield "sets.contains(list<A>, list<A>) bool", lambda a, b: all(contains(item, a) for item in b)
    yield (
        "sets.equivalent(list<A>, list<A>) bool",
        lambda a, b: all(contains(item, a) for item in b) and all(contains(item, b) for item in a),
    )
    yield "sets.intersects(list<A>, list<A>) bool", lambda a, b: any(contains(item, a) for item in b)
    yield from _optional_overloads()


def _optional_overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    yield "optional.of(A) ?A", lambda a: Optional(a, True)
    yield "optional.ofNonZeroValue(A) ?A", _non_zero
    yield "optional.none() ?A", Optional
    yield "optional.unwrap(list<?A>) list<A>", _unwrapped
    yield "list<?A>.unwrapOpt() list<A>", _unwrapped
    yield "list<A>.first() ?A", lambda a: Optional(a[0], True) if a else Optional()
    yield "list<A>.last() ?A", lambda a: Optional(a[-1], True) if a else Optional()
    yield "?A.hasValue() bool", lambda a: a.present
    yield "?A.value() A", _value
    yield "?A.or(?A) ?A", lambda a, b: a if a.present else b
    yield "?A.orValue(A) A", lambda a, b: a.value if a.present else b

"""Macros over collections: `all`, `exists`, `map`, `filter` and their kin, as cel-go unfolds them.

Each is a loop that builds a result up. It has the prices of that loop, though it runs as something simpler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from podling.cel.access import Environment, Run, boolean
from podling.cel.costs import LIST, MAP, ONE, Size, plus, times
from podling.cel.parts import Part
from podling.cel.types import BOOL, DYN, INT, Type, list_of, map_of, optional_of
from podling.cel.values import CelError, Optional, no_overload

METER: Final = ""
"""The name, which no variable can have, of the meter among the values."""
QUANTIFIERS: Final = ("all", "exists", "exists_one", "existsOne", "filter")
_CONDITION: Final = {"all": 2, "exists": 3}
"""What looking costs whether the loop may end."""
_ADD: Final = 12
"""What it costs to add an item to the list so far, beside the item."""
_COUNT: Final = 2
_INSERT: Final = {"transformMap": 3, "transformMapEntry": 2}


class Local(NamedTuple):
    """A variable of a macro: the way to its value, and its size where the expression tells that."""

    path: tuple[str, ...]
    size: Size | None


def scope(items: Part, called: Sequence[str], types: Sequence[Type]) -> dict[str, tuple[Type, Local]]:
    """The variables of a macro over a collection."""
    is_list = items.type.name == "list"
    key = Local((*items.path, "@indices" if is_list else "@keys"), items.keys)
    member = Local((*items.path, "@items" if is_list else "@values"), items.items)
    found = [key, member] if len(called) == 2 else [member if is_list else key]
    return dict(zip(called, zip(types, found, strict=True), strict=True))


def fold(name: str, called: tuple[str, ...], items: Part, bodies: Sequence[Part], size: Size, each: Size) -> Part:
    """`size` is that of the collection, `each` that of what the last of the bodies gives."""
    body, test = bodies[-1], bodies[0] if len(bodies) == 2 else None
    test_cost = test.cost if test else 0

    def made(type_: Type, run: Run, step: int, more: int, new: int = 0) -> Part:
        cost = plus(items.cost, new, times(size.most, step), more)
        return Part(type_, run, cost, items.own + more)

    match name:
        case "all" | "exists":
            again = _CONDITION[name]
            run = _quantified(items.run, called, body.run, body.own + 1 + again, again, decides=name == "exists")
            part = made(BOOL, run, plus(body.cost, 1 + again), 1)
            part.size = ONE
            return part
        case "exists_one" | "existsOne":
            chosen = _chosen(_rounds(items.run, called, body.own), body.run, _COUNT)
            part = made(BOOL, lambda env: sum(1 for _ in chosen(env)) == 1, plus(body.cost, _COUNT), 2)
            part.size = ONE
            return part
        case "filter":
            chosen = _chosen(_rounds(items.run, called, body.own), body.run, _ADD + 1)
            last = called[-1]
            element = items.type.parts[0] if items.type.parts else DYN
            filtered: Run = lambda env: [inner[last] for inner in chosen(env)]  # noqa: E731  a closure among others
            part = made(list_of(element), filtered, plus(body.cost, _ADD + 1), 1, LIST)
            part.size, part.items, part.keys = size, items.items, ONE
            return part
        case "map" | "transformList":
            chosen = _steps(items.run, called, test, _ADD + body.own)
            mapped: Run = lambda env: [body.run(inner) for inner in chosen(env)]  # noqa: E731  as above
            part = made(list_of(body.type), mapped, plus(test_cost, body.cost, _ADD), 1, LIST)
            part.size, part.items, part.keys = size, each, ONE
            return part
        case _:
            chosen = _steps(items.run, called, test, _INSERT[name] + body.own)
            keys = items.type.parts[0] if items.type.name == "map" else INT
            type_ = map_of(keys, body.type) if name == "transformMap" else body.type
            run = _inserting(chosen, body.run, called[0] if name == "transformMap" else None)
            part = made(type_, run, plus(test_cost, body.cost, _INSERT[name]), 1, MAP)
            part.size = size
            return part


def optional_map(target: Part, body: Part, called: str, *, flat: bool) -> Part:
    """`optMap`, and with `flat` `optFlatMap`, whose body gives an optional value itself."""
    run, inner = target.run, body.run
    none, some = 1, target.own + 1 + body.own + (0 if flat else 1)

    def mapped(env: Environment) -> Any:
        value = run(env)
        if not value.present:
            env[METER].spent += none
            return Optional()
        env[METER].spent += some
        result = inner({**env, called: value.value})
        return result if flat else Optional(result, True)

    type_ = body.type if flat else optional_of(body.type)
    bind = plus(LIST, target.cost, 1, body.cost, 0 if flat else 1)
    return Part(type_, mapped, plus(target.cost, 1, max(bind, 1)), target.own + 1)


# At work

Each = Callable[[Environment], Iterator[Environment]]


def _pairs(values: Any, called: tuple[str, ...]) -> Iterable[tuple[Any, Any]]:
    if isinstance(values, dict):
        members = cast("dict[Any, Any]", values)
        return members.items() if len(called) == 2 else ((key, key) for key in members)
    if isinstance(values, list):
        return enumerate(cast("list[Any]", values))
    raise no_overload()


def _rounds(items: Run, called: tuple[str, ...], cost: int) -> Each:
    """The variables in each round, each of which costs so much; they are changed from round to round."""

    def rounds(env: Environment) -> Iterator[Environment]:
        pairs = _pairs(items(env), called)
        spend = env[METER].spend
        first, last = called[0], called[-1]
        inner = {**env}
        for key, value in pairs:
            spend(cost)
            inner[first] = key
            inner[last] = value
            yield inner

    return rounds


def _chosen(each: Each, test: Run, cost: int) -> Each:
    """The rounds in which something holds, which costs so much more."""

    def chosen(env: Environment) -> Iterator[Environment]:
        for inner in each(env):
            if boolean(test(inner)):
                env[METER].spent += cost
                yield inner

    return chosen


def _steps(items: Run, called: tuple[str, ...], test: Part | None, cost: int) -> Each:
    if test is None:
        return _rounds(items, called, cost)
    return _chosen(_rounds(items, called, test.own), test.run, cost)


def _quantified(items: Run, called: tuple[str, ...], test: Run, cost: int, again: int, *, decides: bool) -> Run:
    """`all` and `exists`: an error counts only where no other item decides."""

    def run(env: Environment) -> bool:
        failed: CelError | None = None
        values = items(env)
        pairs = _pairs(values, called)
        left = len(values)
        meter = env[METER]
        first, last = called[0], called[-1]
        inner = {**env}
        for key, value in pairs:
            meter.spend(cost)
            left -= 1
            inner[first] = key
            inner[last] = value
            try:
                if boolean(test(inner)) is decides:
                    meter.spent += again if left else 0
                    return decides
            except CelError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not decides

    return run


def _inserting(chosen: Each, body: Run, key: str | None) -> Run:
    """`transformMap` under the keys that are there, `transformMapEntry` (without `key`) under new ones."""

    def run(env: Environment) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for inner in chosen(env):
            made: Mapping[Any, Any] = {inner[key]: body(inner)} if key is not None else body(inner)
            for name in made:
                if name in result:
                    raise CelError(f"insert failed: key {name} already exists")
            result.update(made)
        return result

    return run

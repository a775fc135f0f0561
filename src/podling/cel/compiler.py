"""Checks an expression and makes it a closure; estimates what evaluating it may cost.

Each part becomes a function of the variables. Types are checked as far as they are known; where something is `dyn` the
choice among overloads waits until values are there. Costs follow cel-go's estimator: what is looked at once costs one,
what walks over a text a tenth for each character, what walks over a collection as often as it may have items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from podling.cel import library
from podling.cel.library import Overload
from podling.cel.syntax import RESERVED, TOO_DEEP, CompileError, Node, Problem, parse, qualified_name
from podling.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    UINT,
    Bindings,
    Type,
    bound,
    fits,
    joined,
    list_of,
    map_of,
    optional_of,
)
from podling.cel.values import (
    Budget,
    CelError,
    CostExceeded,
    EvaluationError,
    Meter,
    Optional,
    Struct,
    UInt,
    no_key,
    no_overload,
)

Environment = Mapping[str, Any]
Run = Callable[[Environment], Any]

MAX_REQUEST: Final = 3 * 1024 * 1024
"""Bytes of a request: what bounds collections whose size the schema leaves open."""
_UNLIMITED: Final = 2**63
_TEXT_COST: Final = 0.1
_LIST_COST, _MAP_COST, _STRUCT_COST = 10, 30, 40
METER: Final = ""
"""The name, which no variable can have, of the meter among the values."""


@dataclass(slots=True)
class Part:
    """A compiled part: its type, how to compute it, and the most it may cost."""

    type: Type
    run: Run
    cost: float = 0
    size: int = 1
    own: float = -1
    """What it costs when it runs, without what depends on values: that is charged where it comes up."""

    def __post_init__(self) -> None:
        if self.own < 0:
            self.own = self.cost


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression."""

    source: str
    type: Type
    evaluate: Run
    cost: int
    """The most that it may cost, as estimated."""
    own: float
    names: frozenset[str]
    """The variables that it uses."""

    def run(self, values: Environment, budget: Budget | None = None) -> Any:
        """The value, and what it cost charged to the budget. Raises EvaluationError."""
        meter = Meter()
        try:
            meter.spend(self.own)
            return self.evaluate({**values, METER: meter})
        except CostExceeded:
            budget = None  # the expression is to blame, not those before it
            raise
        except RecursionError:
            raise EvaluationError(TOO_DEEP.message) from None  # also values can be too deep to be compared
        finally:
            if budget is not None:
                budget.spend(meter.spent)


def compile_expression(source: str, variables: Mapping[str, Type], *, makes: bool = False) -> Program:
    """With `makes` an expression may make objects: `Object.spec{replicas: 1}`, `JSONPatch{op: "test"}`.

    Raises CompileError.
    """
    compiler = _Compiler(source, variables, makes)
    try:
        part = compiler.compile(parse(source))
    except RecursionError:
        raise CompileError(source, [TOO_DEEP]) from None
    if compiler.problems:
        raise CompileError(source, compiler.problems)
    cost = int(min(part.cost, _UNLIMITED))
    return Program(source, part.type, part.run, cost, part.own, frozenset(compiler.names))


def most_items(type_: Type) -> int:
    """How many items, members or characters a value may have."""
    if type_.size is not None:
        return type_.size
    match type_.name:
        case "list":
            return (MAX_REQUEST - 2) // (type_.parts[0].smallest + 1)
        case "map":
            return (MAX_REQUEST - 2) // (type_.parts[1].smallest + 4)
        case "string" | "bytes":
            return MAX_REQUEST - 2
        case "dyn":
            return MAX_REQUEST
        case _:
            return 1


_LITERALS: Final = {
    "int": INT,
    "uint": UINT,
    "double": DOUBLE,
    "bool": BOOL,
    "string": STRING,
    "bytes": BYTES,
    "null_type": NULL,
}
_TYPE_NAMES: Final = ("int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type", "dyn")
_NAMESPACED: Final = library.NAMESPACES | {"ip"}


class _Compiler:
    def __init__(self, source: str, variables: Mapping[str, Type], makes: bool) -> None:
        self._source = source
        self._variables = dict(variables)
        self._makes = makes
        self.problems: list[Problem] = []
        self.names: set[str] = set()

    def compile(self, node: Node) -> Part:
        return cast(Callable[[Node], Part], getattr(self, f"_{node.kind}"))(node)

    def _problem(self, node: Node, message: str) -> Part:
        self.problems.append(Problem(node.position, message))
        return Part(DYN, lambda _env: None)

    def _literal(self, node: Node) -> Part:
        kind, value = node.value
        constant = UInt(value) if kind == "uint" else value
        size = len(constant) if isinstance(constant, str | bytes) else 1
        return Part(_LITERALS[kind], lambda _env: constant, 0, size)

    def _name(self, node: Node, name: str = "") -> Part:
        name = name or cast(str, node.value)
        type_ = self._variables.get(name)
        if type_ is None:
            if name in _TYPE_NAMES:
                return Part(Type("type"), lambda _env: name)
            return self._problem(node, f"undeclared reference to '{name}' (in container '')")
        self.names.add(name)
        return Part(type_, lambda env: env[name], 1, most_items(type_))

    # Fields and items

    def _field(self, node: Node) -> Part:
        assert node.target is not None
        if (qualified := qualified_name(node)) in self._variables:
            return self._name(node, qualified)
        target = self.compile(node.target)
        wrapped = target.type.name == "optional"
        holder = target.type.parts[0] if wrapped else target.type
        found = self._field_type(holder, node)
        if found is None:
            return Part(DYN, lambda _env: None)
        name, type_ = found
        run = target.run
        if wrapped or node.optional:
            result = type_ if type_.name == "optional" else optional_of(type_)
            run = partial(_optional_field_of, run, name)
            return Part(result, run, target.cost + 1, most_items(type_), target.own + 1)
        run = target.run
        return Part(type_, lambda env: _field_of(run(env), name), target.cost + 1, most_items(type_), target.own + 1)

    def _field_type(self, holder: Type, node: Node) -> tuple[str, Type] | None:
        name = cast(str, node.value)
        if holder.is_object:
            if name in holder.fields:
                return _unescaped(name), holder.fields[name]
            self._problem(node, f"undefined field '{name}'")
            return None
        if holder.name == "map":
            return name, holder.parts[1]
        if holder == DYN or len(holder.name) == 1 or holder.name.partition(".")[0] == "Object":
            return name, DYN
        self._problem(node, f"type '{holder}' does not support field selection")
        return None

    def _has(self, node: Node) -> Part:
        assert node.target is not None
        target = self.compile(node.target)
        wrapped = target.type.name == "optional"
        found = self._field_type(target.type.parts[0] if wrapped else target.type, node)
        if found is None:
            return Part(BOOL, lambda _env: False)
        name, run = found[0], target.run
        return Part(BOOL, lambda env: _has_field(run(env), name), target.cost + 1, own=target.own)

    def _index(self, node: Node) -> Part:
        assert node.target is not None
        target, key = self.compile(node.target), self.compile(node.parts[0])
        wrapped = target.type.name == "optional"
        holder = Part(target.type.parts[0], target.run) if wrapped else target
        if not wrapped and not node.optional:
            return self._resolved(node, "_[_]", False, [target, key])
        element = self._resolved(node, "_[_]", False, [holder, key]).type
        run, at = target.run, key.run
        return Part(
            optional_of(element),
            lambda env: _optional_item(run(env), at(env)),
            target.cost + key.cost + 1,
            own=target.own + key.own + 1,
        )

    # Literals of collections

    def _list(self, node: Node) -> Part:
        parts = [self.compile(part) for part in node.parts]
        types = [_inner(p.type) if n.optional else p.type for p, n in zip(parts, node.parts, strict=True)]
        runs = [(part.run, item.optional) for part, item in zip(parts, node.parts, strict=True)]

        def run(env: Environment) -> Any:
            values: list[Any] = []
            for one, optional in runs:
                value = one(env)
                if not optional:
                    values.append(value)
                elif value.present:
                    values.append(value.value)
            return values

        cost, own = _sums(_LIST_COST, parts)
        return Part(list_of(joined(types), len(parts)), run, cost, len(parts), own)

    def _map(self, node: Node) -> Part:
        parts = [self.compile(part) for part in node.parts]
        keys, values = parts[::2], parts[1::2]
        pairs = [(key.run, value.run) for key, value in zip(keys, values, strict=True)]
        type_ = map_of(joined([k.type for k in keys]), joined([v.type for v in values]), len(keys))
        cost, own = _sums(_MAP_COST, parts)
        return Part(type_, lambda env: {key(env): value(env) for key, value in pairs}, cost, len(keys), own)

    def _struct(self, node: Node) -> Part:
        name, names = cast("tuple[str, tuple[str, ...]]", node.value)
        parts = [self.compile(part) for part in node.parts]
        fields = _struct_fields(name) if self._makes else None
        if fields is None:
            return self._problem(node, f"undeclared reference to '{name}' (in container '')")
        for at, (field, part) in enumerate(zip(names, parts, strict=True)):
            wanted = fields.get(field, fields.get("*"))
            given = _inner(part.type) if node.parts[at].optional else part.type
            if wanted is None:
                self._problem(node.parts[at], f"undefined field '{field}'")
            elif not fits(wanted, given, {}):
                words = f"expected type of field '{field}' is '{wanted}' but provided type is '{given}'"
                self._problem(node.parts[at], words)
        runs = [(f, part.run, item.optional) for f, part, item in zip(names, parts, node.parts, strict=True)]

        def run(env: Environment) -> Any:
            values = ((field, one(env), optional) for field, one, optional in runs)
            present = {f: v.value if optional else v for f, v, optional in values if not optional or v.present}
            return Struct(name, present)

        cost, own = _sums(_STRUCT_COST, parts)
        return Part(Type(name), run, cost, len(names), own)

    # Calls

    def _call(self, node: Node) -> Part:
        name = cast(str, node.value)
        special = _SPECIAL.get(name)
        if special is not None and node.target is None:
            return special(self, node)
        if node.target is not None and node.target.kind == "name" and node.target.value in _NAMESPACED:
            spaced = f"{node.target.value}.{name}"
            if (spaced, False) in library.functions() and (self._makes or not spaced.startswith("jsonpatch.")):
                return self._resolved(node, spaced, False, [self.compile(part) for part in node.parts])
        parts = [self.compile(part) for part in ((node.target,) if node.target else ()) + node.parts]
        return self._resolved(node, name, node.target is not None, parts)

    def _resolved(self, node: Node, name: str, on_value: bool, parts: list[Part]) -> Part:
        overloads = library.functions().get((name, on_value), [])
        if not overloads:
            return self._problem(node, f"undeclared reference to '{name}' (in container '')")
        types = [part.type for part in parts]
        chosen = [(overload, bindings) for overload in overloads if (bindings := _matches(overload, types)) is not None]
        if not chosen:
            shown = ", ".join(map(str, types[1:] if on_value else types))
            applied = f"{types[0]}.({shown})" if on_value else f"({shown})"
            return self._problem(node, f"found no matching overload for '{name}' applied to '{applied}'")
        results = [bound(overload.result, bindings) for overload, bindings in chosen]
        result = results[0] if all(one == results[0] for one in results) else DYN
        run = _call_of(name, [overload for overload, _ in chosen], [part.run for part in parts])
        cost, own = _sums(1, parts)
        kinds = [part.type.name for part in parts[:2]] or [""]
        walking = _walking_cost(name, [part.size for part in parts], kinds[0], kinds[-1])
        return Part(result, run, cost + walking, _result_size(name, result, parts), own)

    def _and(self, node: Node) -> Part:
        return self._logical(node, decides=False)

    def _or(self, node: Node) -> Part:
        return self._logical(node, decides=True)

    def _logical(self, node: Node, *, decides: bool) -> Part:
        left, right = (self.compile(part) for part in node.parts)
        if not (fits(BOOL, left.type, {}) and fits(BOOL, right.type, {})):
            shown = f"({left.type}, {right.type})"
            return self._problem(node, f"found no matching overload for '{node.value}' applied to '{shown}'")
        first, second = left.run, right.run

        def run(env: Environment) -> Any:
            try:
                value = _boolean(first(env))
            except CelError:
                if _boolean(second(env)) is decides:
                    return decides
                raise
            return value if value is decides else _boolean(second(env))

        return Part(BOOL, run, left.cost + right.cost + 1, own=left.own + right.own + 1)

    def _choice(self, node: Node) -> Part:
        condition, yes, no = (self.compile(part) for part in node.parts)
        if not fits(BOOL, condition.type, {}) or not (fits(yes.type, no.type, {}) or fits(no.type, yes.type, {})):
            shown = f"({condition.type}, {yes.type}, {no.type})"
            return self._problem(node, f"found no matching overload for '_?_:_' applied to '{shown}'")
        test, first, second = condition.run, yes.run, no.run
        type_ = yes.type if yes.type != DYN and yes.type != NULL else no.type
        cost = condition.cost + max(yes.cost, no.cost) + 1
        run: Run = lambda env: first(env) if _boolean(test(env)) else second(env)  # noqa: E731  a closure among others
        return Part(type_, run, cost, max(yes.size, no.size), condition.own + max(yes.own, no.own) + 1)

    # Macros over collections

    def _fold(self, node: Node) -> Part:
        name, called = cast("tuple[str, tuple[str, ...]]", node.value)
        assert node.target is not None
        items = self.compile(node.target)
        if name in ("optMap", "optFlatMap"):
            return self._optional_map(node, items, name, called[0])
        types = self._element_types(node, items.type, len(called))
        if types is None:
            return Part(DYN, lambda _env: None)
        shadowed = {one: self._variables.get(one) for one in called}
        self._variables |= dict(zip(called, types, strict=True))
        bodies = [self.compile(part) for part in node.parts]
        self._restore(shadowed)
        self.names -= {one for one in called if shadowed[one] is None}
        rounds = items.size if items.size > 1 else most_items(items.type)
        cost = items.cost + rounds * (sum(body.cost for body in bodies) + 3) + 2
        folded = self._folded(node, name, called, items, bodies, cost)
        folded.own = items.own + 2
        return folded

    def _restore(self, shadowed: Mapping[str, Type | None]) -> None:
        for name, type_ in shadowed.items():
            if type_ is None:
                self._variables.pop(name, None)
            else:
                self._variables[name] = type_

    def _element_types(self, node: Node, type_: Type, names: int) -> list[Type] | None:
        match type_.name:
            case "list":
                return [INT, type_.parts[0]] if names == 2 else [type_.parts[0]]
            case "map":
                return [*type_.parts] if names == 2 else [type_.parts[0]]
            case "dyn":
                return [DYN] * names
            case _:
                position = node.target or node
                message = (
                    f"expression of type '{type_}' cannot be range of a comprehension (must be list, map, or dynamic)"
                )
                self.problems.append(Problem(position.position, message))
                return None

    def _folded(
        self, node: Node, name: str, called: tuple[str, ...], items: Part, bodies: list[Part], cost: float
    ) -> Part:
        each = _rounds(items.run, called, sum(body.own for body in bodies) + 3)
        body = bodies[-1]
        test = bodies[0].run if len(bodies) == 2 or name == "filter" else None
        if name in ("all", "exists", "exists_one", "existsOne", "filter") and not fits(BOOL, body.type, {}):
            shown = f"(bool, {body.type})" if name != "filter" else f"({body.type})"
            return self._problem(node.parts[-1], f"found no matching overload for '_&&_' applied to '{shown}'")
        match name:
            case "all":
                return Part(BOOL, lambda env: _quantified(each(env), body.run, decides=False), cost)
            case "exists":
                return Part(BOOL, lambda env: _quantified(each(env), body.run, decides=True), cost)
            case "exists_one" | "existsOne":
                return Part(BOOL, lambda env: sum(_boolean(body.run(inner)) for inner in each(env)) == 1, cost)
            case "filter":
                element = items.type.parts[0] if items.type.parts else DYN
                last = called[-1]
                run: Run = lambda env: [i[last] for i in each(env) if _boolean(body.run(i))]  # noqa: E731  as above
                return Part(list_of(element, items.type.size), run, cost, items.size)
            case "map" | "transformList":
                chosen = _chosen(each, test)
                run = lambda env: [body.run(inner) for inner in chosen(env)]  # noqa: E731  as above
                return Part(list_of(body.type, items.type.size), run, cost, items.size)
            case "transformMap":
                chosen, key = _chosen(each, test), called[0]
                run = lambda env: {inner[key]: body.run(inner) for inner in chosen(env)}  # noqa: E731  as above
                keys = items.type.parts[0] if items.type.name == "map" else INT
                return Part(map_of(keys, body.type), run, cost, items.size)
            case _:
                chosen = _chosen(each, test)
                run = lambda env: _merged(body.run(inner) for inner in chosen(env))  # noqa: E731  as above
                return Part(body.type, run, cost, items.size)

    def _optional_map(self, node: Node, target: Part, name: str, called: str) -> Part:
        shadowed = {called: self._variables.get(called)}
        self._variables[called] = _inner(target.type)
        body = self.compile(node.parts[0])
        self._restore(shadowed)
        flat = name == "optFlatMap"
        run, inner = target.run, body.run

        def mapped(env: Environment) -> Any:
            value = run(env)
            if not value.present:
                return Optional()
            result = inner({**env, called: value.value})
            return result if flat else Optional(result, True)

        type_ = body.type if flat else optional_of(body.type)
        return Part(type_, mapped, target.cost + body.cost + 1, own=target.own + body.own + 1)


_SPECIAL: Final[dict[str, Callable[[_Compiler, Node], Part]]] = {
    "_&&_": _Compiler._and,  # pyright: ignore[reportPrivateUsage]  the table belongs to the class
    "_||_": _Compiler._or,  # pyright: ignore[reportPrivateUsage]
    "_?_:_": _Compiler._choice,  # pyright: ignore[reportPrivateUsage]
}


def _sums(first: float, parts: Sequence[Part]) -> tuple[float, float]:
    return first + sum(part.cost for part in parts), first + sum(part.own for part in parts)


def _struct_fields(name: str) -> Mapping[str, Type] | None:
    """The fields of what an expression may make; `*` is any. Of objects they are checked when they are merged."""
    if name == "JSONPatch":
        return {**dict.fromkeys(("op", "path", "from"), STRING), "value": DYN}
    return {"*": DYN} if name.partition(".")[0] == "Object" else None


def _inner(type_: Type) -> Type:
    return type_.parts[0] if type_.name == "optional" else DYN


def _matches(overload: Overload, types: Sequence[Type]) -> Bindings | None:
    if len(overload.parameters) != len(types):
        return None
    bindings: Bindings = {}
    if not all(fits(wanted, given, bindings) for wanted, given in zip(overload.parameters, types, strict=True)):
        return None
    if overload.name in ("_==_", "_!=_") and not fits(types[0], types[1], {}) and not fits(types[1], types[0], {}):
        return None
    return bindings


def _call_of(name: str, overloads: Sequence[Overload], runs: Sequence[Run]) -> Run:
    only = overloads[0] if len(overloads) == 1 else None
    walks = name in _WALKERS
    charge = library.CHARGES.get(name)
    if only is not None and not walks and charge is None and len(runs) <= 2:
        return _plain_call(only.compute, runs)

    def run(env: Environment) -> Any:
        values = [one(env) for one in runs]
        if walks:
            kinds = [library.type_name(value) for value in values[:2]]
            sizes = [len(cast(Sized, value)) if isinstance(value, _SIZED) else 1 for value in values]
            env[METER].spend(_walking_cost(name, sizes, kinds[0], kinds[-1]))
        if charge is not None:
            env[METER].spend(charge)
        return _guarded(_overload_for(overloads, values).compute if only is None else only.compute, *values)

    return run


def _plain_call(compute: Callable[..., Any], runs: Sequence[Run]) -> Run:
    if len(runs) == 2:
        first, second = runs
        return lambda env: _guarded(compute, first(env), second(env))
    return lambda env: _guarded(compute, *[run(env) for run in runs])


def _overload_for(overloads: Sequence[Overload], values: Sequence[Any]) -> Overload:
    for overload in overloads:
        if all(map(library.accepts, overload.parameters, values)):
            return overload
    raise no_overload()


def _guarded(compute: Callable[..., Any], *values: Any) -> Any:
    """A value of a type that the function has no words for: the checker could not know."""
    try:
        return compute(*values)
    except (TypeError, AttributeError):
        raise no_overload() from None
    except OverflowError:
        raise CelError("integer overflow") from None


def _boolean(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise no_overload()


def _unescaped(name: str) -> str:
    """The property behind a name that CEL can write (`foo__dash__bar`)."""
    if "__" not in name:
        return name
    for escape, character in (("__dash__", "-"), ("__dot__", "."), ("__slash__", "/"), ("__underscores__", "__")):
        name = name.replace(escape, character)
    return name[2:-2] if name.startswith("__") and name.endswith("__") and len(name) > 4 else name


def escaped(name: str) -> str:
    """A property's name as CEL can write it."""
    for escape, character in (("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")):
        name = name.replace(character, escape)
    return f"__{name}__" if name in _KEYWORDS else name


_KEYWORDS: Final = RESERVED | {"true", "false", "null", "in"}


def _field_of(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        if name in members:
            return members[name]
        raise no_key(name)
    if isinstance(value, Optional):
        return _optional_field(value, name)
    raise no_overload() if value is not None else no_key(name)


def _has_field(value: Any, name: str) -> bool:
    if isinstance(value, Optional):
        return value.present and _has_field(value.value, name)
    if not isinstance(value, dict):
        raise no_overload()
    members = cast("dict[str, Any]", value)
    return members.get(name) is not None


def _optional_field(value: Any, name: str) -> Optional:
    inner = value.value if isinstance(value, Optional) else value
    if isinstance(inner, dict) and name in inner:
        return Optional(cast("dict[str, Any]", inner)[name], True)
    return Optional()


def _optional_field_of(run: Run, name: str, env: Environment) -> Optional:
    return _optional_field(run(env), name)


def _optional_item(value: Any, at: Any) -> Optional:
    inner = value.value if isinstance(value, Optional) else value
    if inner is None:
        return Optional()
    try:
        return Optional(library.item_at(inner, at), True)
    except CelError:
        return Optional()


def _rounds(items: Run, called: tuple[str, ...], cost: float) -> Callable[[Environment], Iterator[Environment]]:
    def rounds(env: Environment) -> Iterator[Environment]:
        values = items(env)
        if isinstance(values, dict):
            members = cast("dict[Any, Any]", values)
            pairs: Iterable[tuple[Any, Any]] = members.items() if len(called) == 2 else ((k, k) for k in members)
        elif isinstance(values, list):
            pairs = enumerate(cast("list[Any]", values))
        else:
            raise no_overload()
        spend = env[METER].spend
        first, last = called[0], called[-1]
        for key, value in pairs:
            spend(cost)
            yield {**env, first: key, last: value}

    return rounds


def _chosen(
    each: Callable[[Environment], Iterator[Environment]], test: Run | None
) -> Callable[[Environment], Iterator[Environment]]:
    if test is None:
        return each
    return lambda env: (inner for inner in each(env) if _boolean(test(inner)))


def _quantified(rounds: Iterator[Environment], test: Run, *, decides: bool) -> bool:
    """`all` and `exists`: an error counts only where no other item decides."""
    failed: CelError | None = None
    for inner in rounds:
        try:
            if _boolean(test(inner)) is decides:
                return decides
        except CelError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return not decides


def _merged(parts: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for part in parts:
        result |= part
    return result


_TEXT_WALKERS: Final = frozenset(
    [
        "_==_",
        "_!=_",
        "_<_",
        "_<=_",
        "_>_",
        "_>=_",
        "_+_",
        "startsWith",
        "endsWith",
        "lowerAscii",
        "upperAscii",
        "trim",
        "replace",
        "split",
        "substring",
        "indexOf",
        "lastIndexOf",
        "join",
        "quantity",
        "isQuantity",
        "url",
        "isURL",
        "ip",
        "isIP",
        "cidr",
        "isCIDR",
        "format",
        "bytes",
        "string",
        "timestamp",
        "duration",
    ]
)
_LIST_WALKERS: Final = frozenset(["@in", "isSorted", "sum", "min", "max", "indexOf", "lastIndexOf"])


_COMPARISONS: Final = frozenset(["_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "startsWith", "endsWith"])
_SEARCHES: Final = frozenset(["contains", "find", "findAll"])
_WALKERS: Final = _TEXT_WALKERS | _LIST_WALKERS | _SEARCHES | {"matches"}
_SIZED: Final = (str, bytes, list, dict)


def _walking_cost(name: str, sizes: Sequence[int], first: str, second: str) -> float:
    """What a function costs that looks at all of what it is given: at its worst, or with the values that it got.
    `first` and `second` are the types of its parameters."""
    if not sizes:
        return 0
    if name == "matches":
        return (sizes[0] + 1) * _TEXT_COST * max(1, sizes[1] * 0.25)
    if name in _SEARCHES and first == "string":
        return sizes[0] * _TEXT_COST * max(1, sizes[1] * _TEXT_COST)
    if name == "@in":
        return sizes[1] if second == "list" else 0
    if name in _LIST_WALKERS and first == "list":
        return sizes[0]
    if name in _COMPARISONS:
        return min(sizes) * _TEXT_COST if min(sizes) > 1 else 0
    return sum(size for size in sizes if size > 1) * _TEXT_COST if name in _TEXT_WALKERS else 0


def _result_size(name: str, result: Type, parts: Sequence[Part]) -> int:
    if name == "_+_" and result.name in ("string", "list", "bytes"):
        return sum(part.size for part in parts)
    if result.name in ("string", "list", "bytes", "map") and parts:
        return parts[0].size if parts[0].size > 1 else most_items(result) if result.size is not None else 1
    return 1

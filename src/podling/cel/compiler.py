"""Checks an expression and makes it a closure; estimates what evaluating it may cost, and counts what it does cost.

Each part becomes a function of the variables. Types are checked as far as they are known; where something is `dyn` the
choice among overloads waits until values are there. What a part costs whatever the values is added up before it runs;
only what depends on them is counted on the way, so counting takes hardly any time (`costs` has the prices).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from podling.api.regexp import RegexpError, regexp
from podling.cel import access, costs, folds, library
from podling.cel.access import Environment, Run, boolean
from podling.cel.costs import ANY_SIZE, ONE, Operand, Size, plus
from podling.cel.library import Overload
from podling.cel.parts import Part
from podling.cel.syntax import TOO_DEEP, CompileError, InstantiationError, Node, Problem, parse, qualified_name
from podling.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    Bindings,
    Type,
    bound,
    fits,
    list_of,
    map_of,
    optional_of,
)
from podling.cel.values import Budget, CelError, EvaluationError, Meter, Optional, Struct, TypeValue, UInt, no_overload

METER: Final = folds.METER


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression."""

    source: str
    type: Type
    evaluate: Run
    cost: int
    """The most that it may cost, as estimated."""
    own: int
    names: frozenset[str]
    """The variables that it uses."""

    def run(self, values: Environment, budget: Budget | None = None) -> Any:
        """The value, and what it cost charged to the budget. Raises EvaluationError."""
        meter = Meter()
        try:
            meter.spend(self.own)
            value = self.evaluate({**values, METER: meter})
            meter.spend(0)
            return value
        except RecursionError:
            raise EvaluationError(TOO_DEEP.message) from None  # also values can be too deep to be compared
        finally:
            if budget is not None:
                budget.spend(meter.spent)


def compile_expression(source: str, variables: Mapping[str, Type], *, makes: bool = False) -> Program:
    """With `makes` an expression may make objects: `Object.spec{replicas: 1}`, `JSONPatch{op: "test"}`.

    Raises CompileError.
    """
    compiler = _Compiler(variables, makes)
    try:
        part = compiler.compile(parse(source))
    except RecursionError:
        raise CompileError(source, [TOO_DEEP]) from None
    if compiler.problems:
        raise CompileError(source, compiler.problems)
    if compiler.broken:
        raise InstantiationError(compiler.broken)
    return Program(source, part.type, part.run, part.cost, part.own, frozenset(compiler.names))


_LITERALS: Final = {
    "int": INT,
    "uint": UINT,
    "double": DOUBLE,
    "bool": BOOL,
    "string": STRING,
    "bytes": BYTES,
    "null_type": NULL,
}
_TYPE_NAMES: Final = frozenset(
    {
        *("int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type", "dyn"),
        *("optional_type", "google.protobuf.Duration", "google.protobuf.Timestamp", "net.IP", "net.CIDR"),
        *("kubernetes.Quantity", "kubernetes.URL", "kubernetes.Semver", "kubernetes.NamedFormat"),
    }
)
_CONVERSIONS: Final = frozenset(
    {"bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "uint"},
)
"""Functions that are called once, before there are values, where they are given a constant."""
_NAMESPACED: Final = library.NAMESPACES | {"ip"}
_KEPT: Final = "@kept"
_OF_ONE_SIZE: Final = frozenset({BOOL, INT, UINT, DOUBLE, DURATION, TIMESTAMP})


class _Compiler:
    def __init__(self, variables: Mapping[str, Type], makes: bool) -> None:
        self._variables = dict(variables)
        self._root = variables.get("self")
        self._locals: dict[str, folds.Local] = {}
        self._makes = makes
        self._mixes = False
        """Whether literals may hold items of several types: what texts are made of may."""
        self.problems: list[Problem] = []
        self.broken = ""
        """Why a call of a constant has no value."""
        self.names: set[str] = set()

    def compile(self, node: Node) -> Part:
        return cast(Callable[[Node], Part], getattr(self, f"_{node.kind}"))(node)

    def problem(self, node: Node, message: str) -> Part:
        self.problems.append(Problem(node.position, message))
        return Part(DYN, lambda _env: None)

    # Sizes

    def _size(self, part: Part) -> Size | None:
        """How large a value may be: by the expression, by the schema, by its type."""
        if part.size is not None:
            return part.size
        if (by_schema := self._at(part.path)) is not None:
            return Size(0, by_schema.size)
        return ONE if _is_scalar(part.type) else None

    def size(self, part: Part) -> Size:
        return self._size(part) or ANY_SIZE

    def _at(self, path: tuple[str, ...]) -> Type | None:
        """What the schema says of a place, if there is one. Every path starts at the root, whatever its variable."""
        at = self._root if path else None
        for step in path[1:]:
            if at is None:
                return None
            match step:
                case "@items" | "@values":
                    at = at.parts[-1] if at.name in ("list", "map") else None
                case "@keys":
                    at = at.parts[0] if at.name == "map" else None
                case _:
                    at = at.fields.get(step)
        return at

    def _operand(self, part: Part, node: Node) -> Operand:
        item = None
        if part.type.name == "list":
            place = self._at((*part.path, "@items")) if part.path else None
            item = (part.type.parts[0].name, Size(0, place.size) if place else ANY_SIZE)
        constant = node.value[1] if node.kind == "literal" else None
        return Operand(part.type.name, self.size(part), item, constant)

    # Literals and names

    def _literal(self, node: Node) -> Part:
        kind, value = node.value
        constant = UInt(value) if kind == "uint" else value
        size = len(constant) if isinstance(constant, str | bytes) else 1
        return Part(_LITERALS[kind], lambda _env: constant, size=Size(size, size), constant=True)

    def _name(self, node: Node, name: str = "") -> Part:
        name = name or cast(str, node.value)
        type_ = self._variables.get(name)
        if type_ is None:
            if name in _TYPE_NAMES:
                constant = TypeValue(name)
                return Part(Type("type"), lambda _env: constant, 1, path=(name,), constant=True)
            return self.problem(node, f"undeclared reference to '{name}' (in container '')")
        self.names.add(name)
        local = self._locals.get(name)
        part = Part(type_, lambda env: env[name], 1, 1, path=local.path if local else (name,), attribute=True)
        if local is not None and self._size(part) is None:
            part.size = local.size
        return part

    # Fields and items

    def _field(self, node: Node) -> Part:
        assert node.target is not None
        if (qualified := qualified_name(node)) in self._variables or qualified in _TYPE_NAMES:
            return self._name(node, qualified)
        target = self.compile(node.target)
        wrapped = target.type.name == "optional_type"
        holder = target.type.parts[0] if wrapped else target.type
        found = self._field_type(holder, node)
        if found is None:
            return Part(DYN, lambda _env: None)
        name, type_ = found
        run = target.run
        if wrapped or node.optional:
            result = type_ if type_.name == "optional_type" else optional_of(type_)
            optional = _optional(lambda env: access.optional_field(run(env), name))
            return Part(result, optional, plus(target.cost, 1), _looked_at(target), attribute=True)
        path = (*target.path, cast(str, node.value)) if target.path else ()
        looked = plus(target.cost, 0 if holder == DYN else 1)
        return Part(
            type_, lambda env: access.field_of(run(env), name), looked, _looked_at(target), path=path, attribute=True
        )

    def _field_type(self, holder: Type, node: Node) -> tuple[str, Type] | None:
        name = cast(str, node.value)
        if holder.is_object:
            for known in (name, f"__{name}__"):  # a word of the language may stand for a field
                if known in holder.fields:
                    return access.unescaped(known), holder.fields[known]
            self.problem(node, f"undefined field '{name}'")
            return None
        if holder.name == "map":
            return name, holder.parts[1]
        if holder == DYN or len(holder.name) == 1 or holder.name.partition(".")[0] == "Object":
            return name, DYN
        self.problem(node, f"type '{holder}' does not support field selection")
        return None

    def _has(self, node: Node) -> Part:
        assert node.target is not None
        target = self.compile(node.target)
        wrapped = target.type.name == "optional_type"
        found = self._field_type(target.type.parts[0] if wrapped else target.type, node)
        if found is None:
            return Part(BOOL, lambda _env: False)
        name, run = found[0], target.run
        return Part(BOOL, lambda env: access.has_field(run(env), name), target.cost, _looked_at(target) - 1)

    def _index(self, node: Node) -> Part:
        assert node.target is not None
        target, key = self.compile(node.target), self.compile(node.parts[0])
        wrapped = target.type.name == "optional_type"
        holder = Part(target.type.parts[0], target.run) if wrapped else target
        element = self._resolved(node, "_[_]", False, [holder, key]).type
        run, at = target.run, key.run
        cost = plus(target.cost, key.cost, 1)
        own = _looked_at(target) + key.own - key.attribute
        if wrapped or node.optional:
            optional = _optional(lambda env: access.optional_item(run(env), at(env)))
            return Part(optional_of(element), optional, cost, own, attribute=True)
        path = (*target.path, "@items" if target.type.name == "list" else "@values") if target.path else ()
        return Part(
            element, lambda env: access.item_at(run(env), at(env)), cost, own, target.items, path=path, attribute=True
        )

    # Literals of collections

    def _list(self, node: Node) -> Part:
        parts = [self.compile(part) for part in node.parts]
        element = self._common(node.parts, [_inner(p.type) if n.optional else p.type for p, n in _zip(parts, node)])
        runs = [(part.run, item.optional) for part, item in _zip(parts, node)]

        def run(env: Environment) -> Any:
            values: list[Any] = []
            for one, optional in runs:
                value = one(env)
                if not optional:
                    values.append(value)
                elif value.present:
                    values.append(value.value)
            return values

        size = Size(len(parts), len(parts))
        return self._made(list_of(element), run, costs.LIST, parts, size, self._either(parts), ONE)

    def _map(self, node: Node) -> Part:
        parts = [self.compile(part) for part in node.parts]
        keys, values = parts[::2], parts[1::2]
        given = node.parts[1::2]
        key_type = self._common(node.parts[::2], [key.type for key in keys])
        types = [_inner(v.type) if n.optional else v.type for v, n in zip(values, given, strict=True)]
        entries = [(k.run, v.run, n.optional) for k, v, n in zip(keys, values, given, strict=True)]

        def run(env: Environment) -> Any:
            made: dict[Any, Any] = {}
            for key, member, optional in entries:
                name, value = key(env), member(env)
                if isinstance(name, list | dict):
                    raise CelError(f"unsupported key type: {'list' if isinstance(name, list) else 'map'}")
                if not optional:
                    made[name] = value
                elif value.present:
                    made[name] = value.value
            return made

        type_ = map_of(key_type, self._common(given, types))
        size = Size(len(keys), len(keys))
        return self._made(type_, run, costs.MAP, parts, size, self._either(values), self._either(keys))

    def _common(self, nodes: Sequence[Node], types: Sequence[Type]) -> Type:
        """The type of all items of a literal; those of other types are told."""
        common: Type | None = None
        for node, type_ in zip(nodes, types, strict=True):
            if common is None:
                common = type_
            elif not (self._mixes or _alike(common, type_)):
                self.problem(node, f"expected type '{common}' but found '{type_}'")
            elif not fits(common, type_, {}) or type_ == DYN:
                common = DYN
        return common or DYN

    def _either(self, parts: Sequence[Part]) -> Size:
        sizes = [self.size(part) for part in parts]
        return Size(min(s.least for s in sizes), max(s.most for s in sizes)) if sizes else Size(0, 0)

    def _made(
        self, type_: Type, run: Run, price: int, parts: Sequence[Part], size: Size, items: Size, keys: Size
    ) -> Part:
        constant = all(part.constant for part in parts)
        if constant:
            try:
                value = run({})
            except EvaluationError:
                constant = False
            else:
                run = lambda _env: value  # noqa: E731  a closure among others
        own = 0 if constant else price + sum(part.own for part in parts)
        cost = plus(price, *(part.cost for part in parts))
        return Part(type_, run, cost, own, size, items, keys, constant=constant)

    def _struct(self, node: Node) -> Part:
        name, names = cast("tuple[str, tuple[str, ...]]", node.value)
        parts = [self.compile(part) for part in node.parts]
        fields = _struct_fields(name) if self._makes else None
        if fields is None:
            return self.problem(node, f"undeclared reference to '{name}' (in container '')")
        for at, (field, part) in enumerate(zip(names, parts, strict=True)):
            wanted = fields.get(field, fields.get("*"))
            given = _inner(part.type) if node.parts[at].optional else part.type
            if wanted is None:
                self.problem(node.parts[at], f"undefined field '{field}'")
            elif not fits(wanted, given, {}):
                words = f"expected type of field '{field}' is '{wanted}' but provided type is '{given}'"
                self.problem(node.parts[at], words)
        runs = [(f, part.run, item.optional) for f, part, item in zip(names, parts, node.parts, strict=True)]

        def run(env: Environment) -> Any:
            values = ((field, one(env), optional) for field, one, optional in runs)
            present = {f: v.value if optional else v for f, v, optional in values if not optional or v.present}
            return Struct(name, present)

        cost = plus(costs.STRUCT, *(part.cost for part in parts))
        return Part(Type(name), run, cost, costs.STRUCT + sum(part.own for part in parts))

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
        mixed, self._mixes = self._mixes, self._mixes or name == "format"
        parts = [self.compile(part) for part in ((node.target,) if node.target else ()) + node.parts]
        self._mixes = mixed
        if name in _CHECKED_LITERALS and node.parts and node.parts[0].kind == "literal":
            self._check_literal(name, node.parts[0])
        made = self._resolved(node, name, node.target is not None, parts)
        if name in ("or", "orValue") and len(parts) == 2 and not self.problems:
            made.run = _either(parts[0].run, parts[1].run, parts[1].own, whole=name == "or")
            made.own = parts[0].own
        return made

    def _fold_constant(self, part: Part) -> None:
        try:
            value = part.run({METER: Meter()})
        except CelError as error:
            self.broken = self.broken or str(error)
            return
        part.run, part.own, part.constant = lambda _env: value, 0, True

    def _check_literal(self, name: str, node: Node) -> None:
        kind, value = node.value
        if kind != "string":
            return
        try:
            _CHECKED_LITERALS[name](value)
        except (CelError, RegexpError) as error:
            if name in _PATTERNS:
                self.broken = self.broken or str(error)
            else:
                self.problem(node, f"invalid {name} argument")

    def _resolved(self, node: Node, name: str, on_value: bool, parts: list[Part]) -> Part:
        overloads = library.functions().get((name, on_value), [])
        if not overloads:
            return self.problem(node, f"undeclared reference to '{name}' (in container '')")
        types = [part.type for part in parts]
        chosen = [(overload, bindings) for overload in overloads if (bindings := _matches(overload, types)) is not None]
        if not chosen:
            shown = ", ".join(map(str, types[1:] if on_value else types))
            applied = f"{types[0]}.({shown})" if on_value else f"({shown})"
            return self.problem(node, f"found no matching overload for '{name}' applied to '{applied}'")
        results = [bound(overload.result, bindings) for overload, bindings in chosen]
        result = results[0] if all(one == results[0] for one in results) else DYN
        kinds = [[parameter.name for parameter in overload.parameters] for overload, _ in chosen]
        cost, size = self._estimated(node, name, kinds, parts)
        charge = _charge(name, kinds, types)
        own = sum(part.own for part in parts) + (charge is None)
        runs = [part.run for part in parts]
        run = _call_of([overload for overload, _ in chosen], runs, charge)
        made = Part(result, run, plus(cost, *(part.cost for part in parts)), own, size)
        if name == "dyn":
            made.size, made.items, made.keys, made.path = self._size(parts[0]), parts[0].items, parts[0].keys, ()
        elif name == "_+_" and result.name == "list" and parts[0].items and parts[1].items:
            made.items, made.keys = parts[0].items.joined(parts[1].items), ONE
        if name == "@in" and parts[1].constant:
            made.run, made.own = (
                _call_of([overload for overload, _ in chosen], [p.run for p in parts], None),
                parts[0].own,
            )
        if name in _CONVERSIONS and parts[0].constant:
            self._fold_constant(made)
        return made

    def _estimated(
        self, node: Node, name: str, kinds: Sequence[Sequence[str]], parts: Sequence[Part]
    ) -> tuple[int, Size | None]:
        nodes = [*((node.target,) if node.target and len(parts) > len(node.parts) else ()), *node.parts]
        operands = [self._operand(part, one) for part, one in zip(parts, nodes, strict=True)]
        found = [costs.estimate(name, one, operands) for one in kinds]
        sizes = [size for _, size in found if size is not None]
        size = Size(min(s.least for s in sizes), max(s.most for s in sizes)) if sizes else None
        return max(cost for cost, _ in found), size

    def _and(self, node: Node) -> Part:
        return self._logical(node, decides=False)

    def _or(self, node: Node) -> Part:
        return self._logical(node, decides=True)

    def _logical(self, node: Node, *, decides: bool) -> Part:
        left, right = (self.compile(part) for part in node.parts)
        if not (fits(BOOL, left.type, {}) and fits(BOOL, right.type, {})):
            shown = f"({left.type}, {right.type})"
            return self.problem(node, f"found no matching overload for '{node.value}' applied to '{shown}'")
        first, second, more = left.run, right.run, right.own

        def run(env: Environment) -> Any:
            try:
                value = boolean(first(env))
            except CelError:
                env[METER].spent += more
                if boolean(second(env)) is decides:
                    return decides
                raise
            if value is decides:
                return value
            env[METER].spent += more
            return boolean(second(env))

        return Part(BOOL, run, plus(left.cost, right.cost), left.own)

    def _choice(self, node: Node) -> Part:
        condition, yes, no = (self.compile(part) for part in node.parts)
        if not fits(BOOL, condition.type, {}) or not (fits(yes.type, no.type, {}) or fits(no.type, yes.type, {})):
            shown = f"({condition.type}, {yes.type}, {no.type})"
            return self.problem(node, f"found no matching overload for '_?_:_' applied to '{shown}'")
        test, first, second = condition.run, yes.run, no.run
        if_yes, if_no = yes.own - yes.attribute, no.own - no.attribute

        def run(env: Environment) -> Any:
            if boolean(test(env)):
                env[METER].spent += if_yes
                return first(env)
            env[METER].spent += if_no
            return second(env)

        made = Part(
            yes.type if yes.type not in (DYN, NULL) else no.type,
            run,
            plus(condition.cost, max(yes.cost, no.cost)),
            condition.own,
            self.size(yes).joined(self.size(no)),
        )
        if yes.items and no.items:
            made.items = yes.items.joined(no.items)
        return made

    # Macros over collections

    def _fold(self, node: Node) -> Part:
        name, called = cast("tuple[str, tuple[str, ...]]", node.value)
        assert node.target is not None
        items = self.compile(node.target)
        if name in ("optMap", "optFlatMap"):
            wanted = _inner(items.type)
            (body,) = self._within({called[0]: (wanted, folds.Local((), None))}, node.parts)
            return folds.optional_map(items, body, called[0], flat=name == "optFlatMap")
        if name == "sortBy":
            return self._sorted(node, items, called)
        types = self._element_types(node, items.type, len(called))
        if types is None:
            return Part(DYN, lambda _env: None)
        bodies = self._within(folds.scope(items, called, types), node.parts)
        if name in folds.QUANTIFIERS and not fits(BOOL, bodies[-1].type, {}):
            shown = f"(bool, {bodies[-1].type})" if name != "filter" else f"({bodies[-1].type})"
            return self.problem(node.parts[-1], f"found no matching overload for '_&&_' applied to '{shown}'")
        return folds.fold(name, called, items, bodies, self.size(items), self.size(bodies[-1]))

    def _sorted(self, node: Node, items: Part, called: tuple[str, ...]) -> Part:
        """`sortBy`: the items are looked at once, and kept under a name while the keys are made of them."""
        run = items.run
        kept = Part(items.type, lambda env: env[_KEPT], 1, 1, self._size(items), items.items, items.keys, items.path)
        types = self._element_types(node, kept.type, 1) or [DYN]
        bodies = self._within(folds.scope(kept, called, types), node.parts)
        keys = folds.fold("map", called, kept, bodies, self.size(kept), self.size(bodies[-1]))
        inner = self._resolved(
            Node("call", node.position, parts=node.parts, target=node.target),
            "@sortByAssociatedKeys",
            True,
            [kept, keys],
        )
        by = inner.run
        cost = plus(items.cost, costs.LIST, inner.cost)
        return Part(
            inner.type, lambda env: by({**env, _KEPT: run(env)}), cost, items.own + inner.own, inner.size, kept.items
        )

    def _within(self, scope: Mapping[str, tuple[Type, folds.Local]], nodes: Sequence[Node]) -> list[Part]:
        """Parts in which more variables are known."""
        before, locals_, names = dict(self._variables), dict(self._locals), set(self.names)
        self._variables |= {name: type_ for name, (type_, _) in scope.items()}
        self._locals |= {name: local for name, (_, local) in scope.items()}
        parts = [self.compile(node) for node in nodes]
        self.names = names | (self.names - scope.keys())
        self._variables, self._locals = before, locals_
        return parts

    def _element_types(self, node: Node, type_: Type, names: int) -> list[Type] | None:
        match type_.name:
            case "list":
                return [INT, type_.parts[0]] if names == 2 else [type_.parts[0]]
            case "map":
                return [*type_.parts] if names == 2 else [type_.parts[0]]
            case "dyn":
                return [DYN] * names
            case _:
                words = "cannot be range of a comprehension (must be list, map, or dynamic)"
                self.problem(node.target or node, f"expression of type '{type_}' {words}")
                return None


_SPECIAL: Final[dict[str, Callable[[_Compiler, Node], Part]]] = {
    "_&&_": _Compiler._and,  # pyright: ignore[reportPrivateUsage]  the table belongs to the class
    "_||_": _Compiler._or,  # pyright: ignore[reportPrivateUsage]
    "_?_:_": _Compiler._choice,  # pyright: ignore[reportPrivateUsage]
}
_CHECKED_LITERALS: Final[dict[str, Callable[[str], Any]]] = {
    "matches": regexp,
    "find": regexp,
    "findAll": regexp,
    "duration": library.to_duration,
    "timestamp": library.to_timestamp,
}
"""Functions whose argument is looked at before they run, where it is a literal."""
_PATTERNS: Final = ("find", "findAll")


def _optional(found: Run) -> Run:
    """A field or an item that need not be there; looking at one that is not costs nothing."""

    def run(env: Environment) -> Any:
        value = found(env)
        if not value.present:
            env[METER].spent -= 1
        return value

    return run


def _either(first: Run, second: Run, cost: int, *, whole: bool) -> Run:
    """`or`, and without `whole` `orValue`: what is not needed is not looked at."""

    def run(env: Environment) -> Any:
        value = first(env)
        if isinstance(value, Optional) and value.present:
            return value if whole else value.value
        env[METER].spent += cost
        return second(env)

    return run


def _zip(parts: Sequence[Part], node: Node) -> list[tuple[Part, Node]]:
    return list(zip(parts, node.parts, strict=True))


def _looked_at(target: Part) -> int:
    """What looking at a field or an item costs: one for each step, and one for what the first step starts from."""
    return target.own + (1 if target.attribute else 2)


def _alike(one: Type, other: Type) -> bool:
    """Whether they are one type, as far as they are known."""
    names = f"{one} {other}"
    return str(one) == str(other) or (DYN.name in names and fits(one, other, {}))


def _is_scalar(type_: Type) -> bool:
    return type_ in _OF_ONE_SIZE or (type_.name == "optional_type" and _is_scalar(type_.parts[0]))


def _struct_fields(name: str) -> Mapping[str, Type] | None:
    """The fields of what an expression may make; `*` is any. Of objects they are checked when they are merged."""
    if name == "JSONPatch":
        return {**dict.fromkeys(("op", "path", "from"), STRING), "value": DYN}
    return {"*": DYN} if name.partition(".")[0] == "Object" else None


def _inner(type_: Type) -> Type:
    return type_.parts[0] if type_.name == "optional_type" else DYN


def _matches(overload: Overload, types: Sequence[Type]) -> Bindings | None:
    if len(overload.parameters) != len(types):
        return None
    bindings: Bindings = {}
    if not all(fits(wanted, given, bindings) for wanted, given in zip(overload.parameters, types, strict=True)):
        return None
    if overload.name in costs.EQUAL and not fits(types[0], types[1], {}) and not fits(types[1], types[0], {}):
        return None
    return bindings


# Calls at work


def _charge(name: str, kinds: Sequence[Sequence[str]], types: Sequence[Type]) -> costs.Charge | None:
    """What is to be counted when a function has run; `None` where it is one."""
    if name not in costs.EQUAL:
        return costs.charge(name, kinds[0] if len(kinds) == 1 else None)
    if any(_is_scalar(type_) for type_ in types):
        return None
    return lambda values, _result: costs.equality(*values)


def _call_of(overloads: Sequence[Overload], runs: Sequence[Run], charge: costs.Charge | None) -> Run:
    if len(overloads) == 1 and charge is None and len(runs) <= 2:
        return _plain_call(overloads[0].compute, runs)
    only = overloads[0].compute if len(overloads) == 1 else None

    def run(env: Environment) -> Any:
        values = [one(env) for one in runs]
        result = _guarded(only or _overload_for(overloads, values).compute, *values)
        if charge is not None:
            env[METER].spend(charge(values, result))
        return result

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

"""Sets of field paths, and the walks that make them: the arithmetic under server-side apply.

A set is kept as the API shows it in `fieldsV1`: nested dicts whose keys are path elements: `f:name` a field,
`k:{"name":"a"}` an item of a list by its keys, `v:"a"` an item of a set. A node `{}` is a member; a node with
children is a member only if it also holds `"."`. The empty set is `{}` at the root, and `None` below it.

The algorithms are those of sigs.k8s.io/structured-merge-diff (typed, fieldpath). The old object is seen as the Go
struct that a real API server holds: what Go writes when empty (`spec`, `status`, a required list) was never absent,
so it is not "added" when a manager first sets something in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from podling.api import gotext
from podling.api.schema import SCALARS, UNTYPED_SCALARS, Kind, Node
from podling.api.structs import zero_of
from podling.store.types import Object

Set = dict[str, Any]

ABSENT: Final[Any] = object()
"""A value that one side of a comparison does not have (`None` is JSON's null)."""

# --- algebra


def is_member(node: Set) -> bool:
    return not node or "." in node


def _made(children: Set, member: bool) -> Set | None:
    if not children:
        return {} if member else None
    if member:
        children["."] = {}
    return children


def union(left: Set, right: Set) -> Set:
    """Both root sets."""
    if not left or not right:
        return left or right
    result = dict(left)
    for key, node in right.items():
        result[key] = _union_node(result[key], node) if key in result else node
    return result


def _union_node(left: Set, right: Set) -> Set:
    if left is right:
        return left
    if not left or not right:
        other = left or right
        return other if is_member(other) else {**other, ".": {}}
    return union(left, right)


def difference(left: Set, right: Set) -> Set:
    """The members of `left` that are no members of `right`; what is below them stays."""
    if not right:
        return left
    return _difference_node(left, right, False) or {}


def _difference_node(left: Set, right: Set, member: bool) -> Set | None:
    children: Set = {}
    for key, node in left.items():
        if key == ".":
            continue
        other = right.get(key)
        if other is None:
            children[key] = node
            continue
        rest = _difference_node(node, other, is_member(node) and not is_member(other))
        if rest is not None:
            children[key] = rest
    return _made(children, member)


def recursive_difference(left: Set, right: Set) -> Set:
    """`left` without the members of `right` and everything below them."""
    result: Set = {}
    for key, node in left.items():
        other = right.get(key)
        if other is None or key == ".":
            result[key] = node
        elif not is_member(other):
            rest = recursive_difference(node, other)
            if rest or not node:
                result[key] = rest
    return result


def intersection(left: Set, right: Set) -> Set:
    if not left or not right:
        return {}
    return _intersection_node(left, right, False) or {}


def _intersection_node(left: Set, right: Set, member: bool) -> Set | None:
    children: Set = {}
    for key, node in left.items():
        other = right.get(key)
        if key == "." or other is None:
            continue
        shared = _intersection_node(node, other, is_member(node) and is_member(other))
        if shared is not None:
            children[key] = shared
    return _made(children, member)


def is_subset(left: Set, right: Set) -> bool:
    return not difference(left, right)


def paths(members: Set, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member, in the order in which errors list them: a level's members before what is below."""
    keys = sorted((key for key in members if key != "."), key=_rank)
    for key in keys:
        if is_member(members[key]):
            yield (*above, key)
    for key in keys:
        if members[key]:
            yield from paths(members[key], (*above, key))


def _rank(element: str) -> Any:
    """Fields first, then items by their keys, then items of sets; numbers by their size and before text."""
    sort, _, rest = element.partition(":")
    if sort == "k":
        keys = cast(Object, orjson.loads(rest))
        return 1, [(name, _value_rank(value)) for name, value in keys.items()]
    return (0, rest) if sort == "f" else (2, _value_rank(orjson.loads(rest)))


def _value_rank(value: Any) -> Any:
    if isinstance(value, bool):
        return 2, value
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def path_text(path: tuple[str, ...]) -> str:
    """`.spec.containers[name="a"].image`."""
    return "".join(map(element_text, path))


def element_text(element: str) -> str:
    sort, _, rest = element.partition(":")
    if sort == "f":
        return f".{rest}"
    if sort == "v":
        return f"[={rest}]"
    keys = cast(Object, orjson.loads(rest))
    return "[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in keys.items()) + "]"


def in_order(members: Set) -> Set:
    """The set with its keys as the API writes them; shares nothing with `members`."""
    return orjson.loads(orjson.dumps(members, option=orjson.OPT_SORT_KEYS))


def decoded(fields: Any) -> Set:
    """A set as somebody wrote it, in the form that all others have. What kind of element is not known is left out.

    Raises ValueError for what is no set.
    """
    return _decoded(fields)[0]


def _decoded(fields: Any) -> tuple[Set, bool]:
    """The members below, and whether the place itself is one."""
    if not isinstance(fields, dict):
        raise ValueError("a set is an object")
    below: Set = {}
    for key, value in cast(Set, fields).items():
        element = "." if key == "." else _decoded_element(key)
        if element == ".":
            continue
        if element is not None:
            children, member = _decoded(value)
            below[element] = cast(Set, _made(children, member))
    return below, not below or "." in fields


def _decoded_element(key: str) -> str | None:
    sort, colon, rest = key[:1], key[1:2], key[2:]
    if colon != ":":
        raise ValueError(f"missing colon: {key}")
    if sort == "f":
        return key
    if sort not in ("k", "v", "i"):
        return None
    value: Any = orjson.loads(rest)
    if sort == "k" and not isinstance(value, dict):
        raise ValueError(f"no keys: {key}")
    return f"{sort}:{orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()}"


def settled(members: Set, node: Node) -> Set:
    """The set with what it holds below a list or map that has become atomic made the whole of it."""
    result: Set = {}
    for key, child in members.items():
        if not child:
            result[key] = child
            continue
        below = _child_node(node, key)
        result[key] = {} if below.atomic else settled(child, below)
    return result


def with_named_fields(members: Set, node: Node) -> Set:
    """The set with every declared field on the way to a member made a member itself."""
    result: Set = {}
    for key, child in members.items():
        if key == ".":
            result[key] = child
            continue
        below = with_named_fields(child, _child_node(node, key)) if child else {}
        if below and key.startswith("f:") and node.declares(key[2:]):
            below["."] = {}
        result[key] = below
    return result


def _child_node(node: Node, key: str) -> Node:
    return node.child(key[2:]) if key.startswith("f:") else node.element


# --- list items


class UnidentifiedItem(ValueError):
    """A list item that lacks what identifies it."""


def item_key(item: Any, node: Node) -> str:
    """The path element of an item of an associative list. Raises UnidentifiedItem."""
    if not node.keys:
        if isinstance(item, dict | list) or item is None:
            raise UnidentifiedItem(_set_item_problem(cast(Any, item)))
        return "v:" + orjson.dumps(item).decode()
    if not isinstance(item, dict):
        kind = "a null element" if item is None else "non-map elements"
        raise UnidentifiedItem(f"associative list with keys may not have {kind}")
    members = cast(Object, item)
    if len(node.keys) == 1:
        value = members.get(node.keys[0])
        if type(value) is str and value.isprintable() and '"' not in value and "\\" not in value:
            return f'k:{{"{node.keys[0]}":"{value}"}}'  # by far most of them, at a third of the time
    keys = {name: members[name] for name in node.keys if name in members}
    for name, default in node.key_defaults.items():
        keys.setdefault(name, default)
    if not keys:
        names = "[" + " ".join(f'"{name}"' for name in node.keys) + "]"
        raise UnidentifiedItem(
            f"associative list with keys has an element that omits all key fields {names} "
            "(and doesn't have default values for any key fields)"
        )
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def _set_item_problem(item: Any) -> str:
    if isinstance(item, dict):
        return "associative list without keys has an element that's a map type"
    if isinstance(item, list):
        return "not supported: associative list with lists as elements"
    return "associative list without keys has an element that's an explicit null"


class _Repeated(list[Any]):
    """The items of an associative list that have one identity."""


_Keyed = list[tuple[str, Any]]


def _keyed(items: Any, node: Node) -> _Keyed:
    """The items with their path elements; none that cannot be identified.

    A custom resource is looked at before it is validated: what should be a list can be anything.
    """
    result: _Keyed = []
    for item in cast("list[Any]", items) if isinstance(items, list) else ():
        try:
            result.append((item_key(item, node), item))
        except UnidentifiedItem:
            continue
    return result


def _by_key(keyed: _Keyed) -> dict[str, Any]:
    """The items by path element; `_Repeated` where several share one."""
    result = dict(keyed)
    if len(result) == len(keyed):
        return result
    result.clear()
    for key, item in keyed:
        if key not in result:
            result[key] = item
        elif type(result[key]) is _Repeated:
            result[key].append(item)
        else:
            result[key] = _Repeated((result[key], item))
    return result


def _indexed(items: Any, node: Node) -> dict[str, Any]:
    return _by_key(_keyed(items, node))


# --- which way a value is walked

_LEAF, _MAP, _LIST = range(3)


def _walk_of(node: Node, value: Any) -> int:
    """Whether a value is one leaf, a map with fields, or a list with items."""
    if node.leaf:
        return _LEAF
    if node.kind is Kind.STRUCT or node.kind is Kind.MAP:
        return _MAP
    if node.kind is Kind.LIST:
        return _LIST
    return _MAP if isinstance(value, dict) else _LEAF


# --- the set of a value


def field_set(value: Object, node: Node) -> Set:
    """What an applied configuration owns: its leaves and its list items."""
    return _set_of(value, node) or {}


def _set_of(value: Any, node: Node) -> Set | None:
    """The set below a value; None when it has no members (and is none itself)."""
    walk = _walk_of(node, value)
    if walk == _LEAF:
        return {}
    if not value:
        return None
    return _set_of_map(value, node) if walk == _MAP else _set_of_list(value, node)


def _leaves(value: Object) -> Set:
    """The members of a map of leaves."""
    return {f"f:{name}": {} for name in value}


def _set_of_map(value: Any, node: Node) -> Set | None:
    if not isinstance(value, dict):
        return None
    if node.kind is Kind.MAP and node.element.leaf:
        return _leaves(cast(Object, value))
    result: Set = {}
    for name, item in cast(Object, value).items():
        below = _set_of(item, node.child(name))
        member = item is None or item == {} or not node.declares(name)
        if below is None and member:
            below = {}
        elif below and member:
            below["."] = {}
        if below is not None:
            result[f"f:{name}"] = below
    return result or None


def _set_of_list(value: Any, node: Node) -> Set | None:
    if not isinstance(value, list):
        return None
    result: Set = {}
    for key, item in _indexed(cast(list[Any], value), node).items():
        below = _set_of(item, node.element) if node.keys and type(item) is not _Repeated else None
        result[key] = {**below, ".": {}} if below else {}
    return result or None


# --- comparison


@dataclass(slots=True)
class Comparison:
    """What a change did to the fields."""

    added: Set
    modified: Set
    removed: Set

    @property
    def changed(self) -> Set:
        return union(self.modified, self.added)

    def without(self, ignored: Set) -> Comparison:
        if not ignored:
            return self
        return Comparison(
            recursive_difference(self.added, ignored),
            recursive_difference(self.modified, ignored),
            recursive_difference(self.removed, ignored),
        )


_Change = tuple[Set | None, Set | None, Set | None]
_MODIFIED: Final[_Change] = (None, {}, None)
_SAME: Final[_Change] = (None, None, None)


def compare(old: Object, new: Object, node: Node) -> Comparison:
    """Both objects whole; `old` is `{}` for a create."""
    added, modified, removed = _compare(old, new, node)
    return Comparison(added or {}, modified or {}, removed or {})


def _compare(left: Any, right: Any, node: Node) -> _Change:
    """Most of an object is as it was, and Python's own comparison says so at once."""
    return _SAME if left == right else _compare_different(left, right, node)


def _compare_different(left: Any, right: Any, node: Node) -> _Change:
    if left is ABSENT:
        return _members(right, node), None, None
    if right is ABSENT:
        return None, None, _members(left, node)
    walk = _walk_of(node, right)
    if node.kind is Kind.ANY and not node.leaf and isinstance(left, dict) != isinstance(right, dict):
        return _compare_types(left, right, node)
    if walk == _LEAF or not (left or right):
        return _MODIFIED
    if walk == _MAP:
        return _compare_maps(left, right, node)
    return _compare_lists(left, right, node)


def _compare_types(left: Any, right: Any, node: Node) -> _Change:
    """A map that becomes something else, or the other way round; null goes with a map that has members."""
    added, _, removed = _compare_maps(left, right, node)
    return added, None if (added or removed) and None in (left, right) else {}, removed


def _members(value: Any, node: Node) -> Set:
    """What comes or goes with a value as a whole: itself, and all that is in it."""
    walk = _walk_of(node, value)
    if walk == _LEAF or not value:
        return {}
    if walk == _LIST:
        below = {key: _item_members(item, node) for key, item in _indexed(value, node).items()}
    elif node.kind is Kind.MAP and node.element.leaf and isinstance(value, dict):
        below = _leaves(cast(Object, value))
    else:
        items = cast(Object, value).items() if isinstance(value, dict) else ()
        below = {f"f:{name}": _members(item, node.child(name)) for name, item in items}
    if below:
        below["."] = {}
    return below


def _item_members(item: Any, node: Node) -> Set:
    return {} if type(item) is _Repeated else _members(item, node.element)


def _compare_maps(left: Any, right: Any, node: Node) -> _Change:
    old = cast(Object, left) if isinstance(left, dict) else {}
    new = cast(Object, right) if isinstance(right, dict) else {}
    gathered = _Gathered()
    for name, item in new.items():
        before = old[name] if name in old else _never_absent(node, name)
        if before != item:
            gathered.take(f"f:{name}", _compare_different(before, item, node.child(name)))
    for name, item in old.items():
        if name not in new:
            gathered.take(f"f:{name}", _compare(item, _never_absent(node, name), node.child(name)))
    return gathered.result()


def _never_absent(node: Node, name: str) -> Any:
    """What Go holds in a field that was not set, if it would write it."""
    field = None if node.structural else node.fields.get(name)
    return zero_of(field) if field is not None and field.written_when_empty else ABSENT


def _compare_lists(left: Any, right: Any, node: Node) -> _Change:
    old, new = _indexed(left, node), _indexed(right, node)
    gathered = _Gathered()
    for key, item in new.items():
        before = old.get(key, ABSENT)
        if before != item:
            gathered.take(key, _compare_items(before, item, node))
    for key, item in old.items():
        if key not in new:
            gathered.take(key, _compare_items(item, ABSENT, node))
    return gathered.result()


def _compare_items(left: Any, right: Any, node: Node) -> _Change:
    """Items that share an identity are owned together, as if they were one leaf."""
    was_repeated, is_repeated = type(left) is _Repeated, type(right) is _Repeated
    if not was_repeated and not is_repeated:
        return _compare_different(left, right, node.element)
    if was_repeated and is_repeated:
        return _MODIFIED
    if was_repeated:
        return None if right is ABSENT else _members(right, node.element), None, {}
    return {}, None, None if left is ABSENT else _members(left, node.element)


class _Gathered:
    """The changes below one container, on their way to become its own."""

    __slots__ = ("added", "modified", "removed")

    def __init__(self) -> None:
        self.added: Set = {}
        self.modified: Set = {}
        self.removed: Set = {}

    def take(self, key: str, change: _Change) -> None:
        added, modified, removed = change
        if added is not None:
            self.added[key] = added
        if modified is not None:
            self.modified[key] = modified
        if removed is not None:
            self.removed[key] = removed

    def result(self) -> _Change:
        return self.added or None, self.modified or None, self.removed or None


# --- merging and removing


def merge(live: Any, config: Any, node: Node) -> Any:
    """`live` with `config` merged in: the configuration wins, lists with identity merge by it."""
    if live is ABSENT:
        return config
    if config is ABSENT or config is live:
        return live
    walk = _walk_of(node, config)
    if config is None and isinstance(live, dict) and node.kind is Kind.ANY and live:
        return cast(Any, live)  # null can be a map, and has nothing to add
    if walk == _LEAF or (not live and not config):
        return config
    if walk == _MAP:
        return _merge_maps(live, config, node)
    return _merge_lists(live, config, node)


def _merge_maps(live: Any, config: Any, node: Node) -> Any:
    result: Object = dict(cast(Object, live)) if isinstance(live, dict) else {}
    for name, item in (cast(Object, config) or {}).items():
        result[name] = merge(result.get(name, ABSENT), item, node.child(name))
    return result


def _merge_lists(live: Any, config: Any, node: Node) -> list[Any]:
    """Items in the configuration's order, the others where the live list has them."""
    left, new = _keyed(live, node), _indexed(config, node)
    old, right = _by_key(left), list(new)
    shared = [key for key in new if key in old]
    result: list[Any] = []
    merged: set[str] = set()
    i = j = 0

    def take(key: str) -> None:
        merged.add(key)
        before = old.get(key, ABSENT)
        result.append(merge(None if type(before) is _Repeated else before, new[key], node.element))
        if shared and shared[0] == key:
            shared.pop(0)

    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            if left[i][0] == right[j]:
                take(right[j])
                i, j = i + 1, j + 1
                continue
            if left[i][0] in new and shared and shared[0] != left[i][0]:
                i += 1
                continue
        if i < len(left) and left[i][0] not in new:
            result.append(left[i][1])
            i += 1
            continue
        if i < len(left) and left[i][0] in merged:
            i += 1
        if j < len(right):
            take(right[j])
            j += 1
    return result


def remove(value: Any, gone: Set, node: Node) -> Any:
    """`value` without the members of `gone`. What is atomic and has members of its own in there is emptied."""
    walk = _walk_of(node, value)
    if walk == _LEAF:
        return {} if isinstance(value, dict) else [] if isinstance(value, list) else value
    return _remove_from_map(value, gone, node) if walk == _MAP else _remove_from_list(value, gone, node)


def _remove_from_map(value: Any, gone: Set, node: Node) -> Any:
    if not isinstance(value, dict):
        return value
    result: Object = {}
    for name, item in cast(Object, value).items():
        below = gone.get(f"f:{name}")
        if below is None:
            result[name] = item
        elif not is_member(below):
            result[name] = remove(item, below, node.child(name))
    return result


def _remove_from_list(value: Any, gone: Set, node: Node) -> Any:
    if not isinstance(value, list):
        return value
    result: list[Any] = []
    for item in cast(list[Any], value):
        try:
            below = gone.get(item_key(item, node))
        except UnidentifiedItem:
            below = None
        if below is None:
            result.append(item)
        elif not is_member(below):
            result.append(remove(item, below, node.element))
    return result


# --- validation of an applied configuration


def atomic_parts(value: Any, node: Node, path: str = "") -> list[str]:
    """The paths of all lists, maps and structs in a configuration that can only be replaced as a whole."""
    if isinstance(value, dict):
        found = [path] if node.atomic else []
        for name, member in cast(Object, value).items():
            if node.declares(name):
                found += atomic_parts(member, node.child(name), f"{path}.{name}")
        return found
    if isinstance(value, list):
        found = [path] if node.atomic else []
        for index, item in enumerate(cast("list[Any]", value)):
            found += atomic_parts(item, node.element, f"{path}[{index}]")
        return found
    return []


def problems(value: Object, node: Node) -> list[str]:
    """What does not fit the schema, in structured-merge-diff's words: `.spec.foo: field not declared in schema`."""
    return [f"{path}: {message}" if path else message for path, message in _problems(value, node)]


_Problem = tuple[str, str]


def _problems(value: Any, node: Node) -> list[_Problem]:
    if value is None:
        return []
    if node.kind is Kind.STRUCT or node.kind is Kind.MAP:
        return _map_problems(value, node)
    if node.kind is Kind.LIST:
        return _list_problems(value, node)
    if node.kind in SCALARS:
        message = _scalar_problem(value, node)
        return [("", message)] if message else []
    return []


_NO_TEXT: Final = frozenset({Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN})


def _map_problems(value: Any, node: Node) -> list[_Problem]:
    if not isinstance(value, dict):
        return [("", f"expected map, got &{{{gotext.plain(value)}}}")]
    found: list[_Problem] = []
    for name, item in cast(Object, value).items():
        if node.kind is Kind.STRUCT and name not in node.fields and not node.preserve:
            found.append((f".{name}", "field not declared in schema"))
            break
        below = _problems(item, node.child(name))
        if below:
            found += [(f".{name}{path}", message) for path, message in below]
    return found


def _list_problems(value: Any, node: Node) -> list[_Problem]:
    if not isinstance(value, list):
        return [("", f"expected list, got &{{{gotext.plain(value)}}}")]
    found: list[_Problem] = []
    seen: set[str] = set()
    for index, item in enumerate(cast(list[Any], value)):
        key = ""
        if not node.atomic:
            try:
                key = item_key(item, node)
            except UnidentifiedItem as error:
                return [*found, ("", f"element {index}: {error}")]
            if key in seen:
                found.append(("", f"duplicate entries for key {element_text(key)}"))
            seen.add(key)
        below = _problems(item, node.element)
        if below:
            element = element_text(key) if key else f"[{index}]"
            found += [(element + path, message) for path, message in below]
    return found


def _scalar_problem(value: Any, node: Node) -> str:
    if type(value) is str and node.kind not in _NO_TEXT:
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if node.kind in UNTYPED_SCALARS:
        fits = isinstance(value, str | int | float)
        return "" if fits else f"expected any scalar, got &{{{gotext.plain(value)}}}"
    if node.kind in {Kind.INTEGER, Kind.NUMBER}:
        return "" if is_number else f"expected numeric (int or float), got {gotext.type_name(value)}"
    if node.kind is Kind.BOOLEAN:
        return "" if isinstance(value, bool) else f"expected boolean, got &{{{gotext.plain(value)}}}"
    return (
        ""
        if isinstance(value, str)
        else f"expected string, got &value.valueUnstructured{{Value:{gotext.syntax(value)}}}"
    )

"""The three patch formats: JSON merge patch (RFC 7386), JSON patch (RFC 6902), Kubernetes' strategic merge patch.

All are pure: they return a new object, share with the old one what did not change, and mutate neither argument.
Server-side apply, the fourth way to PATCH, is in `managed_fields`.

A strategic merge patch merges lists by the keys that the schema names, and takes directives: `$patch` (replace,
delete), `$retainKeys`, `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`
(k8s.io/apimachinery/pkg/util/strategicpatch).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import orjson

from podling.api import gotext
from podling.api.errors import ApiError, bad_request, invalid, invalid_value
from podling.api.schema import Field, Kind, Node
from podling.store.types import Object

MAX_JSON_PATCH_OPERATIONS: Final = 10_000
MAX_JSON_PATCH_COPIES: Final = 3 << 20
"""Bytes that the copies of one JSON patch may add (`JSONPatchMaxCopyBytes`)."""

_DIRECTIVE: Final = "$patch"
_RETAIN_KEYS: Final = "$retainKeys"
_DELETE_FROM: Final = "$deleteFromPrimitiveList"
_ORDER: Final = "$setElementOrder"

Items = list[Any]


def unprocessable() -> ApiError:
    """The API's answer to a patch that cannot be carried out; it does not say why."""
    message = "the server rejected our request due to an error in our request"
    return ApiError(422, "Invalid", message, {})


def refused(patched_text: str, why: str) -> ApiError:
    """422 for a patch whose outcome is no object of the kind. See `patched_json` for the first argument."""
    return invalid("", "", "", [_patch_error(patched_text, why)])


def _patch_error(text: str, why: str) -> Any:
    return invalid_value("patch", text, why)


def patched_json(live: Any, patched: Any, node: Node | None = None) -> str:
    """The outcome of a JSON or merge patch as its error shows it.

    What the patch touched has its keys sorted; the rest stands as Go wrote it, in the order of the struct's fields and
    of a map's sorted keys.
    A custom resource, which no struct orders, is sorted throughout.
    """
    if node is not None and node.structural:
        return orjson.dumps(patched, option=orjson.OPT_SORT_KEYS).decode()
    return _encode(live, patched, node).decode()


def _encode(live: Any, patched: Any, node: Node | None) -> bytes:
    if not isinstance(patched, dict):
        return orjson.dumps(patched)
    members = cast(Object, patched)
    if patched is live:
        return orjson.dumps(_in_go_order(members, node))
    before = cast(Object, live) if isinstance(live, dict) else {}

    def member(key: str) -> bytes:
        child = node.child(key) if node is not None else None
        return orjson.dumps(key) + b":" + _encode(before.get(key), members[key], child)

    return b"{" + b",".join(map(member, sorted(members))) + b"}"


def _in_go_order(value: Any, node: Node | None) -> Any:
    if isinstance(value, list) and node is not None and node.kind is Kind.LIST:
        return [_in_go_order(item, node.element) for item in cast(Items, value)]
    if not isinstance(value, dict) or node is None or node.kind not in {Kind.STRUCT, Kind.MAP}:
        return value  # pyright: ignore[reportUnknownVariableType]
    members = cast(Object, value)
    if node.kind is Kind.MAP:
        return {name: _in_go_order(members[name], node.element) for name in sorted(members)}
    names = [*(name for name in node.fields if name in members), *(name for name in members if name not in node.fields)]
    return {name: _in_go_order(members[name], node.child(name)) for name in names}


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386. A `null` deletes; anything but an object replaces, without the nulls in it unless it replaces one."""
    if not isinstance(patch, dict):
        return patch if isinstance(target, dict) else _without_nulls(patch)
    result: Object = dict(cast(Object, target)) if isinstance(target, dict) else {}
    for key, value in cast(Object, patch).items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


# --- JSON patch


class PatchFailed(ApiError):
    """422 for a JSON patch that cannot be applied. To whoever sends one it is not told why; `why` is for those who ask
    others for patches, in the words of the library that Kubernetes uses."""

    def __init__(self, why: str = "") -> None:
        error = unprocessable()
        super().__init__(error.code, error.reason, error.message, error.details)
        self.why = why


class PatchTestFailed(PatchFailed):
    """The patch has a test that does not hold; who makes patches may take it as a condition."""


class _Inapplicable(Exception):
    """An operation that does not fit the document. Without words: its path leads nowhere."""


def json_patch(target: Object, operations: Sequence[Object]) -> Any:
    """RFC 6902, with the leniences of the library that Kubernetes uses. The outcome may be a list.

    Indexes may be negative, a path may lack its first `/`, and a member that is not there may be replaced or copied.

    Raises ApiError: 413 for too many operations, 422 for one that cannot be applied.
    """
    if len(operations) > MAX_JSON_PATCH_OPERATIONS:
        limit = f"The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}"
        message = f"Request entity too large: {limit}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", message)
    document: Any = target
    room = MAX_JSON_PATCH_COPIES
    try:
        for operation in operations:
            if operation.get("op") == "copy":
                room -= _size_of_copy(document, operation)
                if room < 0:
                    raise PatchFailed
            document = _operate(document, operation)
    except _Inapplicable as error:
        raise PatchFailed(str(error)) from None
    except (orjson.JSONEncodeError, RecursionError):
        # Moves can nest a document deeper than anything here can follow.
        raise PatchFailed from None
    return document


_NO_OBJECT: Final = (
    "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct "
    '{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
)


def patched(target: Object, operations: Sequence[Object]) -> Object:
    """The object that `json_patch` makes. Raises ApiError, with the reason where it is a `PatchFailed`."""
    outcome = json_patch(target, operations)
    if not isinstance(outcome, dict):
        raise PatchFailed(_NO_OBJECT)
    return cast(Object, outcome)


def _size_of_copy(document: Any, operation: Object) -> int:
    """What a copy adds. Each can double what the one before it made, in few bytes of patch."""
    return len(orjson.dumps(_lookup_or_none(document, _origin(operation))))


def _operate(document: Any, operation: Object) -> Any:
    name, path = str(operation.get("op")), operation.get("path")
    apply = _OPERATIONS.get(name)
    if apply is None:
        raise _Inapplicable(f"Unexpected kind: {name}")
    if not isinstance(path, str):
        raise _Inapplicable(f"{name} operation failed to decode path: operation missing path field: missing value")
    try:
        return apply(document, path, operation)
    except _Inapplicable as error:
        raise _Inapplicable(_reason(name, path, operation, str(error))) from None


def _reason(name: str, path: str, operation: Object, words: str) -> str:
    if words and name != "replace":
        return f"error in {name} for path: '{path}': {words}"
    where = {
        "add": f'doc is missing path: "{path}"',
        "remove": f'doc is missing path: "{path}"',
        "replace": f"doc is missing {'key' if words else 'path'}: {path}",
        "test": f"is missing path: {path}",
    }.get(name, f"doc is missing from path: {operation.get('from', '')}")
    return f"{name} operation does not apply: {where}: missing value"


def _add(document: Any, path: str, operation: Object) -> Any:
    return _edit(document, _steps(path), lambda parent, key: _with(parent, key, operation.get("value")))


def _remove(document: Any, path: str, _operation: Object) -> Any:
    return _edit(document, _steps(path), _without)


def _replace(document: Any, path: str, operation: Object) -> Any:
    if not path:
        value = operation.get("value")
        if not isinstance(value, dict | list):
            raise _Inapplicable
        return cast(Any, value)
    return _edit(document, _steps(path), lambda parent, key: _replaced(parent, key, operation.get("value")))


def _move(document: Any, path: str, operation: Object) -> Any:
    origin = _origin(operation)
    value = _lookup(document, origin)
    without = _edit(document, origin, _without)
    return _edit(without, _steps(path), lambda parent, key: _with(parent, key, value))


def _copy(document: Any, path: str, operation: Object) -> Any:
    value = _lookup_or_none(document, _origin(operation))
    return _edit(document, _steps(path), lambda parent, key: _with(parent, key, value))


def _test(document: Any, path: str, operation: Object) -> Any:
    expected = operation.get("value")
    actual = document if not path else _lookup_or_none(document, _steps(path))
    if not _equal(actual, expected):
        raise PatchTestFailed(f"testing value {path} failed: test failed")
    return document


_Operation = Callable[[Any, str, Object], Any]
_OPERATIONS: Final[dict[str, _Operation]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _equal(left: Any, right: Any) -> bool:
    """JSON equality; Python alone would take `true` for `1`."""
    return left == right and orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        right, option=orjson.OPT_SORT_KEYS
    )


def _origin(operation: Object) -> list[str]:
    origin = operation.get("from")
    if not isinstance(origin, str):
        raise _Inapplicable
    return _steps(origin)


def _steps(path: str) -> list[str]:
    """The reference tokens; what stands before the first `/` is ignored."""
    _, *steps = path.split("/")
    if not steps and path:
        raise _Inapplicable
    if not steps:
        raise _Inapplicable
    return [step.replace("~1", "/").replace("~0", "~") for step in steps]


def _edit(container: Any, steps: list[str], change: Callable[[Any, str], Any]) -> Any:
    """A copy of `container`, along the path only, with `change` done to the last parent."""
    key, *rest = steps
    if not rest:
        if not isinstance(container, dict | list):
            raise _Inapplicable
        return change(cast(Any, container), key)
    child = _edit(_child(container, key), rest, change)
    if isinstance(container, list):
        items = list(cast(Items, container))
        items[_index(items, key)] = child
        return items
    return {**container, key: child}


def _child(container: Any, key: str) -> Any:
    if isinstance(container, list):
        items = cast(Items, container)
        try:
            return items[_index(items, key)]
        except _Inapplicable:
            raise _Inapplicable from None
    if isinstance(container, dict) and key in container:
        return cast(Object, container)[key]
    raise _Inapplicable


_INDEX: Final = re.compile(r"[+-]?[0-9]{1,18}")


def _index(items: Items, key: str, end: int = 0) -> int:
    """A position in the list, `end` places behind its last item at most."""
    if not _INDEX.fullmatch(key):
        wrong = f"'{key}': strconv.Atoi: parsing \"{key}\": invalid syntax"
        raise _Inapplicable(f"value was not a proper array index: {wrong}")
    index = int(key)
    place = index if index >= 0 else index + len(items) + end
    if not 0 <= place < len(items) + end:
        raise _Inapplicable(f"Unable to access invalid index: {index}: invalid index referenced")
    return place


def _with(parent: Any, key: str, value: Any) -> Any:
    if isinstance(parent, dict):
        return {**cast(Object, parent), key: value}
    items = list(cast(Items, parent))
    items.insert(len(items) if key == "-" else _index(items, key, 1), value)
    return items


def _without(parent: Any, key: str) -> Any:
    if isinstance(parent, dict):
        members = cast(Object, parent)
        if key not in members:
            raise _Inapplicable(f"Unable to remove nonexistent key: {key}: missing value")
        return {name: value for name, value in members.items() if name != key}
    items = list(cast(Items, parent))
    del items[_index(items, key)]
    return items


def _replaced(parent: Any, key: str, value: Any) -> Any:
    if isinstance(parent, dict):
        return {**cast(Object, parent), key: value}
    items = list(cast(Items, parent))
    items[_index(items, key)] = value
    return items


def _lookup(document: Any, steps: list[str]) -> Any:
    for step in steps:
        document = _child(document, step)
    return document


def _lookup_or_none(document: Any, steps: list[str]) -> Any:
    """The value of a path whose last step may be missing."""
    parent = _lookup(document, steps[:-1])
    if isinstance(parent, dict):
        return cast(Object, parent).get(steps[-1])
    return _child(parent, steps[-1])


# --- strategic merge patch


def strategic_merge_patch(target: Object, patch: Object, node: Node) -> Object:
    """Merges `patch` by the strategies of the schema.

    Raises ApiError: 400 for some malformed directives, 422 for lists of lists, 500 (as the API does) for whatever else
    cannot be merged: an unknown `$patch`, a list item without its merge key, items of different types.
    """
    return _merge_map(target, patch, node)


def _failure(message: str) -> ApiError:
    return ApiError(500, "", message)


def _wrong_argument(expected: str, actual: Any) -> ApiError:
    return _failure(f"expected a {expected}, but received a {gotext.type_name(actual)}")


_MAP: Final = "map[string]interface {}"
_SLICE: Final = "[]interface {}"


def _merge_map(original: Object, patch: Object, node: Node) -> Object:
    if _DIRECTIVE in patch:
        return _follow_directive(patch)
    result = _retain(original, patch)
    ordered = _merge_ordered_lists(result, patch, node)
    for key, value in patch.items():
        if key == _RETAIN_KEYS or key.startswith(_ORDER) or key in ordered:
            continue
        if key.startswith(_DELETE_FROM):
            _merge_member(result, _subject(key, "primitive list"), value, node, deletes=True)
        else:
            _merge_member(result, key, value, node)
    return result


def _subject(directive: str, what: str) -> str:
    """The field that a directive such as `$setElementOrder/ports` is about."""
    _, slash, key = directive.partition("/")
    if not slash:
        raise bad_request(f"invalid patch format of {what}")
    return key


def _follow_directive(patch: Object) -> Object:
    directive = patch[_DIRECTIVE]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    raise _unknown_directive(patch)


def _unknown_directive(patch: Object) -> ApiError:
    return _failure(f"unknown patch type: {gotext.text(patch[_DIRECTIVE])} in map: {gotext.plain(patch)}")


def _retain(original: Object, patch: Object) -> Object:
    """A copy of the original, cut down to what `$retainKeys` names."""
    if _RETAIN_KEYS not in patch:
        return dict(original)
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list):
        raise bad_request("invalid patch format of retainKeys")
    for key, value in patch.items():
        if key == _RETAIN_KEYS or value is None or key.startswith((_DELETE_FROM, _ORDER)):
            continue
        if key not in retained:
            raise bad_request("invalid patch format of retainKeys")
    return {key: value for key, value in original.items() if key in retained}


def _field(node: Node, key: str) -> Field:
    """What the schema says of a member. Raises ApiError for what is no field of a struct."""
    if node.kind is Kind.MAP:
        raise _failure("merging an object in json but data type is not struct, instead is: map")
    field = node.fields.get(key)
    if field is None:
        raise _failure(f'unable to find api field in struct {node.go_name} for the json field "{key}"')
    return field


def _merge_member(result: Object, key: str, value: Any, node: Node, *, deletes: bool = False) -> None:
    """One member of the patch; `deletes` says that it is a list of what to take away."""
    current: Any = result.get(key)
    if value is None:
        result.pop(key, None)
    elif isinstance(current, dict) and isinstance(value, dict):
        replace = "replace" in _field(node, key).strategies
        child = cast(Object, value)
        result[key] = child if replace else _merge_map(cast(Object, current), child, node.child(key))
    elif isinstance(current, list) and isinstance(value, list):
        result[key] = _merge_list(cast(Items, current), cast(Items, value), _field(node, key), deletes=deletes)
    elif not deletes or gotext.type_name(current) == gotext.type_name(value):
        cleaned = _without_directives(_without_nulls(value))
        if cleaned is _DROPPED:
            result.pop(key, None)
        else:
            result[key] = cleaned


_DROPPED: Final = object()


def _without_nulls(value: Any) -> Any:
    """Nulls in a part of the patch that meets nothing: they would only have deleted."""
    if isinstance(value, dict):
        members = cast(Object, value)
        return {key: _without_nulls(item) for key, item in members.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in cast(Items, value)]
    return value


def _without_directives(value: Any) -> Any:
    """What meets nothing loses its maps with a `$patch`; other directives stay, and turn out to be unknown fields."""
    if isinstance(value, dict):
        members = cast(Object, value)
        if _DIRECTIVE in members:
            return _DROPPED
        cleaned = {key: _without_directives(item) for key, item in members.items()}
        return {key: item for key, item in cleaned.items() if item is not _DROPPED}
    if isinstance(value, list):
        return _cleaned_items(cast(Items, value))
    return value


def _cleaned_items(items: Items) -> Items:
    cleaned = map(_without_directives, items)
    return [item for item in cleaned if item is not _DROPPED]


def _merge_ordered_lists(result: Object, patch: Object, node: Node) -> set[str]:
    """Merges the lists that come with a `$setElementOrder`; returns their names."""
    done: set[str] = set()
    for directive, order in patch.items():
        if directive.startswith(_ORDER):
            key = _subject(directive, "setElementOrder list") if isinstance(order, list) else ""
            present: Items = [members[key] for members in (result, patch) if key in members]
            for items in (cast(Any, order), *present):
                if not isinstance(items, list):
                    raise _wrong_argument(_SLICE, items)
            _merge_ordered_list(result, patch, key, cast(Items, order), _field(node, key))
            done.add(key)
    return done


def _merge_ordered_list(result: Object, patch: Object, key: str, order: Items, field: Field) -> None:
    merge_key = field.merge_key
    current, changes = cast(Items, result.get(key, [])), cast(Items, patch.get(key, []))
    _check_order(changes, order, merge_key)
    if key in patch:
        merged = _merge_list(current, changes, field) if key in result else _cleaned_items(changes)
    elif key in result:
        merged = current
    else:
        return
    _check_same_types(current, changes)
    result[key] = _in_order(merged, order, current, merge_key)


def _check_order(changes: Items, order: Items, merge_key: str | None) -> None:
    """The items of the patch must stand in the order that it asks for.

    Those with a directive are passed over, but only as long as there is an order left to compare with.
    """
    kept: Items = [item for item in changes if _directive_of(item) != "delete"]
    if not order or not changes:
        return
    place = 0
    for wanted in order:
        while place < len(kept) and _directive_of(kept[place]) is not None:
            place += 1
        if place == len(kept):
            break
        if _identity(kept[place], merge_key) == _identity(wanted, merge_key):
            place += 1
    if place < len(kept):
        listing = f"{gotext.plain(changes)}\n doesn't match $setElementOrder list:\n{gotext.plain(order)}\n"
        raise _failure(f"The order in patch list:\n{listing}")


def _directive_of(item: Any) -> Any:
    return cast(Object, item).get(_DIRECTIVE) if isinstance(item, dict) else None


def _identity(item: Any, merge_key: str | None) -> Any:
    if not isinstance(item, dict):
        if merge_key:
            raise _wrong_argument(_MAP, item)
        return item
    members = cast(Object, item)
    if merge_key is None or merge_key not in members:
        raise _failure(f"map: {gotext.plain(members)} does not contain declared merge key: {merge_key or ''}")
    return members[merge_key]


def _check_same_types(current: Items, changes: Items) -> None:
    """Go merges lists of one type only, and none of lists."""
    kinds = {gotext.type_name(item) for item in (*current, *changes)}
    if not kinds:
        raise _failure("no elements in any of the given slices")
    if gotext.type_name((current or changes)[0]) == _SLICE:
        raise unprocessable()
    if len(kinds) > 1:
        raise _failure(f"list element types are not identical: {gotext.plain([current, changes])}")


def _merge_list(current: Items, changes: Items, field: Field, *, deletes: bool = False) -> Items:
    if not deletes and "merge" not in field.strategies:
        return changes
    if not current and not changes:
        return current
    _check_same_types(current, changes)
    if not isinstance((current or changes)[0], dict):
        if deletes:
            return [item for item in current if item not in changes]
        return _in_order(list(dict.fromkeys([*current, *changes])), changes, current, None)
    if not field.merge_key:
        raise _failure("cannot merge lists without merge key for struct")
    return _merge_keyed_list(current, changes, field, field.merge_key)


def _merge_keyed_list(current: Items, changes: Items, field: Field, merge_key: str) -> Items:
    kept, ordinary = _follow_item_directives(current, changes, merge_key)
    merged = list(kept)
    positions = {_hashable(item.get(merge_key)): index for index, item in reversed(list(enumerate(merged)))}
    for item in ordinary:
        identity = _hashable(_identity(item, merge_key))
        index = positions.get(identity)
        if index is None:
            positions[identity] = len(merged)
            merged.append(item)
        else:
            merged[index] = _merge_map(merged[index], item, field.node.element)
    return _in_order(merged, ordinary, kept, merge_key)


def _hashable(value: Any) -> Any:
    return (type(value), value) if not isinstance(value, dict | list) else orjson.dumps(value)


def _follow_item_directives(current: Items, changes: Items, merge_key: str) -> tuple[Items, Items]:
    """The items that `$patch: delete` and `$patch: replace` leave of the list, and the patch's own to be merged in."""
    kept = current
    ordinary: Items = []
    replace = False
    for item in changes:
        directive = _directive_of(item)
        if _DIRECTIVE not in item:
            ordinary.append(item)
        elif directive == "delete":
            gone = _identity(item, merge_key)
            kept = [other for other in kept if other.get(merge_key) != gone]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _failure("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(item)
    return (ordinary, []) if replace else (kept, ordinary)


def _in_order(merged: Items, order: Items, live: Items, merge_key: str | None) -> Items:
    """The items named by `order` in that order; the server's own items between them where the live list has them.

    Items that neither list knows come first, the last of them before all.
    """

    def identity(item: Any) -> Any:
        return _hashable(_identity(item, merge_key))

    def places(items: Items) -> dict[Any, int]:
        found: dict[Any, int] = {}
        for index, item in enumerate(items):
            found.setdefault(identity(item), index)
        return found

    wanted, live_places = places(order), places(live)
    named = sorted((item for item in merged if identity(item) in wanted), key=lambda item: wanted[identity(item)])
    others = [item for item in merged if identity(item) not in wanted]
    known = [item for item in others if identity(item) in live_places]
    known.sort(key=lambda item: live_places[identity(item)])
    unknown = [item for item in others if identity(item) not in live_places]
    return _interleave([*reversed(unknown), *known], named, lambda item: live_places.get(identity(item)))


def _interleave(left: Items, right: Items, place: Callable[[Any], int | None]) -> Items:
    result: Items = []
    waiting = iter([*left])
    following = next(waiting, _DROPPED)
    for item in right:
        here = place(item)
        while following is not _DROPPED and here is not None:
            there = place(following)
            if there is None or there >= here:
                break
            result.append(following)
            following = next(waiting, _DROPPED)
        result.append(item)
    if following is not _DROPPED:
        result += [following, *waiting]
    return result

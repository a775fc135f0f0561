"""Walking the values of custom resources beside their old ones, led by the schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

import orjson

from podling.store.types import Object

MISSING: Final = object()
"""In place of an old value where there is none."""


def corresponding(schema: Object, items: list[Any], old: Any) -> Iterable[tuple[Any, Any]]:
    """Each item with the old item that it is the new state of: in a list-type map, the one with the same keys."""
    if not isinstance(old, list) or schema.get("x-kubernetes-list-type") != "map":
        return ((item, MISSING) for item in items)
    before = {item_key(schema, item): item for item in cast("list[Any]", old)}
    return ((item, before.get(item_key(schema, item), MISSING)) for item in items)


def item_key(schema: Object, item: Any) -> bytes:
    """What tells an item of a list-type map from the others."""
    return orjson.dumps(item_keys(schema, item))


def item_keys(schema: Object, item: Any) -> Object:
    fields = cast(Object, item) if isinstance(item, dict) else {}
    return {key: fields[key] for key in cast("list[str]", schema["x-kubernetes-list-map-keys"]) if key in fields}


def json_equal(one: Any, other: Any) -> bool:
    """JSON equality: Python holds `1`, `1.0` and `true` for the same."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        left, right = cast(Object, one), cast(Object, other)
        return left.keys() == right.keys() and all(json_equal(item, right[key]) for key, item in left.items())
    if isinstance(one, list):
        first, second = cast("list[Any]", one), cast("list[Any]", other)
        return len(first) == len(second) and all(map(json_equal, first, second))
    return bool(one == other)

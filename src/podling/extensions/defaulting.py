"""Defaults from the schema of a custom resource (`apiextensions-apiserver/pkg/apiserver/schema/defaulting`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import orjson

from podling.store.types import Object

Fill = Callable[[Any], None]
"""Fills the defaults into a value, in place."""


def filled(obj: Object, fill: Fill | None) -> Object:
    """A copy with defaults, as deep as they may go."""
    if fill is None:
        return obj
    copy: Object = orjson.loads(orjson.dumps(obj))
    fill(copy)
    return copy


def compile_defaults(schema: Object, *, root: bool = True) -> Fill | None:
    """What fills in the defaults of a structural schema; `None` where it has none."""
    fields: dict[str, Object] = schema.get("properties") or {}
    if root:
        fields = {name: field for name, field in fields.items() if name not in _OWN}
    defaults = {name: orjson.dumps(field["default"]) for name, field in fields.items() if _has_default(field)}
    dropped = {name for name, field in fields.items() if _has_default(field) and not field.get("nullable")}
    compiled = {name: compile_defaults(field, root=False) for name, field in fields.items()}
    inner = {name: fill for name, fill in compiled.items() if fill is not None}
    each = _of_elements(schema)
    if not defaults and not inner and each is None:
        return None

    def fill(value: Any) -> None:
        if isinstance(value, dict):
            members = cast(Object, value)
            for name, default in defaults.items():
                if name not in members or (members[name] is None and name in dropped):
                    members[name] = orjson.loads(default)
            for name, fill_member in inner.items():
                if name in members:
                    fill_member(members[name])
            if each is not None:
                for name, member in members.items():
                    if name not in fields:
                        each(member)
        elif isinstance(value, list) and each is not None:
            for item in cast("list[Any]", value):
                each(item)

    return fill


def compile_filling(schema: Object) -> Fill:
    """What is done to an object that a client sent: a null where there may be none is as if nothing had been sent,
    and then the defaults are filled in."""
    fill, forget = compile_defaults(schema), _compile_nulls(schema, root=True)

    def default(value: Any) -> None:
        if forget is not None:
            forget(value)
        if fill is not None:
            fill(value)

    return default


def _compile_nulls(schema: Object, *, root: bool = False) -> Fill | None:
    own = _OWN if root else ()
    properties: dict[str, Object] = schema.get("properties") or {}
    fields = {name: field for name, field in properties.items() if name not in own}
    inner = {name: made for name, field in fields.items() if (made := _compile_nulls(field)) is not None}
    others: Any = schema.get("items") or schema.get("additionalProperties")
    element = cast(Object, others) if isinstance(others, dict) else None
    each = _compile_nulls(element) if element is not None else None
    dropped = {name for name, field in fields.items() if not (field.get("nullable") or _has_default(field))}
    drops_others = element is not None and not (element.get("nullable") or _has_default(element))
    if not dropped and not inner and each is None and not drops_others:
        return None

    def forget(value: Any) -> None:
        if isinstance(value, dict):
            members = cast(Object, value)
            for name in [n for n, m in members.items() if m is None]:
                if name in dropped or (drops_others and name not in fields and name not in own):
                    del members[name]
            for name, member in members.items():
                below = inner.get(name) if name in fields else None if name in own else each
                if below is not None and member is not None:
                    below(member)
        elif isinstance(value, list) and each is not None:
            for item in cast("list[Any]", value):
                each(item)

    return forget


_OWN: Final = ("apiVersion", "kind", "metadata")


def _has_default(field: Object) -> bool:
    return field.get("default") is not None


def _of_elements(schema: Object) -> Fill | None:
    for key in ("items", "additionalProperties"):
        element: Any = schema.get(key)
        if isinstance(element, dict):
            return compile_defaults(cast(Object, element), root=False)
    return None

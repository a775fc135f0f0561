"""Fields and items of values, when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from podling.cel.syntax import RESERVED
from podling.cel.values import CelError, Optional, no_key, no_overload, to_string

Environment = Mapping[str, Any]
Run = Callable[[Environment], Any]

_ESCAPES: Final = (("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"))
_KEYWORDS: Final = RESERVED | {"true", "false", "null", "in"}


def escaped(name: str) -> str | None:
    """A property's name as CEL can write it; `None`: it cannot."""
    for escape, character in _ESCAPES:
        name = name.replace(character, escape)
    if not (name.isidentifier() and name.isascii()):
        return None
    return f"__{name}__" if name in _KEYWORDS else name


def unescaped(name: str) -> str:
    """The property behind a name that CEL can write (`foo__dash__bar`)."""
    if "__" not in name:
        return name
    for escape, character in reversed(_ESCAPES):
        name = name.replace(escape, character)
    return name[2:-2] if name.startswith("__") and name.endswith("__") and len(name) > 4 else name


def field_of(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        if name in members:
            return members[name]
        raise no_key(name)
    if isinstance(value, Optional):
        return optional_field(value, name)
    raise no_overload() if value is not None else no_key(name)


def has_field(value: Any, name: str) -> bool:
    if isinstance(value, Optional):
        return value.present and has_field(value.value, name)
    if not isinstance(value, dict):
        raise no_overload()
    members = cast("dict[str, Any]", value)
    return members.get(name) is not None


def optional_field(value: Any, name: str) -> Optional:
    inner = value.value if isinstance(value, Optional) else value
    if isinstance(inner, dict) and name in inner:
        return Optional(cast("dict[str, Any]", inner)[name], True)
    return Optional()


def item_at(items: Any, at: Any) -> Any:
    """`items[at]`."""
    if isinstance(items, list):
        found = cast("list[Any]", items)
        if not isinstance(at, int) or isinstance(at, bool):
            raise no_overload()
        if not 0 <= at < len(found):
            raise CelError(f"index out of bounds: {at}")
        return found[at]
    if isinstance(items, dict):
        members = cast("dict[Any, Any]", items)
        if at not in members:
            raise no_key(to_string(at))
        return members[at]
    raise no_overload()


def optional_item(value: Any, at: Any) -> Optional:
    inner = value.value if isinstance(value, Optional) else value
    if inner is None:
        return Optional()
    try:
        return Optional(item_at(inner, at), True)
    except CelError:
        return Optional()


def boolean(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise no_overload()

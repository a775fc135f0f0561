"""Objects as Kubernetes' internal Go structs print themselves: what its errors show of more than a single field.

The API server checks internal structs, which have no JSON tags: encoding/json writes every field, under its Go name, in
the order of its declaration, with `null` for a nil pointer, slice or map and the zero value for what was not set.
Types of `k8s.io/apimachinery` (`LabelSelector`, `ObjectMeta`) have tags and write themselves as they do everywhere.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from podling.api import gotext, quantity
from podling.kinds.validation.fields import go_map, shown_selector
from podling.store.types import Object


class _Member(NamedTuple):
    """A field: what Go calls it, its key in the object that clients send, and its type."""

    name: str
    key: str
    type: str


@dataclass(frozen=True, slots=True)
class Structs:
    """The internal structs of a group.

    `declared` has one line a struct: its fields in Go's order, each `Name`, `Name:type` or `Name=key:type`. The key is
    said where it is not the name in small letters, the type where it is not `string`; `+Struct` takes in the fields of
    an embedded struct. A type is `bool`, `int`, `float`, `quantity`, `intstr`, `time`, `any`, `LabelSelector` or the
    name of a struct, behind any of `*` (pointer), `[]` (slice) and `{}` (map by text).

    `converted` makes of what clients send what the struct of that name is built from, where a field is elsewhere.
    """

    declared: Mapping[str, str]
    converted: Mapping[str, Callable[[Any], Object]]

    def shown(self, type_: str, value: Any) -> Any:
        """The value, of that type, as encoding/json would write it."""
        for sign in ("*", "[]", "{}"):
            if type_.startswith(sign):
                return None if value is None else self._within(sign, type_.removeprefix(sign), value)
        if type_ in _PLAIN:
            return _PLAIN[type_](value)
        whole: Any = {} if value is None else value
        convert = self.converted.get(type_)
        return self._struct(type_, convert(whole) if convert else whole)

    def _within(self, sign: str, type_: str, value: Any) -> Any:
        if sign == "*":
            return self.shown(type_, value)
        if sign == "[]":
            return [self.shown(type_, item) for item in value]
        return {key: self.shown(type_, item) for key, item in sorted(cast(Object, value).items())}

    def _struct(self, name: str, value: Object) -> Object:
        shown: Object = {}
        for word in self.declared[name].split():
            if word == "+ObjectMeta":
                shown |= _metadata(value.get("metadata") or {})
            elif word.startswith("+"):
                shown |= self._struct(word[1:], value)
            else:
                member = _member(word)
                shown[member.name] = self.shown(member.type, value.get(member.key))
        return shown

    def difference(self, type_: str, before: Any, after: Any) -> str:
        """What changed, as `diff.Diff` of `k8s.io/apimachinery` tells it: a unified diff, without names of files."""
        old, new = (_indented(self.shown(type_, value)).split("\n") for value in (before, after))
        return "".join(f"{line}\n" for line in list(difflib.unified_diff(old, new, lineterm=""))[2:])


def _member(word: str) -> _Member:
    called, _, type_ = word.partition(":")
    name, _, key = called.partition("=")
    return _Member(name, key or _key(name), type_ or "string")


_CAPITALS: Final = re.compile("[A-Z]+(?![a-z])|[A-Z]")


def _key(name: str) -> str:
    """`FSType` is `fsType`, `TTY` is `tty`."""
    return _CAPITALS.sub(lambda capitals: capitals[0].lower(), name, count=1)


def _indented(value: Any) -> str:
    """As `json.MarshalIndent(value, "", " ")` writes it."""
    return gotext.for_web(json.dumps(value, indent=1, ensure_ascii=False))


_METADATA: Final = (
    *("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers"),
    "managedFields",
)


def _metadata(metadata: Object) -> Object:
    """An embedded `ObjectMeta`, which leaves out what it does not have."""
    held = {key: metadata[key] for key in _METADATA if metadata.get(key)}
    return {key: go_map(cast(Object, value)) if isinstance(value, dict) else value for key, value in held.items()}


def _any(value: Any) -> Any:
    """JSON that was read without a type: every number is a float64, which Go writes as short as it can."""
    if isinstance(value, dict):
        return {key: _any(item) for key, item in sorted(cast(Object, value).items())}
    if isinstance(value, list):
        return [_any(item) for item in cast(list[Any], value)]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXPONENT_FROM else value


_EXPONENT_FROM: Final = 1e21


def _quantity(value: Any) -> str:
    return str(quantity.of(value or 0))


_PLAIN: Final[dict[str, Callable[[Any], Any]]] = {
    "string": lambda value: value or "",
    "bool": bool,
    "int": lambda value: value or 0,
    "intstr": lambda value: value or 0,
    "quantity": _quantity,
    "time": lambda value: value,
    "any": _any,
    "float": lambda value: _any(value or 0),
    "LabelSelector": lambda value: shown_selector(value or {}),
}

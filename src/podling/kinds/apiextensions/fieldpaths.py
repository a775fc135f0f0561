"""The paths to fields that rules, and fields to select by, are told with: `.spec.replicas`, `.labels['app']`.

(`ValidFieldPath` of `apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go`)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

from podling.kinds.validation.fields import part
from podling.store.types import Object

_TOKEN: Final = re.compile(r"'(?:\\'|[^'])+'|[.\[\]]|[^.\[\]]+")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = dict(zip("abfnrtv'\\", "\a\b\f\n\r\t\v'\\", strict=True))


class PathError(Exception):
    """Not a path of the schema; the text says why."""


class Followed(NamedTuple):
    """Where a path leads."""

    path: str
    """As it is told in errors: `spec.labels[app]`."""
    schema: Object


def follow(json_path: str, schema: Object, *, brackets: bool = True) -> Followed:
    """Raises PathError."""
    shown, place = "", schema
    for name in _names(json_path, brackets):
        fields: Any = place.get("properties")
        others: Any = place.get("additionalProperties")
        if fields:
            if name not in fields:
                raise PathError("does not refer to a valid field")
            shown, place = f"{shown}.{name}" if shown else name, part(fields, name)
        elif isinstance(others, dict):
            shown, place = f"{shown}[{name}]", cast(Object, others)
        else:
            raise PathError("does not refer to a valid field")
    return Followed(shown, place)


def _names(json_path: str, brackets: bool) -> Iterator[str]:
    tokens = iter(_TOKEN.findall(json_path))
    for token in tokens:
        match token:
            case ".":
                yield _next(tokens)
            case "[" if not brackets:
                raise PathError("array notation is not allowed")
            case "[":
                quoted = _next(tokens)
                if len(quoted) < 2 or quoted[0] != "'" or quoted[-1] != "'":
                    raise PathError(f"expected single quoted string but got {quoted}")
                yield _unquoted(quoted[1:-1])
                if (closing := _next(tokens)) != "]":
                    raise PathError(f"expected ] but got {closing}")
            case _:
                raise PathError(f"expected [ or . but got: {token}")


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise PathError("unexpected end of JSON path")
    return token


def _unquoted(value: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise PathError(f"invalid string literal: invalid escape char {match[0]}")
        return _ESCAPES[match[1]]

    return _ESCAPED.sub(character, value)

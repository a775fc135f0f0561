"""The JSONPath of printer columns and of messages, as client-go has it: fields, indexes, slices, wildcards, filters.

A path is compiled once into steps; each step turns the values found so far into the next ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

import orjson

Step = Callable[[Any], Iterable[Any]]

_TOKEN: Final = re.compile(
    r"""\.\.(?P<deep>[^.\[\]]+) | \.?\*(?P<every>) | \.(?P<field>(?:\\.|[^.\[\]\\])+)
      | \[\?\((?P<filter>.*?)\)\] | \['(?P<quoted>(?:\\.|[^'])*)'\] | \["(?P<quoted2>(?:\\.|[^"])*)"\]
      | \[(?P<all>\*)\] | \[(?P<slice>-?\d*:-?\d*(?::-?\d*)?)\] | \[(?P<index>-?\d+(?:,-?\d+)*)\]""",
    re.VERBOSE,
)
_FILTER: Final = re.compile(r"^\s*(?P<left>@\S*?)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<right>.+?))?\s*$")


class PathError(ValueError):
    """The path is none."""


def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """What finds the values at a path (`.spec.l[*].x`). Raises PathError."""
    steps = list(_steps(path))

    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = [after for before in found for after in step(before)]
        return found

    return find


def _steps(path: str) -> Iterator[Step]:
    at = 1 if path.startswith("$") else 0
    while at < len(path):
        match = _TOKEN.match(path, at)
        if match is None:
            raise PathError(f"unexpected path at {path[at:]!r}")
        yield _step(match)
        at = match.end()


def _step(match: re.Match[str]) -> Step:
    kind, text = match.lastgroup or "", match[match.lastgroup or 0]
    match kind:
        case "deep":
            return lambda value: _deep(value, text)
        case "every" | "all":
            return _every
        case "field" | "quoted" | "quoted2":
            return _field(re.sub(r"\\(.)", r"\1", text))
        case "filter":
            return _filter(text)
        case "slice":
            bounds = slice(*(int(number) if number else None for number in text.split(":")))
            return lambda value: cast("list[Any]", value)[bounds] if isinstance(value, list) else ()
        case _:
            return _indexes([int(number) for number in text.split(",")])


def _field(name: str) -> Step:
    def step(value: Any) -> Iterable[Any]:
        return (cast("dict[str, Any]", value)[name],) if isinstance(value, dict) and name in value else ()

    return step


def _indexes(numbers: list[int]) -> Step:
    def step(value: Any) -> Iterable[Any]:
        if not isinstance(value, list):
            return ()
        items = cast("list[Any]", value)
        return [items[number] for number in numbers if -len(items) <= number < len(items)]

    return step


def _every(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def _deep(value: Any, name: str) -> Iterator[Any]:
    if isinstance(value, dict) and name in value:
        yield cast("dict[str, Any]", value)[name]
    for inner in _every(value):
        yield from _deep(inner, name)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _filter(text: str) -> Step:
    match = _FILTER.match(text)
    if match is None:
        raise PathError(f"unrecognised filter {text!r}")
    find = compile_path(match["left"][1:])
    operator = match["operator"]
    wanted = _literal(match["right"]) if operator else None

    def fits(item: Any) -> bool:
        found = find(item)
        if not operator or not found:
            return bool(found)
        return _same_kind(found[0], wanted) and _COMPARE[operator](found[0], wanted)

    return lambda value: [item for item in _every(value) if fits(item)]


def _same_kind(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    return isinstance(left, str) == isinstance(right, str) and isinstance(left, str | int | float)


def _literal(text: str) -> Any:
    if text[:1] in "'\"":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise PathError(f"unrecognised literal {text!r}") from None


def printed(value: Any) -> str:
    """A value as client-go prints it."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case dict() | list():
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
        case _:
            return str(cast(object, value))

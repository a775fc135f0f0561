"""The functions of CEL: the standard ones, the extensions that Kubernetes enables, and Kubernetes' own.

Each entry is a signature and what computes it. `string.startsWith(string) bool` is called on a value, `size(string)
int` is not. Capitals are parameters of the signature.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from podling.cel import authorization, kubernetes, lists, standard, texts
from podling.cel.standard import to_duration, to_timestamp
from podling.cel.types import Type, parse_type
from podling.cel.values import type_name

__all__ = ["NAMESPACES", "Overload", "accepts", "functions", "to_duration", "to_timestamp"]


class Overload(NamedTuple):
    """One signature of a function. `on_value`: its first parameter is what it is called on."""

    name: str
    on_value: bool
    parameters: tuple[Type, ...]
    result: Type
    compute: Callable[..., Any]


NAMESPACES: Final = frozenset({"optional", "sets", "lists", "strings", "format", "jsonpatch"})
_SIGNATURE: Final = re.compile(r"(?P<name>.+?)\((?P<parameters>[^()]*)\) (?P<result>.+)")


def _table() -> Iterable[tuple[str, Callable[..., Any]]]:
    yield from standard.overloads()
    yield from texts.overloads()
    yield from lists.overloads()
    yield from kubernetes.overloads()
    is_formatted = kubernetes.is_formatted
    yield from authorization.overloads(is_formatted("dns1123Subdomain"), is_formatted("dns1123Label"))


def _overload(signature: str, compute: Callable[..., Any]) -> Overload:
    match = _SIGNATURE.fullmatch(signature)
    assert match is not None, signature
    name, parameters = match["name"], [p for p in re.split(r",\s+", match["parameters"]) if p]
    receiver, dot, method = name.rpartition(".")
    called_on = bool(dot) and receiver not in NAMESPACES and name != "ip.isCanonical"
    if called_on:
        parameters = [receiver, *parameters]
        name = method
    return Overload(name, called_on, tuple(map(parse_type, parameters)), parse_type(match["result"]), compute)


@cache
def functions() -> Mapping[tuple[str, bool], list[Overload]]:
    """All overloads, by name and whether they are called on a value."""
    found: dict[tuple[str, bool], list[Overload]] = {}
    for signature, compute in _table():
        overload = _overload(signature, compute)
        found.setdefault((overload.name, overload.on_value), []).append(overload)
    return found


def accepts(wanted: Type, value: Any) -> bool:
    """Whether a value can be given to a parameter; decided when it runs, where the checker could not."""
    if len(wanted.name) == 1 or wanted.name == "dyn":
        return True
    return type_name(value) == wanted.name

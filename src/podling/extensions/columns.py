"""The printed columns of custom resources (`apiextensions-apiserver/pkg/registry/customresource/tableconvertor`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.ages import since
from podling.api.resources import Column, Row
from podling.api.table import CREATED_DESCRIPTION, NAME_DESCRIPTION
from podling.extensions.jsonpath import PathError, compile_path, printed
from podling.store.types import Object

_DESCRIBED: Final = "Custom resource definition column (in JSONPath format): "
_AGE: Final[Object] = {
    "name": "Age",
    "type": "date",
    "description": CREATED_DESCRIPTION,
    "jsonPath": ".metadata.creationTimestamp",
}

_Cell = Callable[[Object, datetime], Any]


def columns_and_row(declared: Sequence[Object]) -> tuple[tuple[Column, ...], Row]:
    """Of `additionalPrinterColumns`; without any, objects show name and age."""
    declared = declared or [_AGE]
    columns = (Column("Name", "string", "name", NAME_DESCRIPTION), *(_column(column) for column in declared))
    cells = [_cell(column) for column in declared]

    def row(obj: Object, now: datetime) -> list[Any]:
        return [obj["metadata"]["name"], *(cell(obj, now) for cell in cells)]

    return columns, row


def _column(declared: Object) -> Column:
    description = declared.get("description") or _DESCRIBED + declared["jsonPath"]
    priority = declared.get("priority") or 0
    return Column(declared["name"], declared["type"], declared.get("format") or "", description, priority)


def _cell(declared: Object) -> _Cell:
    try:
        find = compile_path(declared["jsonPath"])
    except PathError:
        return lambda _obj, _now: None
    kind = declared["type"]

    def cell(obj: Object, now: datetime) -> Any:
        found = find(obj)
        return _shown(kind, found[0], now) if found else None

    return cell


def _shown(kind: str, value: Any, now: datetime) -> Any:
    """The value as the column's type; nothing where it is of another."""
    if kind == "string":
        return printed(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if is_number else None
    if kind == "number":
        return value if is_number else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return _age(value, now) if kind == "date" and isinstance(value, str) else None


def _age(moment: str, now: datetime) -> str:
    try:
        return since(moment, now)
    except (ValueError, TypeError):
        return "<invalid>"

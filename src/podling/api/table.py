"""`meta.k8s.io` Tables: what kubectl prints. The columns and cells are the kind's; the frame is here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from podling.api.errors import bad_request
from podling.api.resources import Column, Resource
from podling.store.types import Object

NAME_DESCRIPTION = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
CREATED_DESCRIPTION = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)

_DEFAULT_COLUMNS = (
    Column("Name", "string", "name", NAME_DESCRIPTION),
    Column("Created At", "date", "", CREATED_DESCRIPTION),
)


def check_include_object(value: str) -> str:
    """The `includeObject` parameter. Raises 400."""
    if value in ("", "Metadata", "Object", "None"):
        return value or "Metadata"
    raise bad_request(
        f'Unable to convert to Table as requested: includeObject: Invalid value: "{value}": '
        "must be 'Metadata', 'Object', 'None', or empty"
    )


def table(
    resource: Resource,
    objects: Iterable[Object],
    metadata: Object,
    now: datetime,
    *,
    include: str = "Metadata",
    version: str = "v1",
    with_columns: bool = True,
) -> Object:
    """A Table with one row for each object. `metadata` is that of the list (or of the one object)."""
    api_version = f"meta.k8s.io/{version}"
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": metadata,
        "columnDefinitions": column_definitions(resource) if with_columns else None,
        "rows": [_row(resource, obj, now, include, api_version) for obj in objects],
    }


def column_definitions(resource: Resource) -> list[Object]:
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in resource.columns or _DEFAULT_COLUMNS
    ]


def _row(resource: Resource, obj: Object, now: datetime, include: str, api_version: str) -> Object:
    if resource.row is not None and resource.columns:
        cells = resource.row(obj, now)
    else:
        cells = [obj["metadata"].get("name", ""), obj["metadata"].get("creationTimestamp")]
    row: Object = {"cells": cells, "object": None}
    if resource.row_conditions is not None and (conditions := resource.row_conditions(obj)):
        row["conditions"] = conditions
    if include == "Metadata":
        row["object"] = partial(obj, api_version)
    elif include == "Object":
        row["object"] = obj
    return row


def partial(obj: Object, api_version: str = "meta.k8s.io/v1") -> Object:
    """A `PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj["metadata"]}

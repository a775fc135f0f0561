"""ComponentStatus: the health of the control plane's parts; deprecated, and only read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.resources import Column, Resource, Strategy
from podling.kinds.printing import name, name_column
from podling.kinds.validation.fields import entries, text
from podling.store.types import Object


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Status", description="Status of the component conditions"),
        Column("Message", description="Message of the component conditions"),
        Column("Error", description="Error of the component conditions"),
    )


def row(obj: Object, now: datetime) -> list[Any]:  # noqa: ARG001  a Row: it shows no age
    for condition in entries(obj, "conditions"):
        if condition.get("type") == "Healthy":
            status = "Healthy" if condition.get("status") == "True" else "Unhealthy"
            return [name(obj), status, text(condition, "message"), text(condition, "error")]
    return [name(obj), "Unknown", "", ""]


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ComponentStatus",
        plural="componentstatuses",
        singular="componentstatus",
        namespaced=False,
        schema="io.k8s.api.core.v1.ComponentStatus",
        short_names=("cs",),
        deprecation="v1 ComponentStatus is deprecated in v1.19+",
        verbs=frozenset({"get", "list"}),
        strategy=Strategy(generation=None),
        columns=_columns(),
        row=row,
    )

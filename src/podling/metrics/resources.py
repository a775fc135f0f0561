"""NodeMetrics and PodMetrics as served resources: their names, columns and schemas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from podling.api import meta
from podling.api.quantity import Quantity, of
from podling.api.resources import Column, Resource, Strategy
from podling.api.schema import Schemas
from podling.metrics.custommetrics import LISTS, PLURALS, VERSIONS
from podling.metrics.usage import GROUP, VERSION
from podling.store.types import Object

SCHEMAS = "io.k8s.metrics.pkg.apis.metrics.v1beta1"
MEASURED = ("cpu", "memory")

_QUANTITY: Object = {"$ref": "io.k8s.apimachinery.pkg.api.resource.Quantity"}
_USAGE: Object = {"type": "object", "additionalProperties": _QUANTITY}
_COMMON: Object = {
    "timestamp": {"$ref": "io.k8s.apimachinery.pkg.apis.meta.v1.Time"},
    "window": {"type": "string"},
}
_CONTAINER: Object = {"type": "object", "properties": {"name": {"type": "string"}, "usage": _USAGE}}


def node_metrics() -> Resource:
    return _resource("NodeMetrics", "nodes", namespaced=False)


def pod_metrics() -> Resource:
    return _resource("PodMetrics", "pods", namespaced=True)


def _resource(kind: str, plural: str, *, namespaced: bool) -> Resource:
    return Resource(
        group=GROUP,
        version=VERSION,
        kind=kind,
        plural=plural,
        singular="",
        namespaced=namespaced,
        schema=f"{SCHEMAS}.{kind}",
        verbs=frozenset({"get", "list"}),
        strategy=Strategy(generation=None),
        columns=(
            Column("Name", format="name", description="Name of the resource"),
            *(Column(name, format="quantity") for name in MEASURED),
            Column("Window", format="duration"),
        ),
        row=row,
    )


def register(schemas: Schemas) -> None:
    """Makes the kinds known to OpenAPI, and so to `kubectl explain`."""
    node: Object = {"type": "object", "properties": {**_COMMON, "usage": _USAGE}}
    pod: Object = {"type": "object", "properties": {**_COMMON, "containers": {"type": "array", "items": _CONTAINER}}}
    for kind, schema in (("NodeMetrics", node), ("PodMetrics", pod)):
        schemas.register(f"{SCHEMAS}.{kind}", schema, GROUP, VERSION, kind)


def custom_metrics(group: str, version: str) -> Resource:
    """What makes the version appear in discovery. Which metrics there are is known only while they are asked for, so
    it has no verbs."""
    return Resource(
        group=group,
        version=version,
        kind=LISTS[group],
        plural=PLURALS[group],
        singular="",
        namespaced=True,
        schema=_list_schema(group, version),
        verbs=frozenset(),
        strategy=Strategy(generation=None),
    )


def register_custom(schemas: Schemas) -> None:
    anything: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    for group, versions in VERSIONS.items():
        for version in versions:
            schemas.register(_list_schema(group, version), anything, group, version, LISTS[group])


def _list_schema(group: str, version: str) -> str:
    return f"io.k8s.metrics.pkg.apis.{group.partition('.')[0]}_metrics.{version}.{LISTS[group]}"


def row(obj: Object, _now: datetime) -> list[Any]:
    """The cells of a Table: a pod's containers together."""
    measured = [obj["usage"]] if "usage" in obj else [c["usage"] for c in meta.items(obj, "containers")]
    return [meta.name(obj), *(_total(part[name] for part in measured) for name in MEASURED), obj["window"]]


def _total(texts: Iterable[str]) -> str:
    quantities = [of(text) for text in texts]
    if not quantities:
        return "0"
    return str(Quantity(sum(q.nanos for q in quantities), quantities[0].format))

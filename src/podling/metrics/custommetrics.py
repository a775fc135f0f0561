"""`custom.metrics.k8s.io` and `external.metrics.k8s.io` from the adapter: what a path asks for, and the answer to it.

A custom metric belongs to an object: a pod tells its own; of anything that selects pods (a Service, a Deployment) and
of a namespace it is the sum over their pods. An external metric is every series of that name in the namespace's pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.quantity import Quantity
from podling.api.requests import Query, RequestInfo
from podling.api.selectors import LabelSelector, parse_label_selector
from podling.clock import SystemClock
from podling.controllers import targets
from podling.metrics.adapter import Adapter, Interest, Value
from podling.store.types import Object

CUSTOM: Final = "custom.metrics.k8s.io"
EXTERNAL: Final = "external.metrics.k8s.io"
VERSIONS: Final = {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}
"""The preferred one first."""
LISTS: Final = {CUSTOM: "MetricValueList", EXTERNAL: "ExternalMetricValueList"}
PLURALS: Final = {CUSTOM: "pods", EXTERNAL: "externalmetrics"}
"""What discovery names, without a verb, where no metric is asked for: kubectl up to 1.27 takes an empty list for a
failure."""
_NANO: Final = 10**9


class CustomMetrics:
    """`client` only reads. Rates are what programs do in the machine's time, moments and windows are the cluster's."""

    def __init__(self, adapter: Adapter, client: Client, clock: SystemClock) -> None:
        self._adapter = adapter
        self._client = client
        self._clock = clock

    async def answer(self, info: RequestInfo, query: Query) -> Object:
        """The list that a GET of such a path is answered with. Raises `ApiError`."""
        if info.verb not in ("get", "list"):
            raise ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {}
            )
        items = await (self._custom(info, query) if info.group == CUSTOM else self._external(info, query))
        return {
            "kind": LISTS[info.group],
            "apiVersion": f"{info.group}/{info.version}",
            "metadata": {},
            "items": items,
        }

    def listed(self, group: str, version: str) -> Object:
        """Discovery: the metrics that are being asked for."""
        asked = self._adapter.metrics()
        custom = {f"{resource}/{interest.metric}" for interest in asked for resource in ("pods", "namespaces")}
        names = sorted(custom if group == CUSTOM else {interest.metric for interest in asked})
        kind = LISTS[group]
        entry = {"singularName": "", "kind": kind, "verbs": ["get"] if names else []}
        resources = [
            {"name": name, "namespaced": not name.startswith("namespaces/"), **entry}
            for name in names or [PLURALS[group]]
        ]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}",
            "resources": resources,
        }

    # Custom metrics

    async def _custom(self, info: RequestInfo, query: Query) -> list[Object]:
        if not info.namespace:
            raise _unknown(info.subresource or info.name, info.resource)
        if info.resource == "pods" and info.name == "*":
            return await self._of_pods(info, query)
        return [await self._of_object(info, query)]

    async def _of_pods(self, info: RequestInfo, query: Query) -> list[Object]:
        interest = Interest(info.namespace, _selector(query, "labelSelector"), info.subresource)
        values = await self._values(interest, query)
        by_pod: dict[str, list[Value]] = {}
        for value in values:
            by_pod.setdefault(meta.name(value.pod), []).append(value)
        if not by_pod:
            raise _unknown(info.subresource, "pods")
        shown = {name: _described("v1", "Pod", info.namespace, name) for name in sorted(by_pod)}
        return [self._value_of(info, info.subresource, shown[name], by_pod[name], query) for name in shown]

    async def _of_object(self, info: RequestInfo, query: Query) -> Object:
        if info.resource == "metrics":  # of the namespace itself
            metric, described = info.name, _described("v1", "Namespace", "", info.namespace)
            interest = Interest(info.namespace, LabelSelector(), metric)
        else:
            metric = info.subresource
            interest, described = self._about(info)
        values = await self._values(interest, query)
        if not values:
            raise _unknown(metric, info.resource, "" if info.resource == "metrics" else info.name)
        return self._value_of(info, metric, described, values, query)

    def _about(self, info: RequestInfo) -> tuple[Interest, Object]:
        """The pods of an object, and the object in words."""
        served = next((r for r in self._client.resources() if r.group_resource == info.resource), None)
        found = self._client.get(info.resource, info.namespace, info.name) if served is not None else None
        if served is None or found is None:
            raise _unknown(info.subresource, info.resource, info.name)
        described = _described(served.api_version, served.kind, info.namespace, info.name)
        if info.resource == "pods":
            return Interest(info.namespace, LabelSelector(), info.subresource, info.name), described
        chosen = targets.selector_text_of(found)
        if not chosen:
            raise _unknown(info.subresource, info.resource, info.name)
        return Interest(info.namespace, parse_label_selector(chosen), info.subresource), described

    async def _values(self, interest: Interest, query: Query) -> list[Value]:
        wanted = _selector(query, "metricLabelSelector")
        return [value for value in await self._adapter.ask(interest) if wanted.matches(dict(value.labels))]

    # External metrics

    async def _external(self, info: RequestInfo, query: Query) -> list[Object]:
        wanted = _selector(query, "labelSelector")
        values = await self._adapter.ask(Interest(info.namespace, LabelSelector(), info.resource))
        items: list[Object] = []
        for value in values:
            labels = {**dict(value.labels), "pod": meta.name(value.pod), "namespace": info.namespace}
            if wanted.matches(labels):
                items.append({"metricName": info.resource, "metricLabels": labels, **self._measured([value])})
        return items

    # Both

    def _value_of(
        self, info: RequestInfo, metric: str, described: Object, values: Sequence[Value], query: Query
    ) -> Object:
        selector = _selector_object(_selector(query, "metricLabelSelector"))
        measured = self._measured(values)
        if info.version == "v1beta1":
            return {"describedObject": described, "metricName": metric, **measured, "selector": selector}
        return {"describedObject": described, "metric": {"name": metric, "selector": selector}, **measured}

    def _measured(self, values: Sequence[Value]) -> Object:
        """The sum, as of the oldest of them."""
        windows = [value.window for value in values if value.window is not None]
        at = self._clock.of_host(min(value.at for value in values))
        shown: Object = {"timestamp": meta.timestamp(datetime.fromtimestamp(at, UTC))}
        if windows:
            shown["windowSeconds"] = max(1, round(max(windows) * self._clock.pace))
        total = sum(value.value for value in values)
        return {**shown, "value": str(Quantity(_milli(total) * (_NANO // 1000)))}


def _selector(query: Query, name: str) -> LabelSelector:
    return parse_label_selector(query.get(name, ""))


def _unknown(metric: str, resource: str, name: str = "") -> ApiError:
    """As custom-metrics-apiserver words it."""
    subject = f"{resource} {name}" if name else resource
    return ApiError(404, "NotFound", f"the server could not find the metric {metric} for {subject}", {})


def _described(api_version: str, kind: str, namespace: str, name: str) -> Object:
    reference = {"kind": kind, "namespace": namespace, "name": name, "apiVersion": api_version}
    return {key: value for key, value in reference.items() if value}


def _selector_object(selector: LabelSelector) -> Object | None:
    if not selector.requirements:
        return None
    operators = {"=": "In", "==": "In", "in": "In", "!=": "NotIn", "notin": "NotIn", "exists": "Exists"}
    expressions: list[Object] = []
    for term in selector.requirements:
        operator = operators.get(term.operator, "DoesNotExist")
        expressions.append({"key": term.key, "operator": operator, "values": sorted(term.values)})
    return {"matchExpressions": expressions}


def _milli(value: float) -> int:
    """Thousandths, of at most what a quantity holds."""
    return round(min(max(value, -(2.0**53)), 2.0**53) * 1000)

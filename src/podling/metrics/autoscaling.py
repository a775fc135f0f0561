"""What autoscalers ask (`podling.controllers.hpa.metrics.Metrics`): CPU and memory from the nodes' readings, all else
through the APIs of custom and external metrics, whoever serves them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol, cast
from urllib.parse import urlencode

from podling.api import meta
from podling.api.errors import ApiError
from podling.api.quantity import NANO, of
from podling.api.requests import Query, parse_path
from podling.api.resources import User
from podling.api.scale import selector_text
from podling.api.selectors import parse_label_selector
from podling.controllers.hpa.metrics import NO_CUSTOM, NO_RESOURCES, MetricsUnavailable, Sample, no_external
from podling.controllers.runtime import service_account
from podling.controllers.vpa.usage import ContainerUse
from podling.metrics.custommetrics import CUSTOM, EXTERNAL, VERSIONS, CustomMetrics
from podling.metrics.usage import Amount, MeasuredPod, Usage
from podling.store.types import Object

_NANOS_IN_A_MILLI = 10**6


class PodUsage:
    """CPU and memory of pods."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    def resource(self, namespace: str, selector: str, resource: str, container: str | None) -> Mapping[str, Sample]:
        """See `Metrics.resource`."""
        wanted = parse_label_selector(selector)
        measured = [f for f in self._usage.measured_pods(namespace) if wanted.matches(meta.labels(f.pod))]
        if not measured:
            raise MetricsUnavailable("no metrics returned from resource metrics API")
        for found in measured:
            if container is not None and container not in found.measured.containers:
                pod = f"{namespace}/{meta.name(found.pod)}"
                what = f"container {container} not present in metrics for pod {pod}"
                raise MetricsUnavailable(f"failed to get container metrics: {what}")
        samples = {meta.name(found.pod): _sample(found, resource, container) for found in measured}
        return {name: sample for name, sample in samples.items() if sample is not None}

    def containers(self, namespace: str) -> Iterator[ContainerUse]:
        for found in self._usage.measured_pods(namespace):
            for container, amount in found.measured.containers.items():
                yield ContainerUse(
                    meta.name(found.pod),
                    container,
                    found.reading.taken_at,
                    amount.cpu_nanocores / NANO,
                    float(amount.memory_bytes),
                )


def _sample(found: MeasuredPod, resource: str, container: str | None) -> Sample | None:
    """`None` where the container, or the resource, is not measured."""
    amounts = [amount for name, amount in found.measured.containers.items() if container in (None, name)]
    values = [_milli(amount, resource) for amount in amounts]
    if not values or None in values:
        return None
    at = datetime.fromtimestamp(found.reading.taken_at, UTC)
    return Sample(sum(filter(None, values)), at, found.reading.window)


def _milli(amount: Amount, resource: str) -> int | None:
    match resource:
        case "cpu":
            return -(-amount.cpu_nanocores // _NANOS_IN_A_MILLI)
        case "memory":
            return amount.memory_bytes * 1000
        case _:
            return None


class Remote(Protocol):
    """API servers of others (`podling.extensions.aggregation.Aggregation`)."""

    def versions(self, group: str) -> list[str]: ...

    async def get(self, group: str, version: str, path: str, user: User) -> Object:
        """Raises `ApiError`."""
        ...


class Pipeline:
    """Custom and external metrics come from whoever has registered an APIService for them, else from `own`."""

    def __init__(
        self, usage: Usage | None, own: CustomMetrics | None, remote: Remote, find: Callable[[Object], str]
    ) -> None:
        """`find` gives the resource (`services`) that a reference to an object means."""
        self._usage = PodUsage(usage) if usage is not None else None
        self._own = own
        self._remote = remote
        self._find = find

    async def resource(
        self, namespace: str, selector: str, resource: str, container: str | None
    ) -> Mapping[str, Sample]:
        """See `Metrics.resource`."""
        if self._usage is None:
            raise MetricsUnavailable(NO_RESOURCES)
        return self._usage.resource(namespace, selector, resource, container)

    def containers(self, namespace: str) -> Iterable[ContainerUse]:
        """See `podling.controllers.vpa.usage.Measure`."""
        return self._usage.containers(namespace) if self._usage is not None else ()

    async def pods(self, namespace: str, selector: str, metric: Object) -> Mapping[str, Sample]:
        """See `Metrics.pods`."""
        items = await self._custom(namespace, "pods", "*", metric, {"labelSelector": selector})
        with _understood(CUSTOM_API):
            return {item["describedObject"]["name"]: _sample_of(item) for item in items}

    async def object(self, namespace: str, reference: Object, metric: Object) -> int:
        """See `Metrics.object`. A namespace is asked for as a whole."""
        if (reference.get("apiVersion"), reference["kind"]) == ("v1", "Namespace"):
            items = await self._custom(namespace, "metrics", "", metric, {})
        else:
            items = await self._custom(namespace, self._find(reference), reference["name"], metric, {})
        with _understood(CUSTOM_API):
            return of(items[0]["value"]).milli

    async def external(self, namespace: str, metric: Object) -> int:
        """See `Metrics.external`."""
        found = await self._get(
            EXTERNAL, f"namespaces/{namespace}/{metric['name']}", {"labelSelector": _selector_of(metric)}
        )
        if found is None:
            raise MetricsUnavailable(no_external(metric["name"]))
        with _understood(EXTERNAL_API):
            return sum(of(item["value"]).milli for item in _items(found, EXTERNAL_API))

    async def _custom(
        self, namespace: str, resource: str, name: str, metric: Object, query: dict[str, str]
    ) -> list[Object]:
        path = "/".join(filter(None, ("namespaces", namespace, resource, name, metric["name"])))
        found = await self._get(CUSTOM, path, {**query, "metricLabelSelector": _selector_of(metric)})
        if found is None:
            raise MetricsUnavailable(NO_CUSTOM)
        return _items(found, CUSTOM_API)

    async def _get(self, group: str, path: str, query: dict[str, str]) -> Object | None:
        """`None` if nobody serves the group. Raises `MetricsUnavailable`."""
        given = {key: value for key, value in query.items() if value}
        others = self._remote.versions(group)
        api = CUSTOM_API if group == CUSTOM else EXTERNAL_API
        try:
            for version in VERSIONS[group]:
                whole = f"/apis/{group}/{version}/{path}"
                if version in others:
                    asked = f"{whole}?{urlencode(given)}" if given else whole
                    return await self._remote.get(group, version, asked, USER)
            if self._own is not None:
                whole = f"/apis/{group}/{VERSIONS[group][0]}/{path}"
                return await self._own.answer(parse_path("GET", whole), Query(given))
        except ApiError as error:
            raise MetricsUnavailable(f"unable to fetch metrics from {api}: {error.message}") from error
        return None


USER = User(
    service_account("horizontal-pod-autoscaler"),
    ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"),
)
CUSTOM_API = "custom metrics API"
EXTERNAL_API = "external metrics API"
_DEFAULT_WINDOW = 60.0
"""Of a metric that does not tell its own."""


def _items(found: Object, api: str) -> list[Object]:
    items = found.get("items")
    if not isinstance(items, list) or not items:
        raise MetricsUnavailable(f"no metrics returned from {api}")
    return cast("list[Object]", items)


@contextmanager
def _understood(api: str) -> Generator[None]:
    """Whatever another server answers, it is no fault of ours."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MetricsUnavailable(f"unable to fetch metrics from {api}: unexpected answer: {error}") from error


def _sample_of(item: Object) -> Sample:
    window = item.get("windowSeconds")
    taken = meta.parse_time(item["timestamp"])
    return Sample(of(str(item["value"])).milli, taken, _DEFAULT_WINDOW if window is None else float(window))


def _selector_of(metric: Object) -> str:
    return selector_text(metric.get("selector"))

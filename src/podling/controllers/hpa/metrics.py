"""What the autoscaler asks of a metrics pipeline. All values are thousandths, selectors are label selectors as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from podling.store.types import Object


class MetricsUnavailable(Exception):
    """The pipeline cannot answer; the message is what Kubernetes' metrics client says."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A pod's value: thousandths, when it was taken, and over how many seconds."""

    milli: int
    at: datetime
    window: float


class Metrics(Protocol):
    """Each method raises `MetricsUnavailable`."""

    async def resource(
        self, namespace: str, selector: str, resource: str, container: str | None
    ) -> Mapping[str, Sample]:
        """The use of `cpu` or `memory` of each pod (or of one of its containers), by pod name."""
        ...

    async def pods(self, namespace: str, selector: str, metric: Object) -> Mapping[str, Sample]:
        """A custom metric of each pod; `metric` is a MetricIdentifier."""
        ...

    async def object(self, namespace: str, reference: Object, metric: Object) -> int:
        """A custom metric of one object."""
        ...

    async def external(self, namespace: str, metric: Object) -> int:
        """The sum of an external metric."""
        ...


Reading = Mapping[str, Sample] | int | MetricsUnavailable
"""What came of asking for one metric: of each pod, of one object (or of all), or why there is nothing."""


async def read(metrics: Metrics, namespace: str, selector: str, metric: Object) -> Reading:
    """Asks for one entry of `spec.metrics`; `selector` picks the pods of the target."""
    try:
        match metric["type"]:
            case "Resource":
                return await metrics.resource(namespace, selector, metric["resource"]["name"], None)
            case "ContainerResource":
                source = metric["containerResource"]
                return await metrics.resource(namespace, selector, source["name"], source["container"])
            case "Pods":
                return await metrics.pods(namespace, selector, metric["pods"]["metric"])
            case "Object":
                source = metric["object"]
                return await metrics.object(namespace, source["describedObject"], source["metric"])
            case _:
                return await metrics.external(namespace, metric["external"]["metric"])
    except MetricsUnavailable as error:
        return error


class NoMetrics:
    """A cluster without any metrics pipeline."""

    async def resource(
        self, namespace: str, selector: str, resource: str, container: str | None
    ) -> Mapping[str, Sample]:
        raise MetricsUnavailable(NO_RESOURCES)

    async def pods(self, namespace: str, selector: str, metric: Object) -> Mapping[str, Sample]:
        raise MetricsUnavailable(NO_CUSTOM)

    async def object(self, namespace: str, reference: Object, metric: Object) -> int:
        raise MetricsUnavailable(NO_CUSTOM)

    async def external(self, namespace: str, metric: Object) -> int:
        raise MetricsUnavailable(no_external(metric["name"]))


NO_RESOURCES = (
    "unable to fetch metrics from resource metrics API: "
    "the server could not find the requested resource (get pods.metrics.k8s.io)"
)
NO_CUSTOM = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"


def no_external(metric: str) -> str:
    return (
        "unable to fetch metrics from external metrics API: "
        f"the server could not find the requested resource (get {metric}.external.metrics.k8s.io)"
    )

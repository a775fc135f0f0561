"""What the autoscaler asks of a metrics pipeline. All values are thousandths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from podling.store.types import Object


class MetricsUnavailable(Exception):
    """The pipeline cannot answer; the message is what the HPA tells its owner."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A pod's value: thousandths, when it was taken, and over how many seconds."""

    milli: int
    at: datetime
    window: float


class Metrics(Protocol):
    """Each method raises `MetricsUnavailable`."""

    def resource(self, namespace: str, selector: Object, resource: str, container: str | None) -> Mapping[str, Sample]:
        """The use of `cpu` or `memory` of each pod (or of one of its containers), by pod name."""
        ...

    def pods(self, namespace: str, selector: Object, metric: Object) -> Mapping[str, Sample]:
        """A custom metric of each pod."""
        ...

    def object(self, namespace: str, reference: Object, metric: Object) -> int:
        """A custom metric of one object."""
        ...

    def external(self, namespace: str, metric: Object) -> int:
        """The sum of an external metric."""
        ...


class NoMetrics:
    """A cluster without any metrics pipeline."""

    def resource(self, namespace: str, selector: Object, resource: str, container: str | None) -> Mapping[str, Sample]:
        del namespace, selector, container
        group = "pods.metrics.k8s.io"
        raise MetricsUnavailable(
            f"unable to get metrics for resource {resource}: unable to fetch metrics from resource metrics API: "
            f"the server could not find the requested resource (get {group})"
        )

    def pods(self, namespace: str, selector: Object, metric: Object) -> Mapping[str, Sample]:
        del namespace, selector
        raise MetricsUnavailable(f"unable to get metric {metric['name']}: {_NO_CUSTOM}")

    def object(self, namespace: str, reference: Object, metric: Object) -> int:
        del namespace, reference
        raise MetricsUnavailable(f"unable to get metric {metric['name']}: {_NO_CUSTOM}")

    def external(self, namespace: str, metric: Object) -> int:
        what = f"{namespace}/{metric['name']}"
        raise MetricsUnavailable(
            f"unable to get external metric {what}: unable to fetch metrics from external metrics API: the server "
            "could not find the requested resource"
        )


_NO_CUSTOM = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"

"""What the autoscaler asks (`podling.controllers.hpa.metrics.Metrics`), answered from the nodes' readings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from podling.api import meta
from podling.api.quantity import NANO
from podling.api.selectors import parse_label_selector
from podling.controllers.hpa.metrics import MetricsUnavailable, NoMetrics, Sample
from podling.controllers.vpa.usage import ContainerUse
from podling.metrics.usage import Amount, MeasuredPod, Usage

_NANOS_IN_A_MILLI = 10**6


class PodUsage(NoMetrics):
    """CPU and memory of pods. Custom and external metrics are none of metrics.k8s.io, and are refused as before."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    async def resource(
        self, namespace: str, selector: str, resource: str, container: str | None
    ) -> Mapping[str, Sample]:
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
        """See `podling.controllers.vpa.usage.Measure`."""
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

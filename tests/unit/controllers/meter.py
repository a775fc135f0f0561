"""The metrics pipeline of transcripts: it measures what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from podling.api import meta
from podling.api.quantity import of
from podling.api.selectors import parse_label_selector
from podling.controllers import pods as podlib
from podling.controllers.hpa.metrics import MetricsUnavailable, Sample
from podling.controllers.vpa.usage import ContainerUse
from podling.store.types import Object

WINDOW = 15.0


class Meter:
    """Values are thousandths, by resource or metric and by subject: a prefix of pods, `Kind/NAME`, `external`."""

    def __init__(self) -> None:
        self._used: dict[str, dict[str, int]] = {}
        self._measured: dict[str, dict[str, int]] = {}
        self._pods: Callable[[], Sequence[Object]] = tuple
        self._now: Callable[[], datetime] = datetime.now

    def watch(self, pods: Callable[[], Sequence[Object]], now: Callable[[], datetime]) -> None:
        self._pods, self._now = pods, now

    def use(self, prefix: str, amounts: dict[str, Any]) -> None:
        _put(self._used, prefix, amounts)

    def measure(self, subject: str, amounts: dict[str, Any]) -> None:
        _put(self._measured, subject, amounts)

    async def resource(self, namespace: str, selector: str, resource: str, container: str | None) -> dict[str, Sample]:
        found = self._of_pods(self._used.get(resource, {}), namespace, selector)
        if not found:
            raise MetricsUnavailable("no metrics returned from resource metrics API")
        return found

    async def pods(self, namespace: str, selector: str, metric: Object) -> dict[str, Sample]:
        found = self._of_pods(self._measured.get(metric["name"], {}), namespace, selector)
        if not found:
            raise MetricsUnavailable("no metrics returned from custom metrics API")
        return found

    async def object(self, namespace: str, reference: Object, metric: Object) -> int:
        subject = f"{reference['kind']}/{reference['name']}"
        if subject not in self._measured.get(metric["name"], {}):
            raise MetricsUnavailable("unable to fetch metrics from custom metrics API: not measured")
        return self._measured[metric["name"]][subject]

    async def external(self, namespace: str, metric: Object) -> int:
        if "external" not in self._measured.get(metric["name"], {}):
            raise MetricsUnavailable("no metrics returned from external metrics API")
        return self._measured[metric["name"]]["external"]

    def containers(self, namespace: str) -> Iterator[ContainerUse]:
        cpu, memory = self._used.get("cpu", {}), self._used.get("memory", {})
        for pod in self._pods():
            name = meta.name(pod)
            if _value(cpu, name) is not None and _value(memory, name) is not None:
                for container in meta.items(pod, "spec", "containers"):
                    at = self._now().timestamp()
                    used = (_value(cpu, name) or 0) / 1000, (_value(memory, name) or 0) / 1000
                    yield ContainerUse(name, container["name"], at, *used)

    def _of_pods(self, values: dict[str, int], namespace: str, selector: str) -> dict[str, Sample]:
        wanted, found = parse_label_selector(selector), {}
        for pod in self._pods():
            value = _value(values, meta.name(pod))
            running = podlib.phase(pod) == "Running" and meta.namespace(pod) == namespace
            if running and value is not None and wanted.matches(meta.labels(pod)):
                found[meta.name(pod)] = Sample(value, self._now(), WINDOW)
        return found


def _put(values: dict[str, dict[str, int]], subject: str, amounts: dict[str, Any]) -> None:
    for name, amount in amounts.items():
        values.setdefault(name, {}).pop(subject, None)
        if amount is not None:
            values[name][subject] = of(str(amount)).milli


def _value(values: dict[str, int], name: str) -> int | None:
    """Of the longest prefix that fits."""
    fitting = [prefix for prefix in values if name.startswith(prefix)]
    return values[max(fitting, key=len)] if fitting else None

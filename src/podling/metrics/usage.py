"""The latest readings of all nodes, in the words of metrics.k8s.io. Nothing of it is stored: it is always now.

A node measures (`Source`); a reading is the rate of CPU use between two samples and the working set of the newer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from podling.api import meta
from podling.api.quantity import Format, Quantity
from podling.api.resources import Reader
from podling.store.types import Object

GROUP = "metrics.k8s.io"
VERSION = "v1beta1"
_NANO = 10**9


class Amount(Protocol):
    """What one container or one node uses."""

    @property
    def cpu_nanocores(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...


class PodReading(Protocol):
    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def containers(self) -> Mapping[str, Amount]: ...


class Reading(Protocol):
    """Of one node; `window` is the time in seconds over which CPU was averaged, up to `taken_at` (Unix seconds)."""

    @property
    def taken_at(self) -> float: ...

    @property
    def window(self) -> float: ...

    @property
    def pods(self) -> Sequence[PodReading]: ...

    @property
    def machine(self) -> Amount: ...


class Source(Protocol):
    """A node that measures itself."""

    @property
    def metrics(self) -> Reading | None:
        """The latest reading; `None` in the first seconds."""
        ...


class MeasuredPod(NamedTuple):
    pod: Object
    measured: PodReading
    reading: Reading


class Usage:
    """All nodes' readings as objects; `reader` gives the nodes and pods whose labels they carry."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._sources: dict[str, Source] = {}

    def add(self, node: str, source: Source) -> None:
        """From now on the node is measured by `source`."""
        self._sources[node] = source

    def remove(self, node: str) -> None:
        self._sources.pop(node, None)

    def nodes(self) -> Iterator[Object]:
        """NodeMetrics of the nodes that have been measured, by name."""
        for name in sorted(self._sources):
            node, reading = self._reader.get("nodes", "", name), self._sources[name].metrics
            if node is not None and reading is not None:
                yield node_metrics(node, reading)

    def measured_pods(self, namespace: str = "") -> Iterator[MeasuredPod]:
        """The pods (of one namespace) of which every running container has been measured."""
        for source in self._sources.values():
            reading = source.metrics
            if reading is None:
                continue
            for measured in reading.pods:
                if namespace in ("", measured.namespace):
                    pod = self._reader.get("pods", measured.namespace, measured.name)
                    if pod is not None and _is_whole(pod, measured):
                        yield MeasuredPod(pod, measured, reading)

    def pods(self, namespace: str = "") -> list[Object]:
        """Their PodMetrics, by namespace and name."""
        found = [pod_metrics(*measured) for measured in self.measured_pods(namespace)]
        return sorted(found, key=lambda obj: (meta.namespace(obj), meta.name(obj)))


def _is_whole(pod: Object, measured: PodReading) -> bool:
    statuses = [s for key in ("containerStatuses", "initContainerStatuses") for s in meta.items(pod, "status", key)]
    running = (status["name"] for status in statuses if "running" in meta.part(status, "state"))
    return all(name in measured.containers for name in running)


def node_metrics(node: Object, reading: Reading) -> Object:
    return {**_head("NodeMetrics", node, reading), "usage": usage(reading.machine)}


def pod_metrics(pod: Object, measured: PodReading, reading: Reading) -> Object:
    containers = [{"name": name, "usage": usage(amount)} for name, amount in measured.containers.items()]
    return {**_head("PodMetrics", pod, reading), "containers": containers}


def _head(kind: str, about: Object, reading: Reading) -> Object:
    taken = meta.timestamp(datetime.fromtimestamp(reading.taken_at, UTC))
    metadata: Object = {"name": meta.name(about)}
    if meta.namespace(about):
        metadata["namespace"] = meta.namespace(about)
    metadata["creationTimestamp"] = taken
    if meta.labels(about):
        metadata["labels"] = dict(meta.labels(about))
    return {
        "kind": kind,
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": metadata,
        "timestamp": taken,
        "window": duration(reading.window),
    }


def usage(amount: Amount) -> Object:
    """A ResourceList: CPU in billionths of a core, memory in bytes."""
    return {
        "cpu": str(Quantity(amount.cpu_nanocores, Format.DECIMAL_SI)),
        "memory": str(Quantity(amount.memory_bytes * _NANO, Format.BINARY_SI)),
    }


def duration(seconds: float) -> str:
    """`metav1.Duration` with milliseconds: `10.003s`, `1m30s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    text = re.sub(r"\.?0+$", "", f"{rest:.3f}")
    return f"{int(minutes)}m{text or '0'}s" if minutes else f"{text or '0'}s"

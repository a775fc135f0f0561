"""What a kubelet answers on its own port, served through the API server as `nodes/NAME/proxy/...`.

There is no port: the daemon is the kubelet. `kubectl get --raw /api/v1/nodes/NAME/proxy/stats/summary`, scrapers that
discover nodes and dashboards find here what they look for on 10250. Shapes: k8s.io/kubelet/pkg/apis/stats/v1alpha1 and
the kubelet's `/metrics/resource`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

import orjson

from podling.api import meta
from podling.api.errors import ApiError, not_found
from podling.api.resources import Reader
from podling.api.server import ApiServer, Exchange
from podling.clock import SystemClock
from podling.node.node import Node
from podling.node.nodes import Nodes, unavailable
from podling.node.rest import container_of, log_options, pour
from podling.node.stats import ContainerKey, Measured, Metrics, Used
from podling.node.status import time_text
from podling.sandbox.cgroups import Usage
from podling.store.types import Object

TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
NANO = 10**9


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that the answers about use are made of, at one moment: in Unix seconds of the machine, as scrapers
    know it."""

    node: str
    now: float
    pods: Sequence[Object]
    """Those of the node."""
    usage: Mapping[ContainerKey, Usage]
    metrics: Metrics | None
    used: Used
    """Of the node as a whole."""
    disk: tuple[int, int, int]
    """Total, used and free bytes."""
    clock: SystemClock
    """Of the pods' times."""


def serve(server: ApiServer, nodes: Nodes, directory: Path, clock: SystemClock) -> None:
    """Registers the subresource. `directory` lies on the disk that pods use."""
    reader = server.registry.reader

    async def answer(exchange: Exchange) -> None:
        name = _node_name(exchange.info.name)
        node = nodes.get(name)
        if node is None:
            raise unavailable(nodes.silence(name))
        await Kubelet(reader, node, name, directory, clock)(exchange)

    server.handle("nodes", "proxy", answer, "get")


class Kubelet:
    """One node's part of `nodes/proxy`."""

    def __init__(self, reader: Reader, node: Node, name: str, directory: Path, clock: SystemClock) -> None:
        self._reader = reader
        self._node = node
        self._name = name
        self._directory = directory
        self._clock = clock
        self._pages: dict[str, Callable[[Exchange], Awaitable[None]]] = {
            "healthz": self._health,
            "pods": self._list_pods,
            "stats/summary": self._summary,
            "metrics/resource": self._metrics,
        }

    async def __call__(self, exchange: Exchange) -> None:
        path = "/".join(part for part in exchange.info.rest.split("/") if part)
        if path.startswith("containerLogs/"):
            await self._logs(exchange, path.split("/")[1:])
        elif path in self._pages:
            await self._pages[path](exchange)
        else:
            exchange.request.respond(404, b"404 page not found\n", TEXT)

    async def _health(self, exchange: Exchange) -> None:
        exchange.request.respond(200, b"ok", TEXT)

    async def _list_pods(self, exchange: Exchange) -> None:
        body: Object = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods()}
        exchange.request.respond(200, orjson.dumps(body), "application/json")

    async def _summary(self, exchange: Exchange) -> None:
        body = orjson.dumps(summary(await self._seen()), option=orjson.OPT_INDENT_2)
        exchange.request.respond(200, body, "application/json")

    async def _metrics(self, exchange: Exchange) -> None:
        exchange.request.respond(200, resource_metrics(await self._seen()).encode(), METRICS)

    async def _logs(self, exchange: Exchange, parts: Sequence[str]) -> None:
        if len(parts) != 3:
            raise ApiError(400, "BadRequest", '{"message": "missing namespace, pod or container name"}')
        namespace, name, container = parts
        pod = self._reader.get("pods", namespace, name)
        if pod is None or meta.spec(pod).get("nodeName") != self._name:
            raise not_found("pods", "", name)
        options = log_options(exchange.query, container_of(pod, container))
        await pour(self._node.logs(namespace, name, options), exchange)

    def _pods(self) -> list[Object]:
        return [pod for pod in self._reader.list("pods") if meta.spec(pod).get("nodeName") == self._name]

    async def _seen(self) -> Seen:
        return Seen(
            node=self._name,
            now=self._clock.host(),
            pods=self._pods(),
            usage=await self._node.usage(),
            metrics=self._node.metrics,
            used=self._node.used,
            disk=disk_usage(self._directory),
            clock=self._clock,
        )


def _node_name(text: str) -> str:
    """`name`, `name:port` or `scheme:name:port`."""
    parts = text.split(":")
    return parts[1] if len(parts) == 3 else parts[0]


# stats/summary


def summary(seen: Seen) -> Object:
    """The kubelet's `Summary`."""
    total, used, free = seen.disk
    machine = seen.metrics.machine if seen.metrics else None
    disk = {"time": time_text(seen.now), "availableBytes": free, "capacityBytes": total, "usedBytes": used}
    return {
        "node": {
            "nodeName": seen.node,
            "cpu": _cpu(seen, seen.used.cpu_nanoseconds, machine),
            "memory": {"time": time_text(seen.now), "workingSetBytes": seen.used.memory_bytes},
            "fs": disk,
            "runtime": {"imageFs": disk},
        },
        "pods": [_pod_stats(pod, seen) for pod in seen.pods if _containers(pod, seen)],
    }


def _pod_stats(pod: Object, seen: Seen) -> Object:
    containers = [_container_stats(pod, key, usage, seen) for key, usage in _containers(pod, seen)]
    used = [usage for _, usage in _containers(pod, seen)]
    rates = [c["cpu"]["usageNanoCores"] for c in containers if "usageNanoCores" in c["cpu"]]
    measured = Measured(sum(rates), 0) if rates else None
    return {
        "podRef": {"name": meta.name(pod), "namespace": meta.namespace(pod), "uid": meta.uid(pod)},
        "startTime": meta.status(pod).get("startTime"),
        "containers": containers,
        "cpu": _cpu(seen, sum(usage["cpu_nanoseconds"] for usage in used), measured),
        "memory": {
            "time": time_text(seen.now),
            "workingSetBytes": sum(usage["memory_working_set_bytes"] for usage in used),
            "rssBytes": sum(usage["memory_rss_bytes"] for usage in used),
        },
        "process_stats": {"process_count": sum(usage["pids"] for usage in used)},
    }


def _container_stats(pod: Object, key: ContainerKey, usage: Usage, seen: Seen) -> Object:
    return {
        "name": key.container,
        "startTime": _started(pod, key.container),
        "cpu": _cpu(seen, usage["cpu_nanoseconds"], _rates(seen).get(key[:3])),
        "memory": {
            "time": time_text(seen.now),
            "workingSetBytes": usage["memory_working_set_bytes"],
            "rssBytes": usage["memory_rss_bytes"],
        },
    }


def _cpu(seen: Seen, nanoseconds: int, measured: Measured | None) -> Object:
    rate = {"usageNanoCores": measured.cpu_nanocores} if measured is not None else {}
    return {"time": time_text(seen.now), **rate, "usageCoreNanoSeconds": nanoseconds}


def _rates(seen: Seen) -> Mapping[tuple[str, str, str], Measured]:
    pods = seen.metrics.pods if seen.metrics else ()
    return {(p.namespace, p.name, name): measured for p in pods for name, measured in p.containers.items()}


def _containers(pod: Object, seen: Seen) -> list[tuple[ContainerKey, Usage]]:
    whose = (meta.namespace(pod), meta.name(pod))
    return sorted((key, usage) for key, usage in seen.usage.items() if (key.namespace, key.pod) == whose)


def _started(pod: Object, container: str) -> str | None:
    status = meta.status(pod)
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(field) or ():
            if entry["name"] == container:
                return meta.part(entry, "state", "running").get("startedAt")
    return None


# metrics/resource


def resource_metrics(seen: Seen) -> str:
    """The page that metrics-server and Prometheus read of a kubelet; times are in milliseconds."""
    whole = sorted(seen.usage.items())
    pods: dict[tuple[str, str], list[Usage]] = {}
    for key, usage in whole:
        pods.setdefault((key.namespace, key.pod), []).append(usage)
    at = round(seen.now * 1000)
    started = {key: moment for key, _ in whole if (moment := _start_of(key, seen)) is not None}
    families = (
        _family(
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
            "counter",
            ((_labels(key), usage["cpu_nanoseconds"] / NANO, at) for key, usage in whole),
        ),
        _family(
            "container_memory_working_set_bytes",
            "Current working set of the container in bytes",
            "gauge",
            ((_labels(key), usage["memory_working_set_bytes"], at) for key, usage in whole),
        ),
        _family(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
            "gauge",
            ((_labels(key), moment, at) for key, moment in started.items()),
        ),
        _family(
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
            "counter",
            [("", seen.used.cpu_nanoseconds / NANO, at)],
        ),
        _family(
            "node_memory_working_set_bytes",
            "Current working set of the node in bytes",
            "gauge",
            [("", seen.used.memory_bytes, at)],
        ),
        _family(
            "pod_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the pod in core-seconds",
            "counter",
            ((_pod_labels(*pod), sum(u["cpu_nanoseconds"] for u in used) / NANO, at) for pod, used in pods.items()),
        ),
        _family(
            "pod_memory_working_set_bytes",
            "Current working set of the pod in bytes",
            "gauge",
            ((_pod_labels(*pod), sum(u["memory_working_set_bytes"] for u in used), at) for pod, used in pods.items()),
        ),
        _family(
            "resource_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
            "gauge",
            [("", 0, None)],
        ),
    )
    return "".join(families)


def _family(name: str, help: str, kind: str, samples: Iterable[tuple[str, float, int | None]]) -> str:
    lines = [f"# HELP {name} [STABLE] {help}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{labels} {value:.15g}" + (f" {at}" if at is not None else "") for labels, value, at in samples]
    return "\n".join(lines) + "\n"


def _start_of(key: ContainerKey, seen: Seen) -> float | None:
    pod = next((p for p in seen.pods if (meta.namespace(p), meta.name(p)) == (key.namespace, key.pod)), None)
    text = _started(pod, key.container) if pod is not None else None
    return seen.clock.to_host(meta.parse_time(text).timestamp()) if text else None


def _labels(key: ContainerKey) -> str:
    return f'{{container="{key.container}",namespace="{key.namespace}",pod="{key.pod}"}}'


def _pod_labels(namespace: str, pod: str) -> str:
    return f'{{namespace="{namespace}",pod="{pod}"}}'

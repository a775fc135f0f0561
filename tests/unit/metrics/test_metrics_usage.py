"""What the nodes measured, as metrics.k8s.io and the autoscaler see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from podling.controllers.hpa.metrics import MetricsUnavailable, Sample
from podling.metrics.autoscaling import PodUsage
from podling.metrics.resources import row
from podling.metrics.usage import Usage, duration
from podling.node.stats import Measured, Metrics, PodMetrics
from podling.store.types import Object

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIB = 2**20


@dataclass
class Cluster:
    """Nodes and pods by (resource, namespace, name)."""

    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict[tuple[str, str, str], Object])

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [o for (r, n, _), o in self.objects.items() if r == resource and namespace in (None, n)]


@dataclass
class Node:
    metrics: Metrics | None = None


def pod(name: str, *containers: str, namespace: str = "shop") -> Object:
    statuses = [{"name": c, "state": {"running": {}}} for c in containers]
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name.partition("-")[0]}}
    return {"metadata": metadata, "status": {"containerStatuses": statuses}}


def measured(name: str, containers: Mapping[str, Measured], namespace: str = "shop") -> PodMetrics:
    return PodMetrics(namespace, name, containers)


@pytest.fixture
def node() -> Node:
    pods = [
        measured("web-2", {"app": Measured(250_000_000, 64 * MIB), "proxy": Measured(1_500_000, 8 * MIB)}),
        measured("web-1", {"app": Measured(1, 32 * MIB), "proxy": Measured(0, 0)}),
        measured("db-1", {"db": Measured(10**9, 512 * MIB)}, namespace="data"),
    ]
    return Node(Metrics(NOON.timestamp(), 10.003, pods, Measured(1_500_000_000, 4096 * MIB)))


@pytest.fixture
def usage(node: Node) -> Usage:
    cluster = Cluster()
    cluster.objects["nodes", "", "n1"] = {"metadata": {"name": "n1", "labels": {"zone": "a"}}}
    for one in (pod("web-1", "app", "proxy"), pod("web-2", "app", "proxy"), pod("db-1", "db", namespace="data")):
        cluster.objects["pods", one["metadata"]["namespace"], one["metadata"]["name"]] = one
    usage = Usage(cluster)
    usage.add("n1", node)
    return usage


def test_a_node_s_metrics_carry_its_labels_and_the_window(usage: Usage) -> None:
    assert list(usage.nodes()) == [
        {
            "kind": "NodeMetrics",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "n1", "creationTimestamp": "2026-01-01T12:00:00Z", "labels": {"zone": "a"}},
            "timestamp": "2026-01-01T12:00:00Z",
            "window": "10.003s",
            "usage": {"cpu": "1500m", "memory": "4Gi"},
        }
    ]


def test_pods_come_by_namespace_and_name_with_their_containers(usage: Usage) -> None:
    assert [p["metadata"]["name"] for p in usage.pods()] == ["db-1", "web-1", "web-2"]
    assert usage.pods("shop")[1]["containers"] == [
        {"name": "app", "usage": {"cpu": "250m", "memory": "64Mi"}},
        {"name": "proxy", "usage": {"cpu": "1500u", "memory": "8Mi"}},
    ]


def test_a_row_adds_the_containers_up(usage: Usage) -> None:
    assert row(usage.pods("shop")[1], NOON) == ["web-2", "251500u", "72Mi", "10.003s"]
    assert row(next(iter(usage.nodes())), NOON) == ["n1", "1500m", "4Gi", "10.003s"]


def test_a_pod_that_was_not_measured_whole_is_left_out(usage: Usage, node: Node) -> None:
    node.metrics = Metrics(NOON.timestamp(), 10.0, [measured("web-1", {"app": Measured(1, 1)})], Measured(1, 1))
    assert usage.pods() == []


def test_a_node_that_has_not_measured_yet_and_one_that_left_have_no_metrics(usage: Usage, node: Node) -> None:
    reading, node.metrics = node.metrics, None
    assert list(usage.nodes()) == []
    assert usage.pods() == []
    node.metrics = reading
    usage.remove("n1")
    assert list(usage.nodes()) == []


def test_the_autoscaler_gets_the_sum_of_a_pod_or_one_container(usage: Usage) -> None:
    def asked(resource: str, container: str | None = None) -> Mapping[str, Sample]:
        return PodUsage(usage).resource("shop", "app=web", resource, container)

    whole = asked("cpu")
    assert {name: sample.milli for name, sample in whole.items()} == {"web-1": 1, "web-2": 252}
    assert whole["web-2"].at == NOON
    assert whole["web-2"].window == 10.003
    assert asked("memory", "app")["web-2"].milli == 64 * MIB * 1000


@pytest.mark.parametrize(
    ("selector", "container", "why"),
    [
        ("app=other", None, "no metrics returned from resource metrics API"),
        ("app=web", "none", "failed to get container metrics: container none not present in metrics for pod shop/web-"),
    ],
)
def test_the_autoscaler_is_told_when_there_is_nothing(
    usage: Usage, selector: str, container: str | None, why: str
) -> None:
    with pytest.raises(MetricsUnavailable, match=why):
        PodUsage(usage).resource("shop", selector, "cpu", container)


@pytest.mark.parametrize(
    ("seconds", "text"), [(10.0, "10s"), (10.0034, "10.003s"), (90.5, "1m30.5s"), (0.25, "250ms"), (120.0, "2m0s")]
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text

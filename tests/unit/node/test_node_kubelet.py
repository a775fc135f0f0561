"""What a kubelet tells of use, from one moment's counters."""

from __future__ import annotations

from typing import Any

from podling.clock import SystemClock
from podling.node.kubelet import Seen, resource_metrics, summary
from podling.node.stats import ContainerKey, Measured, Metrics, PodMetrics, Used
from podling.sandbox.cgroups import Usage

NOW = 1_790_000_000.0
KEY = ContainerKey("default", "web", "app", "1" * 64)
POD: dict[str, Any] = {
    "metadata": {"namespace": "default", "name": "web", "uid": "u1"},
    "status": {
        "startTime": "2026-09-21T14:13:00Z",
        "containerStatuses": [{"name": "app", "state": {"running": {"startedAt": "2026-09-21T14:13:10Z"}}}],
    },
}
IDLE: dict[str, Any] = {"metadata": {"namespace": "default", "name": "idle", "uid": "u2"}}


def seen() -> Seen:
    usage = Usage(cpu_nanoseconds=1_500_000_000, memory_working_set_bytes=1000, memory_rss_bytes=800, pids=2)
    return Seen(
        node="n1",
        now=NOW,
        pods=[POD, IDLE],
        usage={KEY: usage},
        metrics=Metrics(NOW, 10, [PodMetrics("default", "web", {"app": Measured(7, 1000)})], Measured(9, 5000)),
        used=Used(4_000_000_000, 5000),
        disk=(100, 60, 40),
        clock=SystemClock(),
    )


def test_the_summary_tells_of_the_node_and_of_pods_that_run() -> None:
    told = summary(seen())
    assert told["node"]["nodeName"] == "n1"
    assert told["node"]["cpu"]["usageNanoCores"] == 9
    assert told["node"]["fs"]["availableBytes"] == 40
    (pod,) = told["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "u1"}
    assert pod["cpu"]["usageNanoCores"] == 7
    assert pod["memory"]["workingSetBytes"] == 1000
    (container,) = pod["containers"]
    assert container["startTime"] == "2026-09-21T14:13:10Z"
    assert container["cpu"]["usageCoreNanoSeconds"] == 1_500_000_000


def test_the_metrics_page_has_a_sample_for_container_pod_and_node() -> None:
    lines = resource_metrics(seen()).splitlines()
    at = round(NOW * 1000)
    labels = 'namespace="default",pod="web"'
    assert f'container_cpu_usage_seconds_total{{container="app",{labels}}} 1.5 {at}' in lines
    assert f"pod_memory_working_set_bytes{{{labels}}} 1000 {at}" in lines
    assert f"node_cpu_usage_seconds_total 4 {at}" in lines
    assert f'container_start_time_seconds{{container="app",{labels}}} 1789999990 {at}' in lines
    assert "resource_scrape_error 0" in lines

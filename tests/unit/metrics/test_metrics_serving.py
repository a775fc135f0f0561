"""metrics.k8s.io as clients see it: over HTTP, from a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from metricsserver import api_server, ask, pod

from podling.api.local import LocalClient
from podling.metrics import serving
from podling.metrics.usage import Usage
from podling.node.stats import Measured, Metrics, PodMetrics

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BASE = "/apis/metrics.k8s.io/v1beta1"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

Get = Callable[..., Awaitable[tuple[int, Any]]]


class Node:
    """Measures two pods, one of which there is no more."""

    metrics = Metrics(
        NOON.timestamp(),
        10.0,
        [
            PodMetrics("default", "web", {"c": Measured(250_000_000, 2**20)}),
            PodMetrics("default", "gone", {"c": Measured(1, 1)}),
        ],
        Measured(10**9, 2**30),
    )


def cluster(path: Path, scenario: Callable[[Get, LocalClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with api_server(path, clock=lambda: NOON) as (server, client):
            usage = Usage(server.registry.reader)
            usage.add("n1", Node())
            serving.serve(server, usage)
            await client.create("nodes", {"metadata": {"name": "n1"}})
            await client.create("pods", pod("web"))
            await scenario(partial(ask, await server.listen("127.0.0.1", 0)), client)

    asyncio.run(run())


def test_pods_are_listed_and_selected_by_their_labels(tmp_path: Path) -> None:
    async def story(get: Get, _client: LocalClient) -> None:
        status, listed = await get(f"{BASE}/pods")
        assert (status, listed["kind"], listed["metadata"]) == (200, "PodMetricsList", {})
        assert [p["metadata"]["name"] for p in listed["items"]] == ["web"]
        assert listed["items"][0]["containers"] == [{"name": "c", "usage": {"cpu": "250m", "memory": "1Mi"}}]
        for selector, count in (("labelSelector=app%3Dweb", 1), ("labelSelector=app%3Ddb", 0)):
            assert len((await get(f"{BASE}/namespaces/default/pods?{selector}"))[1]["items"]) == count
        assert (await get(f"{BASE}/namespaces/other/pods"))[1]["items"] == []

    cluster(tmp_path, story)


def test_one_object_and_one_that_is_not_there(tmp_path: Path) -> None:
    async def story(get: Get, _client: LocalClient) -> None:
        status, node = await get(f"{BASE}/nodes/n1")
        assert (status, node["usage"]) == (200, {"cpu": "1", "memory": "1Gi"})
        status, missing = await get(f"{BASE}/namespaces/default/pods/gone")
        assert (status, missing["message"]) == (404, 'podmetrics.metrics.k8s.io "default/gone" not found')

    cluster(tmp_path, story)


def test_kubectl_get_shows_columns(tmp_path: Path) -> None:
    async def story(get: Get, _client: LocalClient) -> None:
        _, table = await get(f"{BASE}/nodes", accept=TABLE)
        assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
        assert table["rows"][0]["cells"] == ["n1", "1", "1Gi", "10s"]

    cluster(tmp_path, story)


def test_they_are_discovered_explained_and_read_only(tmp_path: Path) -> None:
    async def story(get: Get, client: LocalClient) -> None:
        _, found = await get(BASE)
        assert {r["name"]: (r["kind"], r["verbs"]) for r in found["resources"]} == {
            "nodes": ("NodeMetrics", ["get", "list"]),
            "pods": ("PodMetrics", ["get", "list"]),
        }
        status, document = await get(f"/openapi/v3{BASE}")
        assert status == 200
        assert "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics" in document["components"]["schemas"]
        assert (await get(f"{BASE}/nodes/n1", method="DELETE"))[0] == 405
        await serving.publish(client, NOON)
        await serving.publish(client, NOON)
        service = client.get("apiservices.apiregistration.k8s.io", "", "v1beta1.metrics.k8s.io")
        assert service is not None
        assert [(c["type"], c["status"]) for c in service["status"]["conditions"]] == [("Available", "True")]

    cluster(tmp_path, story)


@pytest.mark.parametrize("query", ["watch=true"])
def test_what_is_always_now_cannot_be_watched(tmp_path: Path, query: str) -> None:
    async def story(get: Get, _client: LocalClient) -> None:
        assert (await get(f"{BASE}/pods?{query}"))[0] == 405

    cluster(tmp_path, story)

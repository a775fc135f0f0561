"""custom.metrics.k8s.io and external.metrics.k8s.io: over HTTP, and as the autoscaler reads them, own and others'."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from metricsserver import api_server, ask, pod

from podling.api.errors import ApiError
from podling.api.local import LocalClient
from podling.api.resources import User
from podling.api.server import ApiServer
from podling.clock import FastClock
from podling.controllers import targets
from podling.controllers.hpa.metrics import MetricsUnavailable
from podling.metrics import serving
from podling.metrics.adapter import Adapter
from podling.metrics.autoscaling import USER, Pipeline
from podling.metrics.custommetrics import CustomMetrics
from podling.metrics.scraping import Target
from podling.store.types import Object

BETA2, BETA1 = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/custom.metrics.k8s.io/v1beta1"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
NOON = 1_700_000_000.0
PACE = 10


class Others:
    """API servers that others have registered: what they answer, by group and version, and what they were asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Object | ApiError] = {}
        self.asked: list[str] = []

    def versions(self, group: str) -> list[str]:
        return [version for of, version in self.answers if of == group]

    async def get(self, group: str, version: str, path: str, user: User) -> Object:
        assert user == USER
        self.asked.append(path)
        answer = self.answers[group, version]
        if isinstance(answer, ApiError):
            raise answer
        return answer


class World:
    def __init__(self, server: ApiServer, client: LocalClient) -> None:
        clock = FastClock(NOON, PACE, lambda: NOON)
        self.server = server
        self.client = client
        self.others = Others()
        self.adapter = Adapter(server.registry.reader, lambda: NOON, self.scrape)
        own = CustomMetrics(self.adapter, client, clock)
        serving.serve_custom(server, own)
        find = partial(targets.resource_of, client)
        self.pipeline = Pipeline(None, own, self.others, find)
        self.bare = Pipeline(None, None, self.others, find)
        self.port = 0

    async def scrape(self, target: Target) -> str:
        last = target.host.rpartition(".")[2]
        return f'queue{{kind="mail"}} {last}\nqueue{{kind="sms"}} 0.5\n'

    async def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        return await ask(self.port, path, method)


PROMETHEUS = {"prometheus.io/scrape": "true", "prometheus.io/port": "80"}


async def fill(client: LocalClient) -> None:
    """Two pods whose queues are 3 and 4 mails long, and a service and a deployment of theirs."""
    for name, ip in (("web-1", "10.0.0.3"), ("web-2", "10.0.0.4")):
        await client.create("pods", pod(name, labels={"app": "web"}, annotations=PROMETHEUS))
        await client.patch("pods", "default", name, {"status": {"phase": "Running", "podIP": ip}}, subresource="status")
    metadata = {"name": "web", "namespace": "default"}
    await client.create(
        "services", {"metadata": metadata, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    )
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    await client.create("deployments.apps", {"metadata": metadata, "spec": spec})


def play(path: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        async with api_server(path) as (server, client):
            await fill(client)
            world = World(server, client)
            world.port = await server.listen("127.0.0.1", 0)
            try:
                await scenario(world)
            finally:
                await world.adapter.close()

    asyncio.run(run())


def values(found: Object) -> dict[str, str]:
    return {item["describedObject"]["name"]: item["value"] for item in found["items"]}


# Over HTTP


def test_each_pod_s_metric_and_one_pod_s(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        status, found = await world.get(f"{BETA2}/namespaces/default/pods/*/queue")
        assert (status, found["kind"], values(found)) == (200, "MetricValueList", {"web-1": "3500m", "web-2": "4500m"})
        assert found["items"][0]["metric"] == {"name": "queue", "selector": None}
        assert found["items"][0]["describedObject"]["apiVersion"] == "v1"
        assert values((await world.get(f"{BETA2}/namespaces/default/pods/web-2/queue"))[1]) == {"web-2": "4500m"}
        _, escaped = await world.get(f"{BETA2}/namespaces/default/pods/%2A/queue?labelSelector=app%3Dweb")
        assert len(escaped["items"]) == 2

    play(tmp_path, story)


def test_a_selector_of_the_metric_picks_series(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        _, found = await world.get(f"{BETA2}/namespaces/default/pods/*/queue?metricLabelSelector=kind%3Dsms")
        assert values(found) == {"web-1": "500m", "web-2": "500m"}
        selector = {"matchExpressions": [{"key": "kind", "operator": "In", "values": ["sms"]}]}
        assert found["items"][0]["metric"]["selector"] == selector

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "described"),
    [
        ("services/web/queue", {"kind": "Service", "namespace": "default", "name": "web", "apiVersion": "v1"}),
        (
            "deployments.apps/web/queue",
            {"kind": "Deployment", "namespace": "default", "name": "web", "apiVersion": "apps/v1"},
        ),
        ("metrics/queue", {"kind": "Namespace", "name": "default", "apiVersion": "v1"}),
    ],
)
def test_of_what_has_pods_it_is_their_sum(tmp_path: Path, path: str, described: Object) -> None:
    async def story(world: World) -> None:
        _, found = await world.get(f"{BETA2}/namespaces/default/{path}")
        assert [(item["describedObject"], item["value"]) for item in found["items"]] == [(described, "8")]

    play(tmp_path, story)


def test_the_older_version_has_other_fields(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        _, found = await world.get(f"{BETA1}/namespaces/default/services/web/queue")
        assert found["apiVersion"] == "custom.metrics.k8s.io/v1beta1"
        assert (found["items"][0]["metricName"], found["items"][0]["value"]) == ("queue", "8")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pods/*/nothing", "the server could not find the metric nothing for pods"),
        ("services/other/queue", "the server could not find the metric queue for services other"),
        ("bananas/web/queue", "the server could not find the metric queue for bananas web"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, path: str, message: str) -> None:
    async def story(world: World) -> None:
        status, found = await world.get(f"{BETA2}/namespaces/default/{path}")
        assert (status, found["reason"], found["message"]) == (404, "NotFound", message)

    play(tmp_path, story)


def test_external_metrics_are_the_series_themselves(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        status, found = await world.get(f"{EXTERNAL}/namespaces/default/queue?labelSelector=kind%3Dmail")
        assert (status, found["kind"]) == (200, "ExternalMetricValueList")
        labels = {"kind": "mail", "pod": "web-1", "namespace": "default"}
        assert [(i["metricLabels"], i["value"]) for i in found["items"][:1]] == [(labels, "3")]
        assert (await world.get(f"{EXTERNAL}/namespaces/default/nothing"))[1]["items"] == []

    play(tmp_path, story)


def test_discovery_lists_what_is_asked_for(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        groups = {g["name"]: g["versions"] for g in (await world.get("/apis"))[1]["groups"]}
        assert [v["version"] for v in groups["custom.metrics.k8s.io"]] == ["v1beta2", "v1beta1"]
        assert "external.metrics.k8s.io" in groups
        (nothing,) = (await world.get(BETA2))[1]["resources"]  # old clients fail where there is none at all
        assert (nothing["name"], nothing["verbs"]) == ("pods", [])
        await world.get(f"{BETA2}/namespaces/default/pods/*/queue")
        _, listed = await world.get(BETA2)
        (entry,) = [r for r in listed["resources"] if r["name"] == "pods/queue"]
        assert (entry["kind"], entry["namespaced"], entry["verbs"]) == ("MetricValueList", True, ["get"])
        assert [r["name"] for r in (await world.get(EXTERNAL))[1]["resources"]] == ["queue"]

    play(tmp_path, story)


def test_metrics_are_only_read(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert (await world.get(f"{BETA2}/namespaces/default/pods/*/queue", "POST"))[0] == 405
        assert (await world.get(f"{EXTERNAL}/namespaces/default/queue", "DELETE"))[0] == 405

    play(tmp_path, story)


# As the autoscaler reads them

QUEUE = {"name": "queue"}
MAILS = {"name": "queue", "selector": {"matchLabels": {"kind": "mail"}}}
SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "web"}


def test_the_autoscaler_reads_the_own_adapter(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        pods = await world.pipeline.pods("default", "app=web", MAILS)
        assert {name: sample.milli for name, sample in pods.items()} == {"web-1": 3000, "web-2": 4000}
        assert {sample.at.timestamp() for sample in pods.values()} == {NOON}
        assert await world.pipeline.object("default", SERVICE, QUEUE) == 8000
        namespace = {"apiVersion": "v1", "kind": "Namespace", "name": "any"}
        assert await world.pipeline.object("default", namespace, QUEUE) == 8000
        assert await world.pipeline.external("default", MAILS) == 7000

    play(tmp_path, story)


async def problem(asked: Awaitable[object]) -> str:
    with pytest.raises(MetricsUnavailable) as raised:
        await asked
    return str(raised.value)


def test_the_autoscaler_is_told_in_kubernetes_words(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        lost = {"name": "lost"}
        assert await problem(world.pipeline.pods("default", "app=web", lost)) == (
            "unable to fetch metrics from custom metrics API: the server could not find the metric lost for pods"
        )
        assert await problem(world.pipeline.external("default", lost)) == (
            "no metrics returned from external metrics API"
        )
        assert await problem(world.bare.pods("default", "", lost)) == (
            "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
        )
        assert await problem(world.bare.external("default", lost)) == (
            "unable to fetch metrics from external metrics API: "
            "the server could not find the requested resource (get lost.external.metrics.k8s.io)"
        )

    play(tmp_path, story)


def remote_value(name: str, value: str) -> Object:
    described = {"kind": "Pod", "namespace": "default", "name": name, "apiVersion": "/v1"}
    return {"describedObject": described, "metricName": "queue", "timestamp": "2026-01-01T12:00:00Z", "value": value}


def test_an_adapter_of_the_user_s_comes_first(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        answers = world.others.answers
        answers["custom.metrics.k8s.io", "v1beta1"] = {"items": [remote_value("web-1", "12")]}
        answers["external.metrics.k8s.io", "v1beta1"] = {"items": [{"value": "1500m"}, {"value": "2"}]}
        for pipeline in (world.pipeline, world.bare):
            pods = await pipeline.pods("default", "app=web", MAILS)
            assert [(name, s.milli, s.window) for name, s in pods.items()] == [("web-1", 12000, 60.0)]
            assert await pipeline.object("default", SERVICE, QUEUE) == 12000
            assert await pipeline.external("default", MAILS) == 3500
        assert world.others.asked[:3] == [
            f"{BETA1}/namespaces/default/pods/*/queue?labelSelector=app%3Dweb&metricLabelSelector=kind%3Dmail",
            f"{BETA1}/namespaces/default/services/web/queue",
            f"{EXTERNAL}/namespaces/default/queue?labelSelector=kind%3Dmail",
        ]

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ApiError(503, "ServiceUnavailable", "error trying to reach service"), "error trying to reach service"),
        ({}, "no metrics returned from custom metrics API"),
        ({"items": [{}]}, "unexpected answer"),
        ({"items": [{**remote_value("web-1", "many")}]}, "unexpected answer"),
        ({"items": ["web"]}, "unexpected answer"),
    ],
)
def test_whatever_another_server_answers_is_only_a_missing_metric(
    tmp_path: Path, answer: Object | ApiError, why: str
) -> None:
    async def story(world: World) -> None:
        world.others.answers["custom.metrics.k8s.io", "v1beta2"] = answer
        assert why in await problem(world.pipeline.pods("default", "app=web", QUEUE))

    play(tmp_path, story)

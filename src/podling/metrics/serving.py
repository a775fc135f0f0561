"""`/apis/metrics.k8s.io/v1beta1`: registers the group with the API server and answers its requests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import orjson

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import not_found
from podling.api.http import Request
from podling.api.lists import list_options
from podling.api.requests import Query, RequestInfo
from podling.api.resources import User
from podling.api.server import ApiServer, Exchange, PathHandler
from podling.metrics import resources
from podling.metrics.custommetrics import VERSIONS, CustomMetrics
from podling.metrics.usage import GROUP, VERSION, Usage
from podling.store.types import Entry, Key, Object

API_SERVICES = "apiservices.apiregistration.k8s.io"


def serve(server: ApiServer, usage: Usage) -> None:
    """From now on the group is in discovery, and nodes and pods are answered from `usage`."""
    rest = MetricsRest(usage)
    resources.register(server.schemas)
    server.handle(f"nodes.{GROUP}", "", rest.nodes, "get", "list")
    server.handle(f"pods.{GROUP}", "", rest.pods, "get", "list")
    server.add_resources(resources.node_metrics(), resources.pod_metrics())


def serve_custom(server: ApiServer, metrics: CustomMetrics) -> None:
    """From now on custom and external metrics are in discovery and answered, unless another server registers for them.

    They have no APIService of ours: who installs an adapter brings the object, and could not own one that is there.
    """

    def handler(group: str, version: str) -> PathHandler:
        async def answer(request: Request, _user: User) -> None:
            info: RequestInfo = request.info
            if info.resource:
                found = await metrics.answer(info, Query.parse(request.query))
            else:
                found = metrics.listed(group, version)
            request.respond(200, orjson.dumps(found))

        return answer

    resources.register_custom(server.schemas)
    for group, versions in VERSIONS.items():
        for version in versions:
            server.handle_version(group, version, handler(group, version))
            server.add_resources(resources.custom_metrics(group, version))


async def publish(client: Client, now: datetime) -> None:
    """Writes the APIService by which clients see that metrics are available (`kubectl get apiservices`)."""
    wanted = api_service(now)
    present = client.get(API_SERVICES, "", meta.name(wanted)) or await client.create(API_SERVICES, wanted)
    if not meta.condition_is(present, "Available"):
        await client.update_status(API_SERVICES, {**present, "status": wanted["status"]})


def api_service(now: datetime) -> Object:
    available: Object = {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": meta.timestamp(now),
        "reason": "Local",
        "message": "Local APIServices are always available",
    }
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{VERSION}.{GROUP}", "labels": {"kube-aggregator.kubernetes.io/automanaged": "true"}},
        "spec": {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 100, "versionPriority": 100},
        "status": {"conditions": [available]},
    }


class MetricsRest:
    """The handlers; see the module."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    def nodes(self, exchange: Exchange) -> None:
        self._answer(exchange, self._usage.nodes())

    def pods(self, exchange: Exchange) -> None:
        self._answer(exchange, self._usage.pods(exchange.info.namespace))

    def _answer(self, exchange: Exchange, measured: Iterable[Object]) -> None:
        name = exchange.info.name
        if not name:
            selection = list_options(exchange.resource, exchange.query).selection
            entries = [entry for obj in measured if selection.matches(entry := _entry(exchange, obj))]
            exchange.respond_list(entries)
            return
        for obj in measured:
            if meta.name(obj) == name:
                exchange.respond_entry(_entry(exchange, obj))
                return
        place = "/".join(filter(None, (exchange.info.namespace, name)))
        raise not_found(exchange.resource.kind.lower(), GROUP, place)


def _entry(exchange: Exchange, obj: Object) -> Entry:
    key = Key(exchange.resource.group_resource, meta.namespace(obj), meta.name(obj))
    return Entry(key, 0, orjson.dumps(obj), obj)

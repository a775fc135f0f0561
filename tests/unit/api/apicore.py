"""A small API server over a real socket, and a client that shows every byte: for the tests of the API's core."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from podling.api.admission import Admission
from podling.api.errors import FieldError, invalid_value
from podling.api.http import Request
from podling.api.requests import Attributes, Call, Decision
from podling.api.resources import Column, Resource, ScalePaths, Strategy, User, Write
from podling.api.schema import Schemas
from podling.api.server import ApiServer
from podling.store.store import Store
from podling.store.types import Object
from support.http import Answer, Http

ADMIN = User("admin", ("system:masters",))
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def _no_negative_replicas(write: Write) -> list[FieldError]:
    replicas = write.new["spec"].get("replicas", 0)
    return [invalid_value("spec.replicas", replicas, "must not be negative")] if replicas < 0 else []


def _grace(pod: Object, wanted: int | None) -> int:
    return (wanted if wanted is not None else 30) if pod["spec"].get("nodeName") else 0


CORE = {"group": "", "version": "v1"}
NAMESPACE = Resource(
    **CORE,
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    namespaced=False,
    schema="io.k8s.api.core.v1.Namespace",
    strategy=Strategy(generation=None),
)
CONFIG_MAP = Resource(
    **CORE,
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    namespaced=True,
    schema="io.k8s.api.core.v1.ConfigMap",
    columns=(Column("Name", format="name"), Column("Data", type="integer")),
    row=lambda obj, now: [obj["metadata"].get("name", ""), len(obj.get("data") or {})],
    strategy=Strategy(generation=None),
)
POD = Resource(
    **CORE,
    kind="Pod",
    plural="pods",
    singular="pod",
    namespaced=True,
    schema="io.k8s.api.core.v1.Pod",
    status=True,
    strategy=Strategy(graceful_deletion=_grace, returns_deleted=True),
    selectable={"spec.nodeName": lambda pod: pod["spec"].get("nodeName", "")},
    indexed=("spec.nodeName",),
)
DEPLOYMENT = Resource(
    group="apps",
    version="v1",
    kind="Deployment",
    plural="deployments",
    singular="deployment",
    namespaced=True,
    schema="io.k8s.api.apps.v1.Deployment",
    status=True,
    scale=ScalePaths(),
    strategy=Strategy(validate=_no_negative_replicas),
)
RESOURCES = (NAMESPACE, CONFIG_MAP, POD, DEPLOYMENT)


class World:
    """A server, its store, and connections to it."""

    def __init__(self, server: ApiServer, store: Store, port: int) -> None:
        self.server = server
        self.store = store
        self.port = port
        self._connections: list[Http] = []
        self._first: Http | None = None

    async def connect(self, tls: ssl.SSLContext | None = None) -> Http:
        name = "localhost" if tls else None
        http = Http(*await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, server_hostname=name))
        self._connections.append(http)
        return http

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        if self._first is None:
            self._first = await self.connect()
        return await self._first.request(method, path, body, **headers)

    async def watch(self, path: str, **headers: str) -> Http:
        http = await self.connect()
        await http.send("GET", path, **headers)
        status, _ = await http.head()
        assert status == 200
        return http

    async def create(self, resource: Resource, obj: Object) -> Object:
        """Without HTTP, for what a test only needs to be there."""
        namespace = "default" if resource.namespaced else ""
        call = Call(user=ADMIN, field_manager="setup")
        return (await self.server.registry.create(resource, namespace, obj, call)).object

    def close(self) -> None:
        for http in self._connections:
            http.close()


@asynccontextmanager
async def serving(
    path: Path,
    *,
    admission: Admission | None = None,
    authorize: Callable[[User, Attributes], Decision] = lambda user, attributes: Decision(True),
    tls: ssl.SSLContext | None = None,
    authenticate: Callable[[Request], User] = lambda request: ADMIN,
    **options: Any,
) -> AsyncIterator[World]:
    store = Store(path / "state.db", durability="normal", **options)
    server = ApiServer(
        store=store,
        resources=RESOURCES,
        schemas=Schemas.load(),
        authenticate=authenticate,
        authorize=authorize,
        admission=admission,
        clock=lambda: NOW,
    )
    world = World(server, store, await server.listen("127.0.0.1", 0, tls=tls))
    try:
        await world.create(NAMESPACE, {"metadata": {"name": "default"}})
        yield world
    finally:
        world.close()
        await server.close()
        store.close()


def run(path: Path, scenario: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def inside() -> None:
        async with asyncio.timeout(20), serving(path, **options) as world:
            await scenario(world)

    asyncio.run(inside())


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> Object:
    metadata: Object = {"name": name, **({"labels": labels} if labels else {})}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data or {"k": "v"}}


def pod(name: str, node: str = "", **metadata: Any) -> Object:
    spec: Object = {"containers": [{"name": "c", "image": "i"}], **({"nodeName": node} if node else {})}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, **metadata}, "spec": spec}


def deployment(name: str, replicas: int = 1) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name}, "spec": spec}

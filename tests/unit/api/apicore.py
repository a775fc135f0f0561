"""A small API server over a real socket, and a client that shows every byte: for the tests of the API's core."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from podling.api.admission import Admission
from podling.api.errors import FieldError, invalid_value
from podling.api.http import Request
from podling.api.requests import Attributes, Call, Decision
from podling.api.resources import Column, Resource, ScalePaths, Strategy, User, Write
from podling.api.schema import Schemas
from podling.api.server import ApiServer
from podling.store.store import Store
from podling.store.types import Object

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
    row=lambda obj, now: [obj["metadata"]["name"], len(obj.get("data") or {})],
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


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.json["items"]]


class Http:
    """One connection. `raw` sends bytes; the rest is requests and answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        await self.send(method, path, body, **headers)
        return await self.answer(head=method == "HEAD")

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        fields = {"Host": "test", "User-Agent": "tester/1.0", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if body is not None:
            fields["Content-Length"] = str(len(data))
            fields.setdefault("Content-Type", "application/json")
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def answer(self, *, head: bool = False) -> Answer:
        status, headers = await self.head()
        length = 0 if head else int(headers.get("Content-Length", "0"))
        return Answer(status, headers, await self.reader.readexactly(length))

    async def events(self, count: int) -> list[Any]:
        """The next events of a watch."""
        found: list[Any] = []
        while len(found) < count:
            chunk = await self.chunk()
            assert chunk, "the watch ended"
            found += [orjson.loads(line) for line in chunk.splitlines()]
        return found

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    def close(self) -> None:
        self.writer.close()


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

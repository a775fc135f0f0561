"""A real API server for what is served of metrics, and requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from podling import kinds
from podling.api.local import LocalClient
from podling.api.requests import Decision
from podling.api.resources import User
from podling.api.schema import Schemas
from podling.api.server import ApiServer
from podling.store.store import Store
from podling.store.types import Object

ADMIN = User("admin", ("system:masters",))


@asynccontextmanager
async def api_server(path: Path, **settings: Any) -> AsyncGenerator[tuple[ApiServer, LocalClient]]:
    """Serves everybody as an administrator; listens once `listen` is called."""
    with closing(Store(path / "state.db", durability="normal")) as store:
        server = ApiServer(
            store=store,
            resources=kinds.builtin(),
            schemas=Schemas.load(),
            authenticate=lambda _request: ADMIN,
            authorize=lambda _user, _attributes: Decision(True),
            **settings,
        )
        client = LocalClient(server.registry, ADMIN, "test")
        await client.create("namespaces", {"metadata": {"name": "default"}})
        try:
            yield server, client
        finally:
            await server.close()


async def ask(port: int, path: str, method: str = "GET", accept: str = "application/json") -> tuple[int, Any]:
    """Status and body of an answer."""

    def exchange() -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request(method, path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    return await asyncio.to_thread(exchange)


def pod(name: str, **metadata: Any) -> Object:
    """On the node `n1`."""
    metadata = {"name": name, "namespace": "default", "labels": {"app": name}, **metadata}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n1"}}

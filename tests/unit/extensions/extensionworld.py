"""A registry over a real store with all built-in kinds and the extensions, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from podling import kinds
from podling.api.local import LocalClient
from podling.api.requests import Attributes, Authorize, Decision
from podling.api.resources import User
from podling.api.schema import Schemas
from podling.api.server import ApiServer
from podling.extensions.caller import Identity
from podling.extensions.serving import Extensions
from podling.store.store import Store
from podling.store.types import Object

ADMIN = User("admin", ("system:masters",))
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
WIDGETS = "widgets.example.com"


@dataclass
class World:
    server: ApiServer
    client: LocalClient
    extensions: Extensions


def anybody(_user: User, _attributes: Attributes) -> Decision:
    return Decision(True)


@asynccontextmanager
async def world(
    directory: Path, authorize: Authorize = anybody, identity: Identity | None = None
) -> AsyncIterator[World]:
    store = Store(directory / "state.db")
    server = ApiServer(
        store=store,
        resources=kinds.builtin(),
        schemas=Schemas.load(),
        authenticate=lambda _request: ADMIN,
        authorize=authorize,
    )
    client = LocalClient(server.registry, ADMIN, "tester")
    extensions = Extensions(server, client, identity)
    extensions.start()
    if client.get("namespaces", "", "default") is None:
        await client.create("namespaces", {"metadata": {"name": "default"}})
    try:
        yield World(server, client, extensions)
    finally:
        await asyncio.sleep(0)
        store.close()


def definition(schema: Object, **version: object) -> Object:
    """A definition of Widgets with one version."""
    names = {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}]
    return {
        "metadata": {"name": WIDGETS},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions},
    }


def spec_schema(**fields: Object) -> Object:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}


def widget(name: str, **spec: object) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": spec}


async def until(condition: Callable[[], object]) -> None:
    """Lets the loop turn until the condition holds; the test's own time limit ends what never does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for is a state of the store
            await asyncio.sleep(0.001)


async def serve(world: World, obj: Object) -> None:
    await world.client.create(DEFINITIONS, obj)
    await until(lambda: world.server.served.by_name(WIDGETS))

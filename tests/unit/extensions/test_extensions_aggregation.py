"""API aggregation: a group that another server has is found in discovery and answered by that server."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from extensionworld import World, until, world

from podling.api import meta
from podling.auth import pki
from podling.store.types import Key, Object

API_SERVICES = "apiservices.apiregistration.k8s.io"
NAME = "v1.fruit.example.com"


@asynccontextmanager
async def fruit_server(directory: Path) -> AsyncIterator[tuple[int, str, list[str]]]:
    """Another API server; gives its port, its CA and the requests that it has seen."""
    keys = pki.ensure(directory / "pki", server_names=["fruit.default.svc"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(keys.server_cert, keys.server_key)
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head)
        apple = {"name": "apples", "singularName": "apple", "namespaced": False, "kind": "Apple", "verbs": ["list"]}
        body = {"resources": [apple]} if " /apis/fruit.example.com/v1 " in head else {"items": ["golden"]}
        raw = orjson.dumps(body)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        ca = base64.b64encode(keys.ca_cert.read_bytes()).decode()
        yield server.sockets[0].getsockname()[1], ca, seen
    finally:
        server.close()
        await server.wait_closed()


async def register(here: World, port: int, ca: str) -> None:
    # Put into the store as it is: no service of a cluster has an address on the loopback.
    obj: Object = {"metadata": {"name": "fruit", "namespace": "default"}, "spec": {"clusterIP": "127.0.0.1"}}
    await here.server.registry.store.create(Key("services", "default", "fruit"), obj)
    service = {"name": "fruit", "namespace": "default", "port": port}
    wanted = {"group": "fruit.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}
    await here.client.create(
        API_SERVICES, {"metadata": {"name": NAME}, "spec": {**wanted, "service": service, "caBundle": ca}}
    )


async def get(here: World, path: str) -> bytes:
    port = await here.server.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Remote-User: thief\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await here.server.close()
    return answer


def test_a_group_of_another_server_is_found_and_answered(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here, fruit_server(tmp_path) as (port, ca, seen):
            await register(here, port, ca)
            await until(lambda: meta.condition_is(here.client.get(API_SERVICES, "", NAME) or {}, "Available"))
            assert here.server.served.find("fruit.example.com", "v1", "apples")
            answer = await get(here, "/apis/fruit.example.com/v1/apples")
            assert b'{"items":["golden"]}' in answer
            assert "x-remote-user: admin" in seen[-1]
            assert "thief" not in seen[-1]
            await here.client.delete(API_SERVICES, "", NAME)
            await until(lambda: not here.server.served.has_group("fruit.example.com"))

    asyncio.run(story())


def test_a_group_served_here_is_always_available(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            spec = {"group": "apps", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}
            await here.client.create(API_SERVICES, {"metadata": {"name": "v1.apps"}, "spec": spec})
            found = lambda: meta.condition(here.client.get(API_SERVICES, "", "v1.apps") or {}, "Available")  # noqa: E731
            await until(found)
            assert found()["reason"] == "Local"

    asyncio.run(story())

"""API aggregation: a group that another server has is found in discovery and answered by that server."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from extensionworld import World, until, world

from podling.api import meta
from podling.api.errors import ApiError
from podling.api.resources import Resource, User
from podling.auth import pki
from podling.extensions import aggregation
from podling.store.types import Key, Object

API_SERVICES = "apiservices.apiregistration.k8s.io"
NAME = "v1.fruit.example.com"


@dataclass
class Fruit:
    """Another API server: where it is, whom it takes for its front proxy, and the requests that it has seen."""

    port: int
    ca: str
    identity: tuple[Path, Path]
    seen: list[str] = field(default_factory=list[str])
    peers: list[str] = field(default_factory=list[str])
    status: int = 200


@asynccontextmanager
async def fruit_server(directory: Path) -> AsyncIterator[Fruit]:
    keys = pki.ensure(directory / "pki", server_names=["fruit.default.svc"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(keys.server_cert, keys.server_key)
    tls.load_verify_locations(keys.proxy_ca_cert)
    tls.verify_mode = ssl.CERT_REQUIRED
    ca = base64.b64encode(keys.ca_cert.read_bytes()).decode()
    fruit = Fruit(0, ca, (keys.proxy_client_cert, keys.proxy_client_key))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fruit.seen.append(head)
        shown: Any = writer.get_extra_info("peercert")
        fruit.peers.append(shown["subject"][-1][0][1])
        if "upgrade: echo" in head.lower():
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
            writer.write((await reader.readline()).upper())
        else:
            apple = {"name": "apples", "singularName": "apple", "namespaced": False, "kind": "Apple", "verbs": ["list"]}
            body = {"resources": [apple]} if " /apis/fruit.example.com/v1 " in head else {"items": ["golden"]}
            raw = orjson.dumps(body)
            start = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n" % fruit.status
            writer.write(start + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    fruit.port = server.sockets[0].getsockname()[1]
    try:
        yield fruit
    finally:
        server.close()
        await server.wait_closed()


async def back(here: World, port: int) -> None:
    """Put into the store as they are: no service of a cluster has an address on the loopback."""
    store = here.server.registry.store
    metadata = {"name": "fruit", "namespace": "default", "labels": {"kubernetes.io/service-name": "fruit"}}
    spec = {"clusterIP": "127.0.0.1", "ports": [{"name": "https", "port": port}]}
    await store.create(Key("services", "default", "fruit"), {"metadata": metadata, "spec": spec})
    endpoints = {"endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "https", "port": port}]}
    key = Key("endpointslices.discovery.k8s.io", "default", "fruit")
    await store.create(key, {"metadata": metadata, **endpoints})


async def register(here: World, port: int, ca: str) -> None:
    service = {"name": "fruit", "namespace": "default", "port": port}
    wanted = {"group": "fruit.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}
    await here.client.create(
        API_SERVICES, {"metadata": {"name": NAME}, "spec": {**wanted, "service": service, "caBundle": ca}}
    )


async def condition(here: World, reason: str) -> Object:
    def found() -> Object:
        return meta.condition(here.client.get(API_SERVICES, "", NAME) or {}, "Available") or {}

    await until(lambda: found().get("reason") == reason)
    return found()


async def get(here: World, path: str, more: str = "Connection: close", body: bytes = b"") -> bytes:
    port = await here.server.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Remote-User: thief\r\n{more}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    await here.server.close()
    return answer


def test_a_group_of_another_server_is_found_and_answered(tmp_path: Path) -> None:
    async def story() -> None:
        async with fruit_server(tmp_path) as fruit, world(tmp_path, identity=fruit.identity) as here:
            await back(here, fruit.port)
            await register(here, fruit.port, fruit.ca)
            assert (await condition(here, "Passed"))["message"] == "all checks passed"
            assert here.server.served.find("fruit.example.com", "v1", "apples")
            answer = await get(here, "/apis/fruit.example.com/v1/apples")
            assert b'{"items":["golden"]}' in answer
            assert "X-Remote-User: admin" in fruit.seen[-1]
            assert "thief" not in fruit.seen[-1]
            assert set(fruit.peers) == {"front-proxy-client"}
            await here.client.delete(API_SERVICES, "", NAME)
            await until(lambda: not here.server.served.find("fruit.example.com", "v1", "apples"))

    asyncio.run(story())


def test_a_version_of_our_own_gives_way_while_another_server_has_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with fruit_server(tmp_path) as fruit, world(tmp_path, identity=fruit.identity) as here:
            own = Resource(
                group="fruit.example.com",
                version="v1",
                kind="Pear",
                plural="pears",
                singular="",
                namespaced=False,
                schema="Pear",
            )
            here.server.add_resources(own)
            here.server.handle_version("fruit.example.com", "v1", lambda request, _user: request.respond(200, b'"own"'))
            for path in ("/apis/fruit.example.com/v1", "/apis/fruit.example.com/v1/apples"):
                assert (await get(here, path)).endswith(b'"own"')
            await back(here, fruit.port)
            await register(here, fruit.port, fruit.ca)
            await condition(here, "Passed")
            assert b'"apples"' in await get(here, "/apis/fruit.example.com/v1")
            assert b"golden" in await get(here, "/apis/fruit.example.com/v1/apples")
            await here.client.delete(API_SERVICES, "", NAME)
            await until(lambda: not here.server.served.find("fruit.example.com", "v1", "apples"))
            assert here.server.served.find("fruit.example.com", "v1", "pears")
            assert (await get(here, "/apis/fruit.example.com/v1/apples")).endswith(b'"own"')

    asyncio.run(story())


def test_controllers_read_from_another_server_as_well(tmp_path: Path) -> None:
    async def story() -> None:
        async with fruit_server(tmp_path) as fruit, world(tmp_path, identity=fruit.identity) as here:
            await back(here, fruit.port)
            await register(here, fruit.port, fruit.ca)
            await condition(here, "Passed")
            others, path = here.extensions.aggregation, "/apis/fruit.example.com/v1/apples"
            farmer = User("system:farmer", ("farmers",))
            assert others.versions("fruit.example.com") == ["v1"]
            assert await others.get("fruit.example.com", "v1", path, farmer) == {"items": ["golden"]}
            assert "X-Remote-User: system:farmer\r\nX-Remote-Group: farmers" in fruit.seen[-1]
            fruit.status = 500
            with pytest.raises(ApiError, match="an error on the server has prevented the request"):
                await others.get("fruit.example.com", "v1", path, farmer)
            await here.client.delete("services", "default", "fruit")
            with pytest.raises(ApiError, match='service "fruit" not found'):
                await others.get("fruit.example.com", "v1", path, farmer)

    asyncio.run(story())


def test_an_upgrade_becomes_a_stream_to_the_other_server(tmp_path: Path) -> None:
    async def story() -> None:
        async with fruit_server(tmp_path) as fruit, world(tmp_path, identity=fruit.identity) as here:
            await back(here, fruit.port)
            await register(here, fruit.port, fruit.ca)
            await condition(here, "Passed")
            answer = await get(here, "/apis/fruit.example.com/v1/x", "Connection: Upgrade\r\nUpgrade: echo", b"hello\n")
            assert answer.startswith(b"HTTP/1.1 101")
            assert answer.endswith(b"\r\n\r\nHELLO\n")

    asyncio.run(story())


def test_a_server_that_is_not_there_is_said_to_be_so_and_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "_AGAIN", 0.01)

    async def story() -> None:
        async with fruit_server(tmp_path) as fruit, world(tmp_path, identity=fruit.identity) as here:
            fruit.status = 404
            await register(here, fruit.port, fruit.ca)
            found = await condition(here, "ServiceNotFound")
            assert (found["status"], found["message"]) == ("False", 'service/fruit in "default" is not present')
            answer = await get(here, "/apis/fruit.example.com/v1/apples")
            assert answer.startswith(b"HTTP/1.1 503")
            await back(here, fruit.port)
            path = f"https://fruit.default.svc:{fruit.port}/apis/fruit.example.com/v1"
            assert (await condition(here, "FailedDiscoveryCheck"))["message"] == f"bad status from {path}: 404"
            fruit.status = 200
            await condition(here, "Passed")

    asyncio.run(story())


def test_a_service_of_another_name_without_an_address_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "_AGAIN", 0.01)

    async def story() -> None:
        async with fruit_server(tmp_path) as fruit, world(tmp_path, identity=fruit.identity) as here:
            await register(here, fruit.port, fruit.ca)
            await condition(here, "ServiceNotFound")
            store = here.server.registry.store
            outside = {"metadata": {"name": "fruit", "namespace": "default"}, "spec": {"type": "ExternalName"}}
            await store.create(Key("services", "default", "fruit"), outside)
            assert "no endpoints available" in (await condition(here, "FailedDiscoveryCheck"))["message"]
            await store.delete(Key("services", "default", "fruit"))
            await back(here, fruit.port)
            await condition(here, "Passed")

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

"""The `proxy` subresource of pods and services: HTTP through the API server to what runs inside (`kubectl get --raw`,
`kubectl proxy`).

A request is sent on as it is, without the credentials that were for the API server; the answer is streamed back. An
upgrade (WebSocket) becomes a plain tunnel. Names may carry a scheme and a port: `name`, `name:port`,
`https:name:port` (k8s.io/apimachinery/pkg/util/net, SplitSchemeNamePort).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import NamedTuple

from podling.api import meta, relay
from podling.api.errors import ApiError, bad_request, not_found
from podling.api.resources import Reader
from podling.api.server import ApiServer, Exchange
from podling.store.types import Object

CONNECT_PATIENCE = 30.0
METHODS = {"get": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
SLICES = "endpointslices.discovery.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"


class Target(NamedTuple):
    """Where a request goes."""

    ip: str
    port: int
    tls: bool
    name: str
    """As the `Host` header."""


def serve(server: ApiServer, generator: random.Random | None = None) -> None:
    """Registers the subresources with the API server."""
    proxy = ApiProxy(server.registry.reader, generator or random.Random())
    server.handle("pods", "proxy", proxy.pod, *METHODS)
    server.handle("services", "proxy", proxy.service, *METHODS)


def split_name(text: str) -> tuple[str, str, str]:
    """`(scheme, name, port)`; scheme and port may be `""`. Raises `ApiError` 400."""
    parts = text.split(":")
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return parts[0], parts[1], parts[2]
    raise bad_request(f'invalid name "{text}"')


class ApiProxy:
    """The handlers."""

    def __init__(self, reader: Reader, generator: random.Random) -> None:
        self._reader = reader
        self._random = generator

    async def pod(self, exchange: Exchange) -> None:
        scheme, name, port = split_name(exchange.info.name)
        pod = self._reader.get("pods", exchange.info.namespace, name)
        if pod is None:
            raise not_found("pods", "", name)
        ip = meta.status(pod).get("podIP", "")
        if not ip:
            raise bad_request("address not allowed")
        await _forward(exchange, Target(ip, _pod_port(pod, port), scheme == "https", ip))

    async def service(self, exchange: Exchange) -> None:
        scheme, name, port = split_name(exchange.info.name)
        service = self._reader.get("services", exchange.info.namespace, name)
        if service is None:
            raise not_found("services", "", name)
        chosen = _service_port(service, port)
        backends = self._backends(exchange.info.namespace, name, chosen)
        if not backends:
            raise ApiError(503, "ServiceUnavailable", f'no endpoints available for service "{exchange.info.name}"')
        ip, number = self._random.choice(backends)
        await _forward(exchange, Target(ip, number, scheme == "https", ip))

    def _backends(self, namespace: str, service: str, port: str) -> list[tuple[str, int]]:
        """Ready endpoints of the service port with that name."""
        found: list[tuple[str, int]] = []
        for slice_ in self._reader.list(SLICES, namespace):
            if meta.labels(slice_).get(SERVICE_LABEL) != service:
                continue
            numbers = [
                p["port"] for p in meta.items(slice_, "ports") if (p.get("name") or "") == port and p.get("port")
            ]
            ready = [e for e in meta.items(slice_, "endpoints") if meta.part(e, "conditions").get("ready", True)]
            found += [(e["addresses"][0], number) for e in ready for number in numbers]
        return found


def _pod_port(pod: Object, wanted: str) -> int:
    if wanted:
        if not wanted.isascii() or not wanted.isdigit() or not 0 < int(wanted) < 1 << 16:
            raise bad_request(f'invalid port "{wanted}"')
        return int(wanted)
    ports = [p for c in meta.items(pod, "spec", "containers") for p in meta.items(c, "ports")]
    return ports[0]["containerPort"] if ports else 80


def _service_port(service: Object, wanted: str) -> str:
    """The name of the service port meant by a name, a number or nothing at all."""
    ports: Sequence[Object] = meta.items(service, "spec", "ports")
    if not wanted and len(ports) == 1:
        return ports[0].get("name", "")
    for port in ports:
        if wanted in (port.get("name", ""), str(port["port"])):
            return port.get("name", "")
    raise ApiError(503, "ServiceUnavailable", f'no service port "{wanted}" found for service "{meta.name(service)}"')


async def _forward(exchange: Exchange, target: Target) -> None:
    if not exchange.info.rest and not exchange.request.path.endswith("/"):
        location = [("Location", exchange.request.path + "/")]
        exchange.request.respond(301, b"", "text/plain; charset=utf-8", location)
        return
    try:
        async with asyncio.timeout(CONNECT_PATIENCE):
            reader, writer = await asyncio.open_connection(
                target.ip, target.port, ssl=relay.any_certificate() if target.tls else None
            )
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "i/o timeout"
        why = f"error trying to reach service: dial tcp {target.ip}:{target.port}: connect: {reason.lower()}"
        raise ApiError(503, "ServiceUnavailable", why) from error
    try:
        writer.write(_head(exchange, target) + exchange.request.body)
        if exchange.request.upgrade:
            await relay.tunnel(exchange.request, reader, writer)
        else:
            await relay.answer(exchange.request, reader)
    finally:
        writer.close()


def _head(exchange: Exchange, target: Target) -> bytes:
    request = exchange.request
    path = "/" + exchange.info.rest + (f"?{request.query}" if request.query else "")
    forwarded = {
        k.decode("latin-1"): v.decode("latin-1")
        for k, v in request.headers.items()
        if k.decode("latin-1") not in relay.HOP_BY_HOP and not k.startswith(b"impersonate-")
    }
    headers = {
        **forwarded,
        "host": target.name,
        "x-forwarded-uri": request.path,
        "x-forwarded-for": request.connection.peer,
    }
    if request.upgrade:
        headers |= {"connection": "Upgrade", "upgrade": request.header(b"upgrade")}
    else:
        headers |= {"connection": "close"}
    if request.body:
        headers["content-length"] = str(len(request.body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{request.method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1", "replace")

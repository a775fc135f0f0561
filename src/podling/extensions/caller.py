"""Calls a webhook: one JSON request over TLS, one JSON answer, within its time.

Called are services (by their cluster address, but under their DNS name as the certificate has it) and plain URLs.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httptools
import orjson

from podling.api import relay
from podling.api.gotext import quoted
from podling.api.resources import Reader
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

_LARGEST_ANSWER: Final = 8 << 20
SLICES: Final = "endpointslices.discovery.k8s.io"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
Identity = tuple[Path, Path]
"""The files of a client certificate and of its key."""


class CallError(Exception):
    """The webhook gave no usable answer; the text says why, as Go's client does."""


class NoClient(CallError):
    """No call was made: its configuration says of none how to make it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook listens. `name` is what its certificate is checked for."""

    address: str
    port: int
    name: str
    path: str
    ca: str
    host: str = ""
    """Name and port as its URL has them."""

    @property
    def url(self) -> str:
        return f"https://{self.host or f'{self.name}:{self.port}'}{self.path}"


def target_of(config: Object, reader: Reader) -> Target:
    """From a `clientConfig`. Raises CallError for a service that is not there, or not at that port, and for a port that
    there cannot be."""
    target = _named(config)
    if text(config, "url"):
        return target
    name, namespace = config["service"]["name"], config["service"]["namespace"]
    found = reader.get("services", namespace, name)
    if found is None:
        raise CallError(f'service "{name}" not found')
    return replace(target, address=_address(found, reader, target.port))


def _named(config: Object) -> Target:
    """By its name; a service has no address yet."""
    ca = text(config, "caBundle")
    if url := text(config, "url"):
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            port = parts.port or 443
        except ValueError:
            given = parts.netloc.rpartition(":")[2]
            raise CallError(f'Post "{url}": dial tcp: address {given}: invalid port') from None
        return Target(host, port, host, parts.path or "/", ca, parts.netloc)
    service = part(config, "service")
    path, port = "/" + text(service, "path").lstrip("/"), cast(int, service.get("port") or 443)
    return Target("", port, f"{service['name']}.{service['namespace']}.svc", path, ca)


async def call(config: Object, reader: Reader, body: Object, *, timeout: float) -> Object:
    """The answer of whoever a `clientConfig` names. Raises CallError."""
    try:
        target = target_of(config, reader)
    except CallError as error:
        raise CallError(f"{_request(_named(config), timeout)}: {error}") from None
    return await post(target, body, timeout=timeout)


def _request(target: Target, timeout: float) -> str:
    return f'Post "{target.url}?timeout={timeout:g}s"'


def _address(service: Object, reader: Reader, port: int) -> str:
    spec, name = service["spec"], service["metadata"]["name"]
    address = text(spec, "clusterIP")
    if address and address != "None":
        if not any(served.get("port") == port for served in entries(spec, "ports")):
            raise CallError(f'no service port {port} found for service "{name}"')
        return address
    for slice_ in reader.list(SLICES, service["metadata"]["namespace"]):
        if slice_["metadata"].get("labels", {}).get(SERVICE_LABEL) != name:
            continue
        for endpoint in entries(slice_, "endpoints"):
            if part(endpoint, "conditions").get("ready", True):
                return cast(str, endpoint["addresses"][0])
    raise CallError(f'no endpoints available for service "{name}"')


@lru_cache(64)
def tls(ca: str, *, verify: bool = True, identity: Identity | None = None) -> ssl.SSLContext:
    """The context for a server whose certificate `ca` (base64 of PEM) signed; without `verify`, for any server."""
    context = ssl.create_default_context(cadata=base64.b64decode(ca).decode() if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(*identity)
    return context


def _trusting(ca: str) -> ssl.SSLContext:
    """Raises NoClient for what is no certificate."""
    try:
        return tls(ca)
    except (ssl.SSLError, ValueError):
        problem = "unable to load root certificates: unable to parse bytes as PEM block"
        raise NoClient(f"could not get REST client: {problem}") from None


async def post(target: Target, body: Object, *, timeout: float) -> Object:
    """The answer to a POST. Raises CallError."""
    url = _request(target, timeout)
    try:
        async with asyncio.timeout(timeout):
            answer = await _exchange(target, orjson.dumps(body), timeout)
    except TimeoutError:
        raise CallError(f"{url}: context deadline exceeded") from None
    except ssl.SSLError as error:
        raise CallError(f"{url}: tls: failed to verify certificate: {error.reason}") from None
    except (relay.CutShort, httptools.HttpParserError, ValueError) as error:
        raise CallError(f"{url}: {error}") from None
    except OSError as error:
        why = "connect: connection refused" if isinstance(error, ConnectionRefusedError) else error.strerror or error
        raise CallError(f"{url}: dial tcp {target.address}:{target.port}: {why}") from None
    return _object_of(answer)


async def _exchange(target: Target, raw: bytes, timeout: float) -> relay.Whole:
    head = (
        f"POST {target.path}?timeout={timeout:g}s HTTP/1.1\r\nHost: {target.name}:{target.port}\r\n"
        f"Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: {len(raw)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return await relay.ask(
        target.address,
        target.port,
        head.encode() + raw,
        largest=_LARGEST_ANSWER,
        context=_trusting(target.ca),
        name=target.name,
    )


def _object_of(answer: relay.Whole) -> Object:
    if not 200 <= answer.status < 300:
        is_text = not answer.kind or answer.kind.startswith("text/")
        said = bytes(answer.body).decode(errors="replace").strip() if is_text else "unknown"
        raise CallError(refusal_of(answer.status, said))
    try:
        found: Any = orjson.loads(bytes(answer.body))
    except orjson.JSONDecodeError as error:
        raise CallError(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(found, dict):
        raise CallError("expected an object")
    return cast(Object, found)


_REFUSALS: Final = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


def refusal_of(status: int, said: str) -> str:
    """What Kubernetes' client makes of an answer that is no success (`errors.NewGenericServerResponse`)."""
    if status in (403, 415):
        return said
    if status == 406:
        unable = "the server was unable to respond with a content type that the client supports"
        return unable if said in ("", "unknown") else said
    if status in _REFUSALS:
        return _REFUSALS[status]
    if status >= 500:
        return f"an error on the server ({quoted(said)}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"

"""API aggregation: groups that another API server in the cluster serves, announced by an APIService.

Requests for such a group are authorized here and sent on with the user's name in headers, as a front proxy does; what
the other server has is merged into discovery (`kube-aggregator`). Groups that are served here are always available.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, cast

import httptools
import orjson

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.http import Request, Stream
from podling.api.resources import Resource, User
from podling.api.server import ApiServer
from podling.extensions.caller import CallError, Target, target_of, tls
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

_log = logging.getLogger(__name__)
API_SERVICES: Final = "apiservices.apiregistration.k8s.io"
_PATIENCE: Final = 10.0
_AGAIN: Final = 5.0
"""Seconds between looks at a server that does not answer."""
_CHUNK: Final = 64 << 10
_OWN_HEADERS: Final = frozenset(
    {b"authorization", b"connection", b"content-length", b"host", b"transfer-encoding", b"upgrade"}
)
_HOP_BY_HOP: Final = frozenset({"connection", "content-length", "content-type", "keep-alive", "transfer-encoding"})
_UNREACHABLE: Final = (OSError, TimeoutError, CallError, httptools.HttpParserError)


class Aggregation:
    """Keeps track of APIServices and serves those of others."""

    def __init__(self, server: ApiServer, client: Client) -> None:
        self._server = server
        self._client = client
        self._followed: dict[str, tuple[Object, asyncio.Task[None] | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, name: str, obj: Object | None) -> None:
        spec = part(obj, "spec") if obj is not None else None
        before = self._followed.get(name)
        if before is not None and before[0] == spec:
            return
        if before is not None:
            self._leave(name, before[0])
        if spec is not None:
            work = self._join(name, spec) if spec.get("service") else self._announce(name, _LOCAL)
            self._followed[name] = spec, self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _leave(self, name: str, spec: Object) -> None:
        task = self._followed.pop(name)[1]
        if task is not None:
            task.cancel()
        if not spec.get("service"):
            return
        group, version = text(spec, "group"), text(spec, "version")
        self._server.delegate(group, version, None)
        for resource in self._server.served.all():
            if (resource.group, resource.version) == (group, version):
                self._server.served.remove(group, resource.plural, version)

    async def _join(self, name: str, spec: Object) -> None:
        """Serves the group once its server tells what it has."""
        self._server.delegate(text(spec, "group"), text(spec, "version"), _Proxy(self._server, spec))
        while True:
            try:
                listed = await self._discovered(spec)
            except _UNREACHABLE as error:
                await self._announce(name, ("False", "FailedDiscoveryCheck", f"failing or missing response: {error}"))
                await asyncio.sleep(_AGAIN)
                continue
            self._server.add_resources(*(self._resource(spec, entry, listed) for entry in _whole_kinds(listed)))
            await self._announce(name, ("True", "Passed", "all checks passed"))
            return

    async def _discovered(self, spec: Object) -> list[Object]:
        target = _target(self._server, spec)
        path = f"/apis/{spec['group']}/{spec['version']}"
        answer = _Collected()
        async with asyncio.timeout(_PATIENCE):
            await _exchange(target, spec, _head(b"GET", path, {b"host": target.name.encode()}), answer)
        if answer.status != 200:
            raise CallError(f"bad status from {target.url}{path}: {answer.status}")
        try:
            return cast("list[Object]", orjson.loads(bytes(answer.body))["resources"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise CallError(f"{target.url}{path} tells of no resources") from None

    def _resource(self, spec: Object, entry: Object, listed: list[Object]) -> Resource:
        """What discovery shows of a resource of the other server; it is never asked for objects here."""
        group, version, kind = text(spec, "group"), text(spec, "version"), text(entry, "kind")
        schema = ".".join([*reversed(group.split(".")), version, kind])
        anything: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        self._server.schemas.register(schema, anything, group, version, kind)
        prefix = f"{entry['name']}/"
        subresources = [
            text(other, "name").removeprefix(prefix) for other in listed if other["name"].startswith(prefix)
        ]
        return Resource(
            group=group,
            version=version,
            kind=kind,
            plural=text(entry, "name"),
            singular=text(entry, "singularName"),
            namespaced=bool(entry.get("namespaced")),
            schema=schema,
            short_names=tuple(entries(entry, "shortNames")),
            categories=tuple(entries(entry, "categories")),
            verbs=frozenset(entries(entry, "verbs")),
            subresources=tuple(subresources),
            custom=True,
        )

    async def _announce(self, name: str, available: tuple[str, str, str]) -> None:
        service = self._client.get(API_SERVICES, "", name)
        if service is None:
            return
        status, reason, message = available
        present = meta.condition(service, "Available")
        if present is not None and (present["status"], present["reason"]) == (status, reason):
            return
        now = meta.timestamp(self._server.registry.clock())
        condition = {"type": "Available", "status": status, "reason": reason, "message": message}
        wanted: Object = {**service, "status": {"conditions": [{**condition, "lastTransitionTime": now}]}}
        try:
            await self._client.update_status(API_SERVICES, wanted)
        except ApiError as error:
            if error.code not in (404, 409):
                _log.warning("APIService %s: %s", name, error)


_LOCAL: Final = ("True", "Local", "Local APIServices are always available")


def _whole_kinds(listed: list[Object]) -> list[Object]:
    return [entry for entry in listed if "/" not in text(entry, "name")]


def _target(server: ApiServer, spec: Object) -> Target:
    config = {"service": {**spec["service"], "path": ""}, "caBundle": text(spec, "caBundle")}
    return target_of(config, server.registry.reader)


class _Proxy:
    """Hands a request to the other server, and its answer back."""

    def __init__(self, server: ApiServer, spec: Object) -> None:
        self._server = server
        self._spec = spec

    async def __call__(self, request: Request, user: User) -> None:
        answer = _Relayed(request)
        try:
            target = _target(self._server, self._spec)
            await _exchange(target, self._spec, _forwarded(request, user, target) + request.body, answer)
        except _UNREACHABLE as error:
            if not request.answered:
                raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error
        answer.end()


def _forwarded(request: Request, user: User, target: Target) -> bytes:
    headers = {name: value for name, value in request.headers.items() if _is_passed_on(name)}
    headers |= {b"host": target.name.encode(), b"x-remote-user": user.name.encode()}
    if request.body:
        headers[b"content-length"] = b"%d" % len(request.body)
    path = request.path + (f"?{request.query}" if request.query else "")
    groups = b"".join(b"X-Remote-Group: %b\r\n" % group.encode() for group in user.groups)
    return _head(request.method.encode(), path, headers, groups)


def _is_passed_on(name: bytes) -> bool:
    """What a client says of itself as a front proxy would is never believed, so it is not passed on either."""
    return name not in _OWN_HEADERS and not name.startswith((b"x-remote-", b"impersonate-"))


def _head(method: bytes, path: str, headers: dict[bytes, bytes], more: bytes = b"") -> bytes:
    lines = b"".join(b"%b: %b\r\n" % item for item in {**headers, b"connection": b"close"}.items())
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, path.encode(), lines, more)


class _Collected:
    """An answer as a whole; httptools calls the `on_*` methods."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        self.complete = False
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


class _Relayed(_Collected):
    """An answer that is handed on as it comes."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        self._headers: list[tuple[str, str]] = []
        self._stream: Stream | None = None

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        kept = [(name, value) for name, value in self._headers if name.lower() not in _HOP_BY_HOP]
        kind = next((value for name, value in self._headers if name.lower() == "content-type"), "application/json")
        self._stream = self._request.stream(self.parser.get_status_code(), kind, kept)

    def on_body(self, body: bytes) -> None:
        if self._stream is not None:
            self._stream.write(body)
            self.complete = self._stream.closed

    def end(self) -> None:
        if self._stream is not None:
            self._stream.close()


async def _exchange(target: Target, spec: Object, request: bytes, answer: _Collected) -> None:
    context = tls(target.ca, verify=not spec.get("insecureSkipTLSVerify"))
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(
            target.address, target.port, ssl=context, server_hostname=target.name
        )
    try:
        writer.write(request)
        await writer.drain()
        while not answer.complete and (data := await reader.read(_CHUNK)):
            answer.parser.feed_data(data)
    finally:
        writer.close()

"""API aggregation: groups that another API server in the cluster serves, announced by an APIService.

Requests for such a group are authorized here and sent on with the user's name in headers, as a front proxy does; what
the other server has is merged into discovery (`kube-aggregator`). Groups that are served here are always available.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from typing import Any, Final, cast
from urllib.parse import quote

import httptools
import orjson

from podling.api import meta, relay
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.http import Request
from podling.api.resources import Reader, Resource, User
from podling.api.server import ApiServer
from podling.extensions.caller import SERVICE_LABEL, SLICES, CallError, Identity, Target, target_of, tls
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

_log = logging.getLogger(__name__)
API_SERVICES: Final = "apiservices.apiregistration.k8s.io"
State = tuple[str, str, str]
"""Status, reason and message of the condition Available."""
_PATIENCE: Final = 10.0
_AGAIN: Final = 5.0
"""Seconds between looks at a server that does not answer, and at one that does."""
_LATER: Final = 30.0
_LARGEST: Final = 64 << 20
"""Bytes of an answer that is read here."""
_UNREACHABLE: Final = (OSError, TimeoutError, CallError, httptools.HttpParserError)


class Aggregation:
    """Keeps track of APIServices and serves those of others. `identity` is what they know us by."""

    def __init__(self, server: ApiServer, client: Client, identity: Identity | None) -> None:
        self._server = server
        self._client = client
        self._identity = identity
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
            work = self._keep(name, spec) if spec.get("service") else self._announce(name, _LOCAL)
            self._followed[name] = spec, self._spawn(work)

    def versions(self, group: str) -> list[str]:
        """Those of a group that other servers have."""
        specs = (spec for spec, _ in self._followed.values())
        return [text(spec, "version") for spec in specs if text(spec, "group") == group and spec.get("service")]

    async def get(self, group: str, version: str, path: str, user: User) -> Object:
        """What such a server answers to a GET of `user`. Raises `ApiError`: its own, or 503 if it cannot be asked."""
        place = group, version
        spec = next(s for s, _ in self._followed.values() if (text(s, "group"), text(s, "version")) == place)
        try:
            target = _target(self._server, spec)
            headers = {b"host": target.name.encode(), b"accept": b"application/json"}
            request = _head(b"GET", path, headers, _who(user))
            async with asyncio.timeout(_PATIENCE):
                answer = await _asked(target, _context(target, spec, self._identity), request)
        except _UNREACHABLE as error:
            raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error
        return _object_of(answer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _leave(self, name: str, spec: Object) -> None:
        task = self._followed.pop(name)[1]
        if task is not None:
            task.cancel()
        if spec.get("service"):
            self._server.delegate(text(spec, "group"), text(spec, "version"), None)
            self._withdraw(spec)

    def _withdraw(self, spec: Object) -> None:
        group, version = text(spec, "group"), text(spec, "version")
        for resource in self._server.served.all():
            if (resource.group, resource.version) == (group, version) and resource.custom:
                self._server.served.remove(group, resource.plural, version)

    async def _keep(self, name: str, spec: Object) -> None:
        """Serves the group, and looks now and then whether its server is there and what it has."""
        proxy = _Proxy(self._server, spec, self._identity)
        self._server.delegate(text(spec, "group"), text(spec, "version"), proxy)
        known: list[Object] = []
        while True:
            state, listed = await self._state(spec)
            proxy.available = state == _PASSED
            if proxy.available and listed != known:
                self._withdraw(spec)
                self._server.add_resources(*(self._resource(spec, entry, listed) for entry in _whole_kinds(listed)))
                known = listed
            await self._announce(name, state)
            await asyncio.sleep(_LATER if proxy.available else _AGAIN)

    async def _state(self, spec: Object) -> tuple[State, list[Object]]:
        problem = _unreachable_by(spec, self._server.registry.reader)
        if problem is not None:
            return problem, []
        try:
            target = _target(self._server, spec)
        except CallError as error:
            return ("False", "FailedDiscoveryCheck", str(error)), []
        url = target.url.rstrip("/") + _path(spec)
        try:
            return _PASSED, await self._discovered(spec, target, url)
        except _UNREACHABLE as error:
            words = str(error) if isinstance(error, _BadStatus) else f"failing or missing response from {url}: {error}"
            return ("False", "FailedDiscoveryCheck", words), []

    async def _discovered(self, spec: Object, target: Target, url: str) -> list[Object]:
        asked = User("system:kube-aggregator", ("system:masters",))
        request = _head(b"GET", _path(spec), {b"host": target.name.encode()}, _who(asked))
        async with asyncio.timeout(_PATIENCE):
            answer = await _asked(target, _context(target, spec, self._identity), request)
        if answer.status != 200:
            raise _BadStatus(f"bad status from {url}: {answer.status}")
        try:
            return cast("list[Object]", orjson.loads(bytes(answer.body))["resources"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise CallError(f"{url} tells of no resources") from None

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

    async def _announce(self, name: str, available: State) -> None:
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


_LOCAL: Final[State] = ("True", "Local", "Local APIServices are always available")
_PASSED: Final[State] = ("True", "Passed", "all checks passed")


class _BadStatus(CallError):
    """The server answers, but not well."""


def _path(spec: Object) -> str:
    return f"/apis/{spec['group']}/{spec['version']}"


def _unreachable_by(spec: Object, reader: Reader) -> State | None:
    """What the cluster itself says against reaching the server (`available_controller.go`)."""
    wanted = spec["service"]
    name, namespace, number = wanted["name"], wanted["namespace"], wanted.get("port") or 443
    service = reader.get("services", namespace, name)
    if service is None:
        return "False", "ServiceNotFound", f'service/{name} in "{namespace}" is not present'
    if text(part(service, "spec"), "type") == "ExternalName":
        return None
    port = next((p for p in meta.items(service, "spec", "ports") if p.get("port") == number), None)
    if port is None:
        return "False", "ServicePortError", f'service/{name} in "{namespace}" is not listening on port {number}'
    slices = [s for s in reader.list(SLICES, namespace) if meta.labels(s).get(SERVICE_LABEL) == name]
    if not slices:
        return "False", "EndpointsNotFound", f'cannot find endpointslices for service/{name} in "{namespace}"'
    called = port.get("name") or ""
    if not any(_has_address(s, called) for s in slices):
        words = f'endpointslices for service/{name} in "{namespace}" have no addresses with port name "{called}"'
        return "False", "MissingEndpoints", words
    return None


def _has_address(slice_: Object, port: str) -> bool:
    named = any((p.get("name") or "") == port for p in meta.items(slice_, "ports"))
    return named and any(meta.part(e, "conditions").get("ready", True) for e in meta.items(slice_, "endpoints"))


def _whole_kinds(listed: list[Object]) -> list[Object]:
    return [entry for entry in listed if "/" not in text(entry, "name")]


def _target(server: ApiServer, spec: Object) -> Target:
    config = {"service": {**spec["service"], "path": ""}, "caBundle": text(spec, "caBundle")}
    return target_of(config, server.registry.reader)


class _Proxy:
    """Hands a request to the other server, and its answer back."""

    def __init__(self, server: ApiServer, spec: Object, identity: Identity | None) -> None:
        self._server = server
        self._spec = spec
        self._identity = identity
        self.available = True

    async def __call__(self, request: Request, user: User) -> None:
        if not self.available:
            request.respond(503, b"service unavailable\n", "text/plain; charset=utf-8")
            return
        try:
            target = _target(self._server, self._spec)
            reader, writer = await _connect(target, _context(target, self._spec, self._identity))
        except _UNREACHABLE as error:
            raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error
        try:
            writer.write(_forwarded(request, user, target) + request.body)
            if request.upgrade:
                await relay.tunnel(request, reader, writer)
            else:
                await relay.answer(request, reader)
        finally:
            writer.close()


def _context(target: Target, spec: Object, identity: Identity | None) -> ssl.SSLContext:
    return tls(target.ca, verify=not spec.get("insecureSkipTLSVerify"), identity=identity)


def _forwarded(request: Request, user: User, target: Target) -> bytes:
    headers = {name: value for name, value in request.headers.items() if _is_passed_on(name)}
    headers |= {b"host": target.name.encode(), b"x-forwarded-for": request.connection.peer.encode()}
    if request.body:
        headers[b"content-length"] = b"%d" % len(request.body)
    headers |= {b"connection": b"Upgrade", b"upgrade": request.headers[b"upgrade"]} if request.upgrade else {}
    path = request.path + (f"?{request.query}" if request.query else "")
    return _head(request.method.encode(), path, headers, _who(user))


def _who(user: User) -> bytes:
    """Who asks, in the headers that the configuration of front proxies names."""
    pairs = [("X-Remote-User", user.name)]
    pairs += [("X-Remote-Uid", user.uid)] if user.uid else []
    pairs += [("X-Remote-Group", group) for group in user.groups]
    pairs += [
        (f"X-Remote-Extra-{quote(key, safe='')}", value) for key, values in user.extra.items() for value in values
    ]
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()


def _is_passed_on(name: bytes) -> bool:
    """What a client says of itself as a front proxy would is never believed, so it is not passed on either."""
    return name.decode("latin-1") not in relay.HOP_BY_HOP and not name.startswith((b"x-remote-", b"impersonate-"))


def _head(method: bytes, path: str, headers: dict[bytes, bytes], more: bytes = b"") -> bytes:
    lines = b"".join(b"%b: %b\r\n" % item for item in {b"connection": b"close", **headers}.items())
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, path.encode(), lines, more)


def _object_of(answer: relay.Whole) -> Object:
    """The object in an answer. Raises `ApiError` where that is a failure."""
    try:
        found: Any = orjson.loads(bytes(answer.body))
    except orjson.JSONDecodeError:
        found = None
    obj = cast(Object, found) if isinstance(found, dict) else {}
    if answer.status != 200:
        message = obj.get("message") or "an error on the server has prevented the request from succeeding"
        raise ApiError(answer.status or 503, str(obj.get("reason") or "InternalError"), str(message))
    return obj


async def _asked(target: Target, context: ssl.SSLContext, request: bytes) -> relay.Whole:
    return await relay.ask(target.address, target.port, request, largest=_LARGEST, context=context, name=target.name)


async def _connect(target: Target, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(_PATIENCE):
        return await asyncio.open_connection(target.address, target.port, ssl=context, server_hostname=target.name)

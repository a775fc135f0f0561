"""The API server: from a request to its answer.

authenticate -> take the path apart -> authorize -> find the resource -> decode -> registry -> answer. Reads are
answered at once; what has to wait for the disk goes on in a coroutine. What is not a resource (`/healthz`,
discovery, OpenAPI, metrics) and subresources that need a node or a signer are handlers registered from outside.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from podling.api import decode, health, managed_fields, memory
from podling.api.admission import Admission
from podling.api.answers import Answers, go_type, shown, warning
from podling.api.connecting import CONNECTED, options_of
from podling.api.converted import ConvertedWatch, SharedConversions
from podling.api.creators import Creator
from podling.api.discovery import Discovery, subresources_of
from podling.api.errors import (
    ApiError,
    FieldError,
    bad_request,
    conflict,
    forbidden_field,
    internal,
    invalid,
    not_supported,
    required,
)
from podling.api.http import Headers, HttpServer, Request
from podling.api.lifecycle import check_name_matches, place_in_namespace
from podling.api.lists import (
    ListOptions,
    Page,
    check_present,
    converted_page,
    list_options,
    only_named,
    page,
    parse_version,
)
from podling.api.metrics import Metrics
from podling.api.negotiation import Form, Negotiator, Shape, check_streamed, wrong_shape
from podling.api.openapi import OpenApi
from podling.api.patching import APPLY_PATCH, check_patch_type, patched
from podling.api.registry import Deleted, Registry, check_uid
from podling.api.requests import (
    EMPTY_QUERY,
    Attributes,
    Authenticate,
    Authorize,
    Call,
    Classify,
    Query,
    RequestInfo,
    forbidden_request,
    parse_path,
    repeated,
    unclassified,
)
from podling.api.resources import Resource, User
from podling.api.scale import SCALE, scale_applied, scale_of, scale_with_owners
from podling.api.schema import Schemas
from podling.api.served import Served
from podling.api.streams.events import EventSocket, asks_for_websocket
from podling.api.structs import DecodeError, parse_duration
from podling.api.table import check_include_object
from podling.api.watch import EventEncoder, Wanted, WatchSession
from podling.store.store import Store
from podling.store.types import Entry, Object

_log = logging.getLogger(__name__)

VERSION: Mapping[str, str] = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_NOT_FOUND = "the server could not find the requested resource"
_NOT_ALLOWED = "the server does not allow this method on the requested resource"
_TRIM_EVERY = 60.0
_SUB_VERBS = frozenset({"get", "update", "patch"})


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request for a registered handler, with everything that is known of it."""

    server: ApiServer
    request: Request
    info: RequestInfo
    resource: Resource
    user: User
    query: Query
    call: Call

    def body(self, resource: Resource | None = None) -> Object:
        """The decoded body: of the handler's resource, or of another kind (`Eviction` for pods). Raises `ApiError`."""
        return self.server.decoded(self.request, resource or self.resource, self.call)

    def respond_entry(self, entry: Entry) -> None:
        """Answers with an object that is not stored, in the shape (Table, ...) that the client asked for."""
        self.server.answer_entry(self.request, self.resource, self.query, entry)

    def respond_list(self, entries: Sequence[Entry]) -> None:
        """The same with a list."""
        self.server.answer_list(self.request, self.resource, self.query, entries)

    def respond(self, obj: Object, status: int = 200) -> None:
        """Answers with an object (in the form that the client accepts) and with the call's warnings."""
        self.server.answer_plain(self.request, self.query, obj, status, self.call)


Handler = Callable[[Exchange], Awaitable[None] | None]
PathHandler = Callable[[Request, User], Awaitable[None] | None]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Handlers:
    subresources: dict[tuple[str, str], tuple[Handler, frozenset[str]]] = field(
        default_factory=dict[tuple[str, str], tuple[Handler, frozenset[str]]]
    )
    paths: dict[str, PathHandler] = field(default_factory=dict[str, PathHandler])
    delegates: dict[tuple[str, str], PathHandler] = field(default_factory=dict[tuple[str, str], PathHandler])
    versions: dict[tuple[str, str], PathHandler] = field(default_factory=dict[tuple[str, str], PathHandler])


class ApiServer:
    """Serves a store. `registry` is also what in-process clients use.

    `server_address` (host and port) is what discovery tells clients; `version` what `/version` answers; for `clock` and
    `pace` see `Registry`.
    """

    def __init__(
        self,
        *,
        store: Store,
        resources: Iterable[Resource],
        schemas: Schemas,
        authenticate: Authenticate,
        authorize: Authorize,
        admission: Admission | None = None,
        classify: Classify = unclassified,
        clock: Callable[[], datetime] = _utc_now,
        pace: float = 1.0,
        version: Mapping[str, str] = VERSION,
        server_address: str = "",
    ) -> None:
        self.served = Served(resources)
        self.schemas = schemas
        self.registry = Registry(
            store=store,
            served=self.served,
            schemas=schemas,
            admission=admission or Admission(),
            clock=clock,
            pace=pace,
        )
        for resource in self.served.all():
            self.registry.index(resource)
        self._conversions = SharedConversions(self.registry)
        self.metrics = Metrics()
        self._authenticate = authenticate
        self.authorize = authorize
        self._classify = classify
        self._version = version
        self.address = server_address
        self._negotiator = Negotiator()
        self._answers = Answers(clock, self._negotiator)
        self._handlers = _Handlers()
        self._http = HttpServer(self._serve, self._observe)
        self._verbs = self._verb_table()
        self._trimming: asyncio.TimerHandle | None = None
        self._publish()
        self.served.on_change(self._publish)

    # What is registered from outside

    def handle(self, resource: str, subresource: str, handler: Handler, *verbs: str) -> None:
        """Serves a subresource (`("pods", "log")`), or a kind that is never stored (`("tokenreviews...", "")`).

        `verbs` are those of authorization (`get`, `create`, ...); others are answered 405.
        """
        self._handlers.subresources[resource, subresource] = (handler, frozenset(verbs))

    def add_creator(self, resource: str, subresource: str, creator: Creator) -> None:
        """Serves POST on a subresource (`("pods", "binding")`), also for in-process clients."""
        self.registry.creators[resource, subresource] = creator

        async def create(exchange: Exchange) -> None:
            body = exchange.body(creator.body)
            place = (exchange.info.namespace, exchange.info.name)
            answer = await self.registry.create_on(exchange.resource, subresource, place, body, exchange.call)
            exchange.respond(answer, 201)

        self.handle(resource, subresource, create, "create")

    def handle_path(self, path: str, handler: PathHandler) -> None:
        """Serves a path that is no resource; one that ends in `/` with everything below it."""
        self._handlers.paths[path] = handler

    def handle_version(self, group: str, version: str, handler: PathHandler) -> None:
        """Serves whatever is asked of a version, its list of resources too, unless it is handed to another server."""
        self._handlers.versions[group, version] = handler

    def delegate(self, group: str, version: str, handler: PathHandler | None) -> None:
        """Hands the requests for all resources of a version to another API server; `None`: no more."""
        if handler is None:
            self._handlers.delegates.pop((group, version), None)
        else:
            self._handlers.delegates[group, version] = handler

    def add_resources(self, *resources: Resource) -> None:
        """Serves more resources from now on."""
        for resource in resources:
            self.registry.index(resource)
        self.served.add(*resources)

    def _publish(self) -> None:
        self._discovery = Discovery(self.served.all(), server_address=self.address)
        self._openapi = OpenApi(self.served.all(), self.schemas)

    # Sockets

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listens; gives the port. Raises `OSError`."""
        self._keep_trim()
        return await self._http.listen(host, port, tls=tls)

    async def listen_on(self, sock: Any, *, tls: ssl.SSLContext | None = None) -> None:
        self._keep_trim()
        await self._http.listen_on(sock, tls=tls)

    async def close(self) -> None:
        if self._trimming is not None:
            self._trimming.cancel()
        await self._http.close()

    def _keep_trim(self) -> None:
        """From the first socket on: lets go, now and then, of parsed objects that nobody reads, and of free memory."""
        if self._trimming is None:
            self._trimming = asyncio.get_running_loop().call_later(_TRIM_EVERY, self._trim)

    def _trim(self) -> None:
        self.registry.store.trim()
        memory.give_back()
        self._trimming = asyncio.get_running_loop().call_later(_TRIM_EVERY, self._trim)

    # From request to answer

    def _serve(self, request: Request) -> Coroutine[Any, Any, None] | None:
        try:
            waiting = self._dispatch(request)
        except ApiError as error:
            self._answers.error(request, error)
            return None
        except Exception:  # noqa: BLE001  the supervisor of requests: a fault in one must not end the server
            self._fault(request)
            return None
        return self._finish(request, waiting) if waiting is not None else None

    async def _finish(self, request: Request, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except ApiError as error:
            if not request.answered:
                self._answers.error(request, error)
        except Exception:  # noqa: BLE001  the supervisor of requests: a fault in one must not end the server
            self._fault(request)

    def _fault(self, request: Request) -> None:
        _log.exception("%s %s failed", request.method, request.path)
        if request.answered:
            request.connection.abort()
        else:
            self._answers.error(request, internal("the server has an error; its log says more"))

    def _observe(self, request: Request, status: int) -> None:
        info = request.info or RequestInfo(request.method.lower(), request.path)
        if status >= 400 and not self._serves(info):
            info = RequestInfo(info.verb, info.path)  # no series for every name that a client makes up
        verb = "apply" if info.verb == "patch" and request.header(b"content-type") == APPLY_PATCH else info.verb
        label = (verb, info.group, info.version, info.resource, info.subresource, _scope(info))
        self.metrics.observe(label, status, time.perf_counter() - request.started)

    def _serves(self, info: RequestInfo) -> bool:
        resource = self.served.find(info.group, info.version, info.resource)
        return resource is not None and (not info.subresource or info.subresource in subresources_of(resource))

    def _dispatch(self, request: Request) -> Awaitable[None] | None:
        query = Query.parse(request.query) if request.query else EMPTY_QUERY
        info = request.info = parse_path(request.method, request.path, bool(query) and query.flag("watch"))
        user = self._authenticate(request)
        attributes = Attributes.of(info, query)
        request.notices = self._classify(user, attributes)
        decision = self.authorize(user, attributes)
        if not decision.allowed:
            raise forbidden_request(user, attributes, decision.reason)
        if "timeout" in query:
            _check_timeout(info, query["timeout"])
        if not info.resource:
            return self._serve_path(request, user, query)
        whole = self._handler_of_version(info.group, info.version)
        if whole is not None:
            return whole(request, user)
        resource = self.served.find(info.group, info.version, info.resource)
        if resource is None or not _is_place_of(resource, info):
            return self._unknown(request, info)
        return self._serve_resource(request, resource, info, user, query)

    def _handler_of_version(self, group: str, version: str) -> PathHandler | None:
        handlers = self._handlers
        return handlers.delegates.get((group, version)) or handlers.versions.get((group, version))

    def _handler_of_list(self, path: str) -> PathHandler | None:
        """Of `/apis/GROUP/VERSION`."""
        parts = path.rstrip("/").split("/")
        return self._handler_of_version(parts[2], parts[3]) if len(parts) == 4 and parts[1] == "apis" else None

    def _unknown(self, request: Request, info: RequestInfo) -> None:
        if info.group and not self.served.has_built_in_group(info.group):
            health.no_page(request)
            return
        raise ApiError(404, "NotFound", _NOT_FOUND, {})

    def _serve_resource(
        self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query
    ) -> Awaitable[None] | None:
        if resource.deprecation:
            request.notices = (*request.notices, warning(resource.deprecation))
        registered = self._handlers.subresources.get((resource.group_resource, info.subresource))
        if registered is not None:
            handler, verbs = registered
            if info.verb not in verbs:
                raise ApiError(405, "MethodNotAllowed", _NOT_ALLOWED, {})
            call = self._call(request, user, query, info.verb)
            exchange = Exchange(self, request, info, resource, user, query, call)
            options = CONNECTED.get((resource.group_resource, info.subresource))
            return handler(exchange) if options is None else self._connect(exchange, handler, options)
        if info.subresource:
            return self._serve_subresource(request, resource, info, user, query)
        serve = self._verbs.get(info.verb)
        if resource.custom and not _may_span(resource, info):
            self._unknown(request, info)
            return None
        if serve is None or info.verb not in resource.verbs or not _takes(resource, info) or request.method == "HEAD":
            raise ApiError(405, "MethodNotAllowed", _NOT_ALLOWED, {})
        return serve(request, resource, info, user, query)

    async def _connect(self, exchange: Exchange, handler: Handler, options: Resource) -> None:
        info, name = exchange.info, exchange.info.name
        if "dryRun" in exchange.query:
            raise bad_request("dryRun is not supported")
        obj = options_of(options, exchange.request.query, info.rest)
        place = (info.namespace, name)
        resource = exchange.resource
        await self.registry.ask(resource, info.subresource, "CONNECT", options, obj, place, exchange.call)
        waiting = handler(exchange)
        if waiting is not None:
            await waiting

    def _verb_table(
        self,
    ) -> dict[str, Callable[[Request, Resource, RequestInfo, User, Query], Awaitable[None] | None]]:
        return {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    # Reading

    def _get(
        self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query
    ) -> Awaitable[None] | None:
        if query:
            self._check_get(query)
        form = self._negotiator.choose(request.header(b"accept"))
        if resource.conversion is not None:
            return self._get_converted(request, resource, info, query, form)
        entry = self.registry.get(resource, _namespace(resource, info), info.name)
        self._answers.entry(request, resource, form, query, entry)
        return None

    async def _get_converted(
        self, request: Request, resource: Resource, info: RequestInfo, query: Query, form: Form
    ) -> None:
        entry = await self.registry.fetch(resource, _namespace(resource, info), info.name)
        self._answers.entry(request, resource, form, query, entry)

    def _check_get(self, query: Query) -> None:
        if query.flag("export"):
            raise bad_request("the export parameter, deprecated since v1.14, is no longer supported")
        check_present(parse_version(query.get("resourceVersion", "")), self.registry.store.revision)

    def _list(
        self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query
    ) -> Awaitable[None] | None:
        form = self._negotiator.choose(request.header(b"accept"), listing=True)
        options = list_options(resource, query)
        if resource.conversion is not None:
            return self._list_converted(request, resource, info, query, form, options)
        found = page(self.registry, resource, info.namespace or None, options)
        self._answers.page(request, resource, form, query, found)
        return None

    async def _list_converted(
        self, request: Request, resource: Resource, info: RequestInfo, query: Query, form: Form, options: ListOptions
    ) -> None:
        found = await converted_page(self.registry, resource, info.namespace or None, options)
        self._answers.page(request, resource, form, query, found)

    def _watch(self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query) -> None:
        form = self._negotiator.choose(request.header(b"accept"), listing=True)
        check_streamed(form)
        options = list_options(resource, query, watch=True)
        if info.name:
            options = only_named(options, info.name)
        parse_version(options.version)
        include = check_include_object(query.get("includeObject", ""))
        encoder = EventEncoder(resource, form, include, self.registry.clock)
        stream = EventSocket(request) if asks_for_websocket(request) else request.stream(200, form.media_type)
        wanted = Wanted(resource, info.namespace or None, options, encoder)
        if resource.conversion is None:
            WatchSession(self.registry, wanted, stream).start()
        else:
            ConvertedWatch(self._conversions, self.registry, wanted, stream).start()

    # Writing

    def _call(self, request: Request, user: User, query: Query, verb: str) -> Call:
        if query or verb == _APPLY:
            _check_write_options(verb, query, repeated(request.query, "dryRun"))
        call = Call(
            user=user,
            dry_run=query.get("dryRun") == "All",
            field_manager=query.get("fieldManager") or managed_fields.manager_of(request.header(b"user-agent")),
            force=query.flag("force"),
            field_validation=query.get("fieldValidation") or "Warn",
            options={k: v for k, v in query.items() if k in ("dryRun", "fieldManager", "fieldValidation", "force")},
        )
        request.warnings = call.warnings
        return call

    def _check_of_create(self, info: RequestInfo, user: User) -> Callable[[], None]:
        def check() -> None:
            place = (info.group, info.version, info.resource, info.subresource, info.namespace, info.name)
            attributes = Attributes("create", "", *place)
            decision = self.authorize(user, attributes)
            if not decision.allowed:
                raise forbidden_request(user, attributes, decision.reason)

        return check

    def decoded(self, request: Request, resource: Resource, call: Call) -> Object:
        """The body as an object of `resource`. Raises 400, 413, 415 or 422."""
        result = decode.decode(
            request.body,
            request.header(b"content-type"),
            resource=resource,
            schemas=self.schemas,
            field_validation=call.field_validation,
            applies=request.method == "PATCH",
        )
        call.warnings.extend(result.warnings)
        return result.object

    def answer_plain(self, request: Request, query: Query, obj: Object, status: int, call: Call) -> None:
        form = self._negotiator.choose(request.header(b"accept"))
        self._answers.plain(request, form, query, obj, status, call.warnings)

    def answer_entry(self, request: Request, resource: Resource, query: Query, entry: Entry) -> None:
        form = self._negotiator.choose(request.header(b"accept"))
        self._answers.entry(request, resource, form, query, entry)

    def answer_list(self, request: Request, resource: Resource, query: Query, entries: Sequence[Entry]) -> None:
        form = self._negotiator.choose(request.header(b"accept"))
        self._answers.page(request, resource, form, query, Page(entries))

    def _answer_entry(
        self, request: Request, resource: Resource, query: Query, entry: Entry, status: int, call: Call
    ) -> None:
        form = self._negotiator.choose(request.header(b"accept"))
        if call.warnings:
            self._answers.object(request, resource, form, query, shown(resource, entry), status, call.warnings)
        else:
            self._answers.entry(request, resource, form, query, entry, status)

    async def _create(self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query) -> None:
        self._check_form(request, resource)
        call = self._call(request, user, query, "create")
        obj = self.decoded(request, resource, call)
        entry = await self.registry.create(resource, info.namespace if resource.namespaced else "", obj, call)
        self._answer_entry(request, resource, query, entry, 201, call)

    async def _update(self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query) -> None:
        self._check_form(request, resource)
        call = self._call(request, user, query, "update")
        call.check_create = self._check_of_create(info, user)
        obj = self.decoded(request, resource, call)
        entry, created = await self.registry.update(
            resource, _namespace(resource, info), info.name, obj, call, subresource=info.subresource
        )
        self._answer_entry(request, resource, query, entry, 201 if created else 200, call)

    async def _patch(self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query) -> None:
        kind = check_patch_type(resource, request.header(b"content-type"))
        self._check_form(request, resource)
        call = self._call(request, user, query, _APPLY if kind == APPLY_PATCH else "patch")
        if kind == APPLY_PATCH:
            call.check_create = self._check_of_create(info, user)
            await self._apply(request, resource, info, query, call)
            return
        place = _namespace(resource, info)

        def checked_change(old: Object) -> Object:
            new, call.warnings[:] = self._patched(old, kind, request.body, resource, call)
            place_in_namespace(new["metadata"], place, namespaced=resource.namespaced)
            check_name_matches(info.name, new["metadata"])
            return new

        entry = await self.registry.modify(
            resource, place, info.name, checked_change, call, subresource=info.subresource, owned=True
        )
        self._answer_entry(request, resource, query, entry, 200, call)

    def _patched(self, old: Object, kind: str, body: bytes, resource: Resource, call: Call) -> tuple[Object, list[str]]:
        """The outcome of a patch as the API writes it, sharing nothing with the stored object, and the warnings.

        A body is read when there is something to patch: what is not there is not found, whatever the patch is.
        """
        change = patched(kind, body, self.registry.node(resource), call.field_validation)
        result = decode.decode_patched(
            old,
            change(old),
            resource,
            self.schemas,
            call.field_validation,
            strategic=change.strategic,
            problems=change.problems,
        )
        return result.object, result.warnings

    async def _apply(self, request: Request, resource: Resource, info: RequestInfo, query: Query, call: Call) -> None:
        config = self.decoded(request, resource, call)
        entry, created = await self.registry.apply(
            resource, _namespace(resource, info), info.name, config, call, subresource=info.subresource
        )
        self._answer_entry(request, resource, query, entry, 201 if created else 200, call)

    def _check_form(self, request: Request, resource: Resource) -> Form:
        """Refuses before the write what could not be answered after it."""
        form = self._negotiator.choose(request.header(b"accept"))
        if form.shape is Shape.PARTIAL_LIST:
            raise wrong_shape(form.shape, go_type(resource), is_list=False)
        return form

    async def _delete(self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query) -> None:
        options, call = self._delete_options(request, user, query)
        deleted = await self.registry.delete(resource, _namespace(resource, info), info.name, options, call)
        form = self._negotiator.choose(request.header(b"accept"))
        status = 202 if not deleted.gone and options.get("orphanDependents") is False else 200
        if deleted.gone and not resource.strategy.returns_deleted:
            self._answers.plain(request, form, query, _success(resource, deleted), status, call.warnings)
        else:
            self._answers.object(request, resource, form, query, deleted.object, status, call.warnings)

    async def _delete_collection(
        self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query
    ) -> None:
        options, call = self._delete_options(request, user, query)
        form = self._negotiator.choose(request.header(b"accept"))
        found = await converted_page(self.registry, resource, info.namespace or None, list_options(resource, query))
        await self.registry.delete_collection(resource, found.entries, options, call)
        self._answers.page(request, resource, form, query, found)

    def _delete_options(self, request: Request, user: User, query: Query) -> tuple[Object, Call]:
        """The options of the body or, where there is none, of the query: a body stands alone."""
        if request.body:
            options = decode.decode_options(request.body, request.header(b"content-type"), schemas=self.schemas)
        else:
            options = _options_of_query(query, request.query)
        return options, Call(
            user=user,
            dry_run=bool(options.get("dryRun")),
            field_manager=managed_fields.manager_of(request.header(b"user-agent")),
        )

    # Subresources

    def _serve_subresource(
        self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query
    ) -> Awaitable[None] | None:
        is_status = info.subresource == "status" and resource.status
        is_scale = info.subresource == "scale" and resource.scale is not None
        if not is_status and not is_scale and info.subresource not in resource.subresources:
            raise ApiError(404, "NotFound", _NOT_FOUND, {})
        if info.verb not in _SUB_VERBS or request.method == "HEAD":
            raise ApiError(405, "MethodNotAllowed", _NOT_ALLOWED, {})
        if is_scale:
            return self._serve_scale(request, resource, info, user, query)
        return self._verbs[info.verb](request, resource, info, user, query)

    def _serve_scale(
        self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query
    ) -> Awaitable[None] | None:
        if info.verb != "get":
            return self._write_scale(request, resource, info, user, query)
        if resource.conversion is not None:
            return self._get_scale_converted(request, resource, info, query)
        entry = self.registry.get(resource, info.namespace, info.name)
        self._answer_scale(request, resource, query, entry)
        return None

    async def _get_scale_converted(self, request: Request, resource: Resource, info: RequestInfo, query: Query) -> None:
        entry = await self.registry.fetch(resource, info.namespace, info.name)
        self._answer_scale(request, resource, query, entry)

    def _answer_scale(self, request: Request, resource: Resource, query: Query, entry: Entry) -> None:
        assert resource.scale is not None
        form = self._negotiator.choose(request.header(b"accept"))
        self._answers.object(request, SCALE, form, query, scale_of(resource.scale, shown(resource, entry)))

    async def _write_scale(
        self, request: Request, resource: Resource, info: RequestInfo, user: User, query: Query
    ) -> None:
        assert resource.scale is not None
        paths = resource.scale
        if info.verb == "patch" and check_patch_type(resource, request.header(b"content-type")) == APPLY_PATCH:
            call = self._call(request, user, query, _APPLY)
            entry = await self._apply_scale(request, resource, info, call)
            self._answer_scale(request, resource, query, entry)
            return
        call = self._call(request, user, query, info.verb)
        make = self._scale_maker(request, resource, info, call)

        def change(old: Object) -> Object:
            present = scale_with_owners(paths, old)
            scale = make(present)
            return scale_applied(resource, paths, old, self.registry.track(SCALE, present, scale, call, "scale"))

        entry = await self.registry.modify(
            resource, info.namespace, info.name, change, call, subresource="scale", applied=True
        )
        self._answer_scale(request, resource, query, entry)

    async def _apply_scale(self, request: Request, resource: Resource, info: RequestInfo, call: Call) -> Entry:
        assert resource.scale is not None
        paths = resource.scale
        config = self.decoded(request, SCALE, call)
        _check_scale_name(config, info.name)

        def change(old: Object) -> Object:
            scale = self.registry.merge_applied(SCALE, scale_with_owners(paths, old), config, call, "scale")
            return scale_applied(resource, paths, old, scale)

        return await self.registry.modify(
            resource, info.namespace, info.name, change, call, subresource="scale", applied=True
        )

    def _scale_maker(
        self, request: Request, resource: Resource, info: RequestInfo, call: Call
    ) -> Callable[[Object], Object]:
        """From the present Scale to the wanted one."""
        if info.verb == "update":
            scale = self.decoded(request, SCALE, call)
            _check_scale_name(scale, info.name)

            def replaced(present: Object) -> Object:
                check_uid(resource, present, scale["metadata"])
                return scale

            return replaced
        kind = check_patch_type(resource, request.header(b"content-type"))

        def patched_scale(present: Object) -> Object:
            scale, call.warnings[:] = self._patched(present, kind, request.body, SCALE, call)
            _check_scale_name(scale, info.name)
            _check_scale_uid(resource, present, scale)
            return scale

        return patched_scale

    # What is no resource

    def _serve_path(self, request: Request, user: User, query: Query) -> Awaitable[None] | None:
        path = request.path
        handler = self._handlers.paths.get(path) or self._handler_above(path) or self._handler_of_list(path)
        if handler is not None:
            return handler(request, user)
        if path.startswith(health.ROOTS):
            health.respond(request, path)
        elif path == "/metrics":
            request.respond(200, self.metrics.text().encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif path in ("/version", "/version/"):
            _require_get(request)
            request.respond(200, orjson.dumps(self._version, option=orjson.OPT_INDENT_2))
        else:
            self._serve_documents(request, path)
        return None

    def _handler_above(self, path: str) -> PathHandler | None:
        handlers = self._handlers.paths.items()
        return next((h for prefix, h in handlers if prefix.endswith("/") and path.startswith(prefix)), None)

    def _serve_documents(self, request: Request, path: str) -> None:
        accept = request.header(b"accept")
        if path in ("/", "/index.html"):
            paths = sorted({*self._handlers.paths, *self._discovery.paths(), *_OWN_PATHS})
            request.respond(200, orjson.dumps({"paths": paths}, option=orjson.OPT_INDENT_2))
            return
        if path.startswith("/openapi"):
            answer = self._openapi.respond(path, accept, Query.parse(request.query).get("hash", ""))
            if answer is not None:
                _respond_once(request, answer.status, answer.body, answer.content_type, answer.headers)
                return
        found = self._discovery.respond(path, accept)
        if found is not None:
            _require_get(request)
            _respond_once(request, 200, found.body, found.content_type, found.headers)
        elif self._is_routed(path):
            raise ApiError(404, "NotFound", _NOT_FOUND, {})
        else:
            health.no_page(request)

    def _is_routed(self, path: str) -> bool:
        """Whether a path lies below one of the API's, whose router has its own way to say that there is nothing."""
        root, *below = path[1:].split("/")
        built_in = root == "apis" and bool(below) and self.served.has_built_in_group(below[0])
        return built_in or (root in ("api", "version") and bool(below))


def _respond_once(request: Request, status: int, body: bytes, content_type: str, headers: Headers) -> None:
    """Answers with a document, or only that it is still the one that the client has."""
    known = request.header(b"if-none-match")
    if known and ("ETag", known) in headers:
        request.respond(304, b"", content_type, headers)
    else:
        request.respond(status, body, content_type, headers)


def _require_get(request: Request) -> None:
    if request.method != "GET":
        raise ApiError(405, "MethodNotAllowed", _NOT_ALLOWED, {})


_LONG_RUNNING = frozenset({"attach", "exec", "proxy", "log", "portforward"})


def _check_timeout(info: RequestInfo, timeout: str) -> None:
    """Of a request that is to end soon. Raises 400 for what is no duration; answers come before any could be over."""
    if not timeout or info.verb == "watch" or info.subresource in _LONG_RUNNING:
        return
    try:
        parse_duration(timeout)
    except DecodeError as error:
        raise bad_request(f"invalid timeout specified in the request URL - {error}") from None


def _scope(info: RequestInfo) -> str:
    """What a request is about, for metrics: one object, those of a namespace, or all."""
    if info.name or info.verb == "create":
        return "resource"
    if info.namespace:
        return "namespace"
    return "cluster" if info.resource else ""


def _is_place_of(resource: Resource, info: RequestInfo) -> bool:
    """Whether objects of the resource live (or are listed) at such a path."""
    if resource.namespaced:
        return bool(info.namespace) or not info.name
    return not info.namespace or resource.plural == "namespaces"


def _may_span(resource: Resource, info: RequestInfo) -> bool:
    """Whether a path has the namespace that it needs: only reads go across all of them."""
    return bool(info.namespace) or not resource.namespaced or info.verb in ("list", "watch")


def _takes(resource: Resource, info: RequestInfo) -> bool:
    """Whether a verb fits the place: a create the collection (in its namespace), an update an object."""
    if info.verb == "create":
        return not info.name and (bool(info.namespace) or not resource.namespaced)
    if info.verb == "deletecollection":
        return _may_span(resource, info)
    return bool(info.name) or info.verb not in ("update", "patch")


def _namespace(resource: Resource, info: RequestInfo) -> str:
    return info.namespace if resource.namespaced else ""


def _success(resource: Resource, deleted: Deleted) -> Object:
    metadata = deleted.object["metadata"]
    details = {"name": metadata["name"], "group": resource.group, "kind": resource.plural, "uid": metadata["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {k: v for k, v in details.items() if v},
    }


def _options_of_query(query: Query, text: str) -> Object:
    wanted = {key: query[key] for key in ("uid", "resourceVersion") if query.get(key)}
    options: Object = {"preconditions": wanted} if wanted else {}
    if dry_run := repeated(text, "dryRun"):
        options["dryRun"] = dry_run
    grace = query.integer("gracePeriodSeconds")
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    if "orphanDependents" in query:
        options["orphanDependents"] = query.flag("orphanDependents")
    return options


_OWN_PATHS = (
    *(path for root in health.ROOTS for path in (root, f"{root}/ping")),
    "/apis/",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/version",
)
_APPLY = "apply"
_OPTION_KINDS = {
    "create": "CreateOptions",
    "update": "UpdateOptions",
    "patch": "PatchOptions",
    _APPLY: "PatchOptions",
}


def _check_write_options(verb: str, query: Query, dry_run: Sequence[str]) -> None:
    """`metav1.ValidateCreateOptions` and its sisters. Raises 422."""
    manager, validation = query.get("fieldManager", ""), query.get("fieldValidation", "")
    errors: list[FieldError] = []
    if verb == _APPLY and not manager:
        errors.append(required("fieldManager", "is required for apply patch"))
    if verb == "patch" and "force" in query:
        errors.append(forbidden_field("force", "may not be specified for non-apply patch"))
    errors += managed_fields.manager_problems(manager, "fieldManager")
    if any(value != "All" for value in dry_run):
        errors.append(not_supported("dryRun", dry_run, ["All"]))
    if validation not in ("", "Ignore", "Warn", "Strict"):
        errors.append(not_supported("fieldValidation", validation, ["", "Ignore", "Strict", "Warn"]))
    if errors:
        raise invalid(_OPTION_KINDS.get(verb, "UpdateOptions"), "meta.k8s.io", "", errors)


def _check_scale_name(scale: Object, url_name: str) -> None:
    check_name_matches(url_name, scale.get("metadata") or {})


def _check_scale_uid(resource: Resource, present: Object, scale: Object) -> None:
    given, uid = scale["metadata"].get("uid"), present["metadata"]["uid"]
    if given and given != uid:
        why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {uid}"
        raise conflict(f"{resource.plural}/scale", resource.group, present["metadata"]["name"], why)

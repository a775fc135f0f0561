"""Answers to requests about resources: stored bytes where they fit, else the object in the shape that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import orjson
import yaml

from podling.api.errors import ApiError
from podling.api.http import PIECE, Headers, Pieces, Request
from podling.api.lists import Page
from podling.api.negotiation import JSON, YAML, Form, Negotiator, Shape, wrong_shape
from podling.api.requests import EMPTY_QUERY, Query
from podling.api.resources import Resource
from podling.api.table import check_include_object, partial, table
from podling.store.types import Entry, Object

_PRETTY_AGENTS = (b"curl", b"Wget", b"Mozilla/5.0")
"""People who look: Kubernetes indents for them."""


TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
"""What Go's ParseBool takes."""


@dataclass(slots=True)
class Answers:
    """Writes answers; `clock` is for the ages in Tables."""

    clock: Callable[[], datetime]
    negotiator: Negotiator

    def entry(
        self, request: Request, resource: Resource, form: Form, query: Query, entry: Entry, status: int = 200
    ) -> None:
        """One object as stored."""
        if form.shape is Shape.OBJECT and form.media_type is JSON and not _is_pretty(request, form, query):
            request.respond(status, raw_of(resource, entry) + b"\n")
        else:
            self.object(request, resource, form, query, shown(resource, entry), status)

    def object(
        self,
        request: Request,
        resource: Resource,
        form: Form,
        query: Query,
        obj: Object,
        status: int = 200,
        warnings: Sequence[str] = (),
    ) -> None:
        """One object of `resource`, in the served version."""
        if form.shape is Shape.PARTIAL_LIST:
            raise wrong_shape(form.shape, go_type(resource), is_list=False)
        if form.shape is Shape.TABLE:
            include = check_include_object(query.get("includeObject", ""))
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            obj = table(resource, [obj], metadata, self.clock(), include=include, version=form.version)
        elif form.shape is Shape.PARTIAL:
            obj = partial(obj, f"meta.k8s.io/{form.version}")
        self.plain(request, form, query, obj, status, warnings)

    def plain(
        self,
        request: Request,
        form: Form,
        query: Query,
        obj: Object,
        status: int = 200,
        warnings: Sequence[str] = (),
    ) -> None:
        """Any JSON, without a shape: a Status, discovery, a review."""
        headers = [warning(text) for text in dict.fromkeys(warnings)] if warnings else ()
        self._write(request, form, query, obj, status, headers)

    def _write(self, request: Request, form: Form, query: Query, obj: Object, status: int, headers: Headers) -> None:
        if form.media_type is YAML:
            request.respond(status, _yaml(obj), YAML, headers)
            return
        option = orjson.OPT_INDENT_2 if _is_pretty(request, form, query) else None
        request.respond(status, orjson.dumps(obj, option=option) + b"\n", JSON, headers)

    def page(self, request: Request, resource: Resource, form: Form, query: Query, page: Page) -> None:
        """A list."""
        if form.shape is Shape.PARTIAL:
            raise wrong_shape(form.shape, f"{go_type(resource)}List", is_list=True)
        if form.shape is Shape.OBJECT and form.media_type is JSON and not _is_pretty(request, form, query):
            request.respond(200, _joined(resource, page))
            return
        objects = [shown(resource, entry) for entry in page.entries]
        if form.shape is Shape.TABLE:
            include = check_include_object(query.get("includeObject", ""))
            answer = table(resource, objects, page.metadata, self.clock(), include=include, version=form.version)
        else:
            answer = _list_object(resource, form, page, objects)
        self.plain(request, form, query, answer)

    def error(self, request: Request, error: ApiError) -> None:
        """A refusal, in the form that the client accepts; in JSON for one that accepts nothing we speak."""
        form = self.negotiator.for_errors(request.header(b"accept"))
        query = Query.parse(request.query) if "pretty" in request.query else EMPTY_QUERY
        headers = [*error.headers, *map(warning, dict.fromkeys(request.warnings))]
        self._write(request, form, query, error.status(), error.code, headers)


def warning(text: str) -> tuple[str, str]:
    """The header that warns the user."""
    return "Warning", f"299 - {_quoted(text)}"


def shown(resource: Resource, entry: Entry) -> Object:
    """The stored object in the served version; shared."""
    return entry.object if resource.from_storage is None else resource.from_storage(entry.object)


def raw_of(resource: Resource, entry: Entry) -> bytes:
    """The bytes of the stored object in the served version."""
    return entry.raw if resource.from_storage is None else orjson.dumps(resource.from_storage(entry.object))


def go_type(resource: Resource) -> str:
    """The name of the internal Go type, which some messages show: `*core.ConfigMap`."""
    package = resource.group.split(".")[0] if resource.group else "core"
    return f"*{package}.{resource.kind}"


def _list_object(resource: Resource, form: Form, page: Page, objects: list[Object]) -> Object:
    if form.shape is Shape.PARTIAL_LIST:
        api_version = f"meta.k8s.io/{form.version}"
        items = [partial(obj, api_version) for obj in objects]
        return {"kind": form.shape.value, "apiVersion": api_version, "metadata": page.metadata, "items": items}
    metadata = _list_metadata(resource, page)
    items = objects if resource.custom else [_without_type(obj) for obj in objects]
    return {"kind": resource.listed_as, "apiVersion": resource.api_version, "metadata": metadata, "items": items}


def _list_metadata(resource: Resource, page: Page) -> Object:
    """Lists of custom resources always tell how to go on."""
    return {"continue": "", **page.metadata} if resource.custom else page.metadata


def _without_type(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}


def _joined(resource: Resource, page: Page) -> bytes | Pieces:
    """A list from the bytes of its items, which lose their kind and apiVersion as in Kubernetes.

    Lists have megabytes: formatting them costs twenty times as much, and whole they are copied too often.
    """
    metadata = _list_metadata(resource, page)
    head = orjson.dumps({"kind": resource.listed_as, "apiVersion": resource.api_version, "metadata": metadata})
    begin, end = head[:-1] + b',"items":[', b"]}\n"
    if not page.entries:
        return begin + end
    start = orjson.dumps({"kind": resource.kind, "apiVersion": resource.api_version})[:-1] + b","
    cut = 1 if resource.custom else len(start)
    raws = [raw_of(resource, entry) for entry in page.entries]
    items = [raw[cut:] if raw.startswith(start) else raw[1:] for raw in raws]
    items[0] = b"%b{%b" % (begin, items[0])
    items[-1] += end
    length = sum(map(len, items)) + len(_BETWEEN) * (len(items) - 1)
    return _BETWEEN.join(items) if length <= PIECE else Pieces(length, _pieces(items, length))


_BETWEEN = b",{"


def _pieces(items: Sequence[bytes], length: int) -> Iterator[bytes]:
    """The items joined, so many at a time as have the size of a piece in the mean."""
    some = max(1, PIECE * len(items) // length)
    for start in range(0, len(items), some):
        joined = _BETWEEN.join(items[start : start + some])
        yield joined if start == 0 else _BETWEEN + joined


def _yaml(obj: Object) -> bytes:
    """As sigs.k8s.io/yaml writes it: keys in order, no flow style."""
    dumper = cast("type[yaml.SafeDumper]", getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    return yaml.dump(obj, Dumper=dumper, encoding="utf-8", allow_unicode=True, width=1 << 20)


def _is_pretty(request: Request, form: Form, query: Query) -> bool:
    if form.pretty or (query and query.get("pretty")):
        return form.pretty or query["pretty"] in TRUE
    return request.headers.get(b"user-agent", b"").startswith(_PRETTY_AGENTS)


def _quoted(text: str) -> str:
    """A quoted string of an HTTP header."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(character if character.isprintable() else " " for character in escaped) + '"'

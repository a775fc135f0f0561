"""What a request is about: its path taken apart as Kubernetes does (`request.RequestInfo`), its query, who asks and
whether they may.

Authentication and authorization themselves live elsewhere; their shapes are here, because the server calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl

from podling.api import gotext
from podling.api.errors import ApiError, bad_request
from podling.api.gotext import quoted
from podling.api.http import Headers, Request
from podling.api.resources import User
from podling.api.selectors import FieldTerm, parse_field_selector
from podling.api.structs import DecodeError, read_time

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_KNOWN_PATHS, _KNOWN_PATH = 4096, 512
"""So many paths of at most so many characters are remembered: clients ask the same few things again and again."""
_SELECTING = frozenset({"list", "watch", "deletecollection"})


class RequestInfo(NamedTuple):
    """A path and method as the API understands them.

    Of a path outside the API (`/healthz`, `/apis/apps`) only `verb` (the method in lower case) and `path` are set.
    `verb` of a collection is `list`, `watch` or `deletecollection`.
    """

    verb: str
    path: str
    resource: str = ""
    subresource: str = ""
    group: str = ""
    version: str = ""
    namespace: str = ""
    name: str = ""
    rest: str = ""
    """What follows behind the subresource: the path of a proxy request."""
    watch_path: bool = False
    """Whether it is the path that asks for a watch (`/api/v1/watch/pods`), as it was done long ago."""


def parse_path(method: str, path: str, watch: bool = False) -> RequestInfo:
    """Takes a path apart; `watch` says whether the query asks for a watch."""
    return (_known_path if len(path) <= _KNOWN_PATH else _parse_path)(method, path, watch)


def _parse_path(method: str, path: str, watch: bool) -> RequestInfo:
    parts = path.split("/")[1:]
    if parts and parts[-1] == "":
        parts.pop()
    prefix = parts[0] if parts else ""
    if prefix == "api" and len(parts) >= 3:
        return _resource_info(method, path, "", parts[1], parts[2:], watch)
    if prefix == "apis" and len(parts) >= 4:
        return _resource_info(method, path, parts[1], parts[2], parts[3:], watch)
    return RequestInfo(method.lower(), path)


_known_path = lru_cache(_KNOWN_PATHS)(_parse_path)


def _resource_info(method: str, path: str, group: str, version: str, parts: list[str], watch: bool) -> RequestInfo:
    old_watch = parts[0] == "watch" and len(parts) > 1
    if old_watch:
        parts = parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    resource, name, subresource, rest = _padded(parts)
    verb = "watch" if old_watch else _verb(method, name, watch)
    return RequestInfo(verb, path, resource, subresource, group, version, namespace, name, rest, old_watch)


def _padded(parts: list[str]) -> tuple[str, str, str, str]:
    resource, name, subresource = (*parts[:3], "", "")[:3]
    return resource, name, subresource, "/".join(parts[3:])


def _verb(method: str, name: str, watch: bool) -> str:
    verb = _VERBS.get(method, "")
    if name:
        return verb
    if verb == "get":
        return "watch" if watch else "list"
    return "deletecollection" if verb == "delete" else verb


class Query(dict[str, str]):
    """The parameters of a request; of repeated ones the first, as Kubernetes reads them."""

    @staticmethod
    def parse(text: str) -> Query:
        query = Query()
        if text:
            for key, value in _pairs(text):
                query.setdefault(key, value)
        return query

    def flag(self, name: str) -> bool:
        """A boolean as Kubernetes converts it: absent, `0` and `false` (in any case) are false, all else is true."""
        value = self.get(name)
        return value is not None and value.lower() not in ("false", "0")

    def integer(self, name: str) -> int | None:
        """A whole number or `None`. Raises `ApiError` 400 in the words of Go's strconv."""
        value = self.get(name)
        if value is None:
            return None
        try:
            return gotext.parse_int(value)
        except ValueError as error:
            raise bad_request(str(error)) from None

    def time(self, name: str) -> datetime | None:
        """A time or `None`. Raises `ApiError` 400 in the words of Go's time.Parse."""
        value = self.get(name)
        if not value or value == "null":
            return None
        try:
            return read_time(value)
        except DecodeError as error:
            raise bad_request(str(error)) from None


EMPTY_QUERY = Query()


def repeated(text: str, name: str) -> list[str]:
    """All values of a parameter of a query, in their order."""
    return [value for key, value in _pairs(text) if key == name] if name in text else []


def _pairs(text: str) -> list[tuple[str, str]]:
    """The parameters of a query; Go leaves out those with a semicolon."""
    if ";" in text:
        text = "&".join(part for part in text.split("&") if ";" not in part)
    return parse_qsl(text, keep_blank_values=True)


class Attributes(NamedTuple):
    """What somebody wants to do: the subject of an authorization decision (`authorizer.Attributes`)."""

    verb: str
    path: str = ""
    """Set for what is no resource; the other fields are then empty."""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: tuple[FieldTerm, ...] = ()
    """What the objects of a list, watch or deletecollection are restricted to (KEP-4601)."""

    @staticmethod
    def of(info: RequestInfo, query: Mapping[str, str]) -> Attributes:
        if not info.resource:
            return Attributes(info.verb, path=info.path)
        fields = _selected(info, query)
        name = info.name or (_one_name(fields) if info.verb != "deletecollection" else "")
        place = (info.group, info.version, info.resource, info.subresource, info.namespace)
        return Attributes(info.verb, "", *place, name, fields)


def _selected(info: RequestInfo, query: Mapping[str, str]) -> tuple[FieldTerm, ...]:
    """One that cannot be read restricts nothing here; it is refused later."""
    text = query.get("fieldSelector")
    if not text or info.verb not in _SELECTING or info.watch_path:
        return ()
    try:
        return parse_field_selector(text)
    except ApiError:
        return ()


def _one_name(fields: tuple[FieldTerm, ...]) -> str:
    """Who lists the one object of a name asks for no more than who gets it."""
    name = next((term.value for term in fields if term.field == "metadata.name" and term.equal), "")
    return "" if name in (".", "..") or "/" in name or "%" in name else name


class Decision(NamedTuple):
    """Whether it is allowed, and why (shown to the user of a refused request, and in access reviews)."""

    allowed: bool
    reason: str = ""


Authenticate = Callable[[Request], User]
"""Says who sent a request, impersonation included. Raises `ApiError` (401, or 403 for impersonation)."""

Authorize = Callable[[User, Attributes], Decision]

Classify = Callable[[User, Attributes], Headers]
"""Gives the headers that tell to which flow a request belongs."""


def unclassified(_user: User, _attributes: Attributes) -> Headers:
    return ()


def _allowed() -> None:
    return None


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through the registry: who, how, and what is to be told back."""

    user: User
    dry_run: bool = False
    field_manager: str = ""
    force: bool = False
    """Server-side apply takes over fields of others."""
    field_validation: str = "Warn"
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    warnings: list[str] = field(default_factory=list[str])
    check_create: Callable[[], None] = _allowed
    """Raises 403 for whoever may change an object but not make one: asked when an update finds nothing to change."""


def forbidden_request(user: User, attributes: Attributes, reason: str) -> ApiError:
    """The 403 of a request that authorization refused."""
    why = _without_markup(f"User {quoted(user.name)} cannot {_wish(attributes)}") + (f": {reason}" if reason else "")
    if attributes.path:
        return ApiError(403, "Forbidden", f"forbidden: {why}", {}, headers=_NO_GUESSING)
    subject = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    if attributes.name:
        subject += f" {quoted(attributes.name)}"
    details = {"name": attributes.name, "group": attributes.group, "kind": attributes.resource}
    shown = {k: v for k, v in details.items() if v}
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", shown, headers=_NO_GUESSING)


_NO_GUESSING = (("X-Content-Type-Options", "nosniff"),)
"""Browsers shall take the answer for what it says it is."""


def _wish(attributes: Attributes) -> str:
    if attributes.path:
        return f"{attributes.verb} path {quoted(attributes.path)}"
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    wish = f"{attributes.verb} resource {quoted(resource)} in API group {quoted(attributes.group)}"
    if attributes.namespace:
        return f"{wish} in the namespace {quoted(attributes.namespace)}"
    return f"{wish} at the cluster scope"


def _without_markup(text: str) -> str:
    """What a client wrote is shown, but never so that a browser would take it for a page."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

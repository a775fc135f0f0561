"""Lists: which revision, which page, and how the pages of one list stay consistent.

A `continue` token names the revision of the first page; later pages are answered from the history at that
revision, so that what changes meanwhile neither comes twice nor is left out. When the history no longer reaches so
far the answer is 410 with a token that continues at the present instead (Kubernetes' "inconsistent continue").
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import orjson

from podling.api import gojson
from podling.api.errors import (
    ApiError,
    FieldError,
    bad_request,
    expired,
    forbidden_field,
    invalid,
    not_supported,
)
from podling.api.gotext import parse_uint
from podling.api.registry import Registry
from podling.api.requests import Query
from podling.api.resources import Resource
from podling.api.selectors import EVERYTHING, FieldTerm, Selection, select
from podling.api.structs import unmarshal_error
from podling.store.types import Compacted, Entry, Object

_TOKEN_VERSION = "meta.k8s.io/v1"
_NOT_OLDER = "NotOlderThan"
_EXACT = "Exact"
_INCONSISTENT = -1
"""The revision in a token that continues at the present."""

_TOO_OLD_TOKEN = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """`metav1.ListOptions`, checked."""

    selection: Selection = EVERYTHING
    limit: int = 0
    token: str = ""
    version: str = ""
    match: str = ""
    timeout: int | None = None
    bookmarks: bool = False
    send_initial: bool | None = None


DEFAULT = ListOptions()


def list_options(resource: Resource, query: Query, *, watch: bool = False) -> ListOptions:
    """Reads and checks the options. Raises 400 for bad values and 422 for bad combinations."""
    if not query:
        return DEFAULT
    options = ListOptions(
        timeout=query.integer("timeoutSeconds"),
        limit=query.integer("limit") or 0,
        selection=select(resource, query.get("labelSelector", ""), query.get("fieldSelector", "")),
        token=query.get("continue", ""),
        version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
        bookmarks=query.flag("allowWatchBookmarks"),
        send_initial=query.flag("sendInitialEvents") if "sendInitialEvents" in query else None,
    )
    errors = _watch_errors(options) if watch else _list_errors(options)
    if errors:
        raise invalid("ListOptions", "meta.k8s.io", "", errors)
    return options


def only_named(options: ListOptions, name: str) -> ListOptions:
    """Restricts the options to one object. Raises 400 where they want another one."""
    selection = options.selection
    if not selection.fields:
        terms = (FieldTerm("metadata.name", name, equal=True),)
        return replace(options, selection=replace(selection, fields=terms))
    if selection.wanted("metadata.name") != name:
        raise bad_request("fieldSelector metadata.name doesn't match requested name")
    return options


def _list_errors(options: ListOptions) -> list[FieldError]:
    errors = _match_errors(options) if options.match else []
    if options.send_initial is not None:
        errors.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return errors


def _match_errors(options: ListOptions) -> list[FieldError]:
    errors: list[FieldError] = []
    where = "resourceVersionMatch"
    if not options.version:
        errors.append(forbidden_field(where, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
    if options.token:
        errors.append(forbidden_field(where, "resourceVersionMatch is forbidden when continue is provided"))
    if options.match not in (_EXACT, _NOT_OLDER):
        errors.append(not_supported(where, options.match, [_EXACT, _NOT_OLDER, ""]))
    if options.match == _EXACT and options.version == "0":
        errors.append(forbidden_field(where, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    return errors


def _watch_errors(options: ListOptions) -> list[FieldError]:
    errors: list[FieldError] = []
    where = "resourceVersionMatch"
    if options.send_initial is not None and options.match != _NOT_OLDER:
        errors.append(forbidden_field(where, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if options.match:
        if options.send_initial is None:
            detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(forbidden_field(where, detail))
        if options.match != _NOT_OLDER:
            errors.append(not_supported(where, options.match, [_NOT_OLDER]))
        if options.token:
            errors.append(forbidden_field(where, "resourceVersionMatch is forbidden when continue is provided"))
    return errors


@dataclass(frozen=True, slots=True)
class Page:
    """The entries of an answer, and the list's `metadata`."""

    entries: Sequence[Entry]
    metadata: Object = field(default_factory=dict[str, Any])


def page(registry: Registry, resource: Resource, namespace: str | None, options: ListOptions) -> Page:
    """The list that the options ask for. Raises 400, 410 or 504."""
    if options.token:
        return _continued(registry, resource, namespace, options)
    revision = _parse_revision(options.version)
    if (revision or 0) > registry.store.revision:
        raise too_large(revision or 0, registry.store.revision, passing=options.match != _EXACT)
    if revision and (options.match == _EXACT or (options.limit > 0 and options.match != _NOT_OLDER)):
        return _at(registry, resource, namespace, options, revision)
    limit = 0 if revision == 0 and options.match != _NOT_OLDER else options.limit
    if limit <= 0:
        entries = registry.select(resource, namespace, options.selection)
        return Page(entries, {"resourceVersion": str(registry.store.revision)})
    entries = registry.store.list(resource.storage_key, namespace)
    return _cut(entries, 0, namespace, limit, options.selection, registry.store.revision)


async def converted_page(registry: Registry, resource: Resource, namespace: str | None, options: ListOptions) -> Page:
    """The same for a kind whose versions somebody has to be asked for. Labels and selectable fields are those of the
    served version, so where they decide all has to be converted; else only what is on the page."""
    selection = options.selection
    if resource.conversion is None:
        return page(registry, resource, namespace, options)
    if selection.empty:
        found = page(registry, resource, namespace, options)
        return Page(await registry.converted(resource, found.entries), found.metadata)
    limited = options.limit > 0 and not (options.version == "0" and options.match != _NOT_OLDER)
    match = _EXACT if limited and options.version and not options.match else options.match
    rest = page(registry, resource, namespace, replace(options, selection=EVERYTHING, limit=0, match=match))
    entries = [entry for entry in rest.entries if selection.matches_key(entry.key)]
    converted = await registry.converted(resource, entries)
    revision = int(rest.metadata["resourceVersion"])
    return _cut(converted, 0, namespace, options.limit if limited else 0, selection, revision)


def _at(registry: Registry, resource: Resource, namespace: str | None, options: ListOptions, revision: int) -> Page:
    try:
        entries = registry.store.list_at(resource.storage_key, namespace, revision)
    except Compacted:
        raise expired("The resourceVersion for the provided list is too old.") from None
    return _cut(entries, 0, namespace, options.limit, options.selection, revision)


class _Token(NamedTuple):
    revision: int
    start: str


def _continued(registry: Registry, resource: Resource, namespace: str | None, options: ListOptions) -> Page:
    token = _decode(options.token)
    if options.version not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    revision = token.revision
    try:
        if revision < 0:
            revision = registry.store.revision
            entries = registry.store.list(resource.storage_key, namespace)
        else:
            entries = registry.store.list_at(resource.storage_key, namespace, revision)
    except Compacted:
        raise _token_too_old(token) from None
    at = bisect_left(entries, token.start, key=lambda entry: _position(entry, namespace))
    return _cut(entries, at, namespace, options.limit, options.selection, revision)


def _cut(
    entries: Sequence[Entry], start: int, namespace: str | None, limit: int, selection: Selection, revision: int
) -> Page:
    metadata: Object = {"resourceVersion": str(revision)}
    if limit <= 0:
        return Page([e for e in entries[start:] if selection.matches(e)], metadata)
    found: list[Entry] = []
    end = start
    while end < len(entries) and len(found) < limit:
        if selection.matches(entries[end]):
            found.append(entries[end])
        end += 1
    if end < len(entries):
        metadata["continue"] = _encode(_Token(revision, _position(entries[end - 1], namespace) + "\0"))
        if selection.empty:
            metadata["remainingItemCount"] = len(entries) - end
    return Page(found, metadata)


def _position(entry: Entry, namespace: str | None) -> str:
    """Where an entry stands in the list, as Kubernetes' storage keys do."""
    if namespace is not None or not entry.key.namespace:
        return f"/{entry.key.name}"
    return f"/{entry.key.namespace}/{entry.key.name}"


def _encode(token: _Token) -> str:
    raw = orjson.dumps({"v": _TOKEN_VERSION, "rv": token.revision, "start": token.start})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> _Token:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _bad_token(f"illegal base64 data at input byte {_bad_base64_byte(text)}") from None
    fields = _token_fields(raw)
    if fields["v"] != _TOKEN_VERSION:
        raise _bad_token(f"server does not recognize this encoded version {fields['v']}")
    if not fields["rv"]:
        raise _bad_token(f"incorrect encoded start resourceVersion (version {_TOKEN_VERSION})")
    start = fields["start"]
    if not start:
        raise _bad_token(f"encoded start key empty (version {_TOKEN_VERSION})")
    key = start if start.startswith("/") else f"/{start}"
    if "//" in key or not {".", ".."}.isdisjoint(key.split("/")) or (key != "/" and key.endswith("/")):
        raise _bad_token(start)
    return _Token(fields["rv"], key)


_TOKEN_FIELDS: Mapping[str, tuple[type, str]] = {"v": (str, "string"), "rv": (int, "int64"), "start": (str, "string")}


def _token_fields(raw: bytes) -> Object:
    """What Go would make of a token's JSON."""
    try:
        data = gojson.loads(raw)
    except gojson.JsonError as error:
        raise _bad_token(str(error)) from None
    if data is not None and not isinstance(data, dict):
        raise _bad_token(unmarshal_error(data, "storage.continueToken"))
    given = cast(Object, data or {})
    found: Object = {}
    for name, (kind, go_type) in _TOKEN_FIELDS.items():
        value = given.get(name)
        if value is not None and type(value) is not kind:
            raise _bad_token(unmarshal_error(value, go_type, f"continueToken.{name}"))
        found[name] = kind() if value is None else value
    return found


def _bad_token(problem: str) -> ApiError:
    return bad_request(f"invalid continue token: continue key is not valid: {problem}")


def _bad_base64_byte(text: str) -> int:
    """Where Go's decoder stops: at the first foreign character, else at the start of the last, unfinished group."""
    for at, character in enumerate(text):
        if not (character.isascii() and (character.isalnum() or character in "-_")):
            return at
    return len(text) // 4 * 4


def _token_too_old(token: _Token) -> ApiError:
    return ContinueExpired(_encode(_Token(_INCONSISTENT, token.start)))


class ContinueExpired(ApiError):
    """410 with a token that continues, inconsistently, at the present."""

    def __init__(self, token: str) -> None:
        super().__init__(410, "Expired", _TOO_OLD_TOKEN)
        self.token = token

    def status(self) -> Object:
        return {**super().status(), "metadata": {"continue": self.token}}


def _parse_revision(version: str) -> int | None:
    if not version:
        return None
    try:
        return parse_version(version)
    except ApiError as error:
        raise bad_request(f"invalid resource version: {error.message}") from None


def parse_version(version: str) -> int:
    """A resourceVersion parameter of a get or watch as a number; `0` for none. A bad one is a plain 500 there."""
    if not version:
        return 0
    try:
        return parse_uint(version)
    except ValueError as error:
        raise ApiError(500, "", f'resourceVersion: Invalid value: "{version}": {error}') from None


def check_present(wanted: int, present: int) -> None:
    """Raises 504 for a resourceVersion that was not yet given out."""
    if wanted > present:
        raise too_large(wanted, present)


def too_large(wanted: int, present: int, *, passing: bool = True) -> ApiError:
    """The 504 for a resourceVersion that was not yet given out; a `passing` one says when to come again."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {wanted}, current: {present}"
    if not passing:
        return ApiError(504, "Timeout", message, {"causes": [cause]})
    details = {"causes": [cause], "retryAfterSeconds": 1}
    return ApiError(504, "Timeout", message, details, headers=(("Retry-After", "1"),))

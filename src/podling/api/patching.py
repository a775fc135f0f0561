"""PATCH: what a content type and a body mean as a change of an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from podling.api import gojson, patch
from podling.api.decode import media_type
from podling.api.errors import ApiError, bad_request, unsupported_media_type
from podling.api.resources import Resource
from podling.api.schema import Node
from podling.api.structs import unmarshal_error
from podling.store.types import Object

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def check_patch_type(resource: Resource, content_type: str) -> str:
    """The patch type of a request. Raises 415."""
    kind = media_type(content_type)
    if kind not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH):
        raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if kind == STRATEGIC_MERGE_PATCH and resource.custom:
        raise unsupported_media_type([JSON_PATCH, MERGE_PATCH, APPLY_PATCH])
    return kind


@dataclass(frozen=True, slots=True)
class Patch:
    """The patch in a body, ready to be carried out."""

    change: Callable[[Object], Object]
    strategic: Object | None = None
    """The document itself, if it is a strategic merge patch: its errors show it."""

    def __call__(self, obj: Object) -> Object:
        return self.change(obj)


def patched(kind: str, body: bytes, node: Node) -> Patch:
    """The patch in `body`. Raises 400 for a body that is no patch of that kind."""
    document = _parse(body)
    if kind == JSON_PATCH:
        operations = _operations(document)
        return Patch(lambda obj: _changed(obj, operations))
    if document is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(document, dict):
        raise _wrong_type(document, "map[string]interface {}")
    change = cast(Object, document)
    if kind == MERGE_PATCH:
        return Patch(lambda obj: cast(Object, patch.merge_patch(obj, change)))
    return Patch(lambda obj: patch.strategic_merge_patch(obj, change, node), change)


def _changed(obj: Object, operations: list[Object]) -> Object:
    """Operations can nest what they add or copy into each other, deeper than any body may be."""
    outcome = patch.json_patch(obj, operations)
    if gojson.too_deep(outcome):
        raise bad_request(f"error decoding patch: {gojson.TOO_DEEP}")
    return outcome


def _parse(body: bytes) -> Any:
    try:
        return gojson.loads(body)
    except gojson.JsonError as error:
        raise bad_request(f"error decoding patch: {error}") from None


def _operations(document: Any) -> list[Object]:
    if not isinstance(document, list):
        raise _wrong_type(document, "[]handlers.jsonPatchOp")
    return [_operation(item) for item in cast("list[Any]", document)]


def _operation(item: Any) -> Object:
    """One operation; `null` is an empty one to Go, and refused when it is to be carried out."""
    if item is not None and not isinstance(item, dict):
        raise _wrong_type(item, "handlers.jsonPatchOp")
    operation = cast(Object, item or {})
    for field in ("op", "path", "from"):
        if not isinstance(operation.get(field, ""), str):
            problem = unmarshal_error(operation[field], "string", f"jsonPatchOp.{field}")
            raise bad_request(f"error decoding patch: {problem}")
    return operation


def _wrong_type(document: Any, go_type: str) -> ApiError:
    return bad_request(f"error decoding patch: {unmarshal_error(document, go_type)}")

"""PATCH: what a content type and a body mean as a change of an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from podling.api import gojson, patch
from podling.api.decode import media_type
from podling.api.errors import ApiError, bad_request, unsupported_media_type
from podling.api.resources import Resource
from podling.api.schema import Node
from podling.api.structs import DecodeError, shape, unmarshal_error
from podling.store.types import Object

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_MOST_OPERATIONS = 10_000
"""Operations of one JSON patch (`maxJSONPatchOperations`)."""


def check_patch_type(resource: Resource, content_type: str) -> str:
    """The patch type of a request. Raises 415."""
    kind = media_type(content_type)
    if kind not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH):
        raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if kind == STRATEGIC_MERGE_PATCH and resource.custom:
        raise unsupported_media_type([JSON_PATCH, MERGE_PATCH, APPLY_PATCH])
    return kind


def patched(kind: str, body: bytes, node: Node) -> Callable[[Object], Object]:
    """A function that applies the patch in `body`. Raises 400 for a body that is no patch of that kind."""
    document = _parse(body)
    if kind == JSON_PATCH:
        operations = _operations(document)
        return lambda obj: patch.json_patch(obj, operations)
    if document is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(document, dict):
        raise _wrong_type(document, "map[string]interface {}")
    change = cast(Object, document)
    if kind == MERGE_PATCH:
        return lambda obj: cast(Object, patch.merge_patch(obj, change))
    return lambda obj: patch.strategic_merge_patch(obj, change, node)


def conformed(old: Object, new: Object, resource: Resource, node: Node, validation: str) -> tuple[Object, list[str]]:
    """The outcome of a patch as the API writes it, sharing nothing with the stored object, and the warnings.

    `validation` is `fieldValidation`. Raises 422 for what is no object of the kind (any more).
    """
    new = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}, **new}
    if new["kind"] != resource.kind or new["apiVersion"] != resource.api_version:
        raise patch.refused(patch.patched_json(old, new), _foreign(resource, new))
    try:
        obj, unknown = shape(new, node)
    except DecodeError as error:
        raise patch.refused(patch.patched_json(old, new), str(error)) from None
    if not unknown or validation == "Ignore":
        return obj, []
    if validation == "Strict":
        why = "strict decoding error: " + ", ".join(unknown)
        raise patch.refused(patch.patched_json(old, new), why)
    return obj, unknown


def _foreign(resource: Resource, new: Object) -> str:
    kind, version = new.get("kind"), new.get("apiVersion")
    if version == resource.api_version:
        return f"{version}, Kind={kind} does not match the expected kind {resource.kind}"
    return f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/api/legacyscheme/scheme.go:30"'


def _parse(body: bytes) -> Any:
    try:
        return gojson.loads(body)
    except gojson.JsonError as error:
        raise bad_request(f"error decoding patch: {error}") from None


def _operations(document: Any) -> list[Object]:
    if not isinstance(document, list):
        raise _wrong_type(document, "[]handlers.jsonPatchOp")
    operations = cast("list[Object]", document)
    if len(operations) > _MOST_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", message)
    return operations


def _wrong_type(document: Any, go_type: str) -> ApiError:
    return bad_request(f"error decoding patch: {unmarshal_error(document, go_type)}")

"""PATCH: what a content type and a body mean as a change of an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from podling.api import gojson, patch
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
    """The patch type of a request, which (unlike other media types) is written in lower case. Raises 415."""
    kind = content_type.partition(";")[0].strip()
    if kind not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH):
        raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if kind == STRATEGIC_MERGE_PATCH and resource.custom:
        raise unsupported_media_type([JSON_PATCH, MERGE_PATCH, APPLY_PATCH])
    return kind


@dataclass(frozen=True, slots=True)
class Patch:
    """The patch in a body, ready to be carried out."""

    change: Callable[[Object], Any]
    strategic: Object | None = None
    """The document itself, if it is a strategic merge patch: its errors show it."""
    problems: Sequence[str] = ()
    """What strict reading has to say of the document."""

    def __call__(self, obj: Object) -> Any:
        """What the patch makes of an object: mostly another object. Raises ApiError."""
        return self.change(obj)


def patched(kind: str, body: bytes, node: Node, field_validation: str = "Warn") -> Patch:
    """The patch in `body`. Raises 400 for a body that is no patch of that kind.

    Where fields are not validated, the libraries that carry patches out are the first to read them, and say so.
    """
    strict = field_validation != "Ignore"
    document, problems = _parse(kind, body, strict=strict)
    if kind == JSON_PATCH:
        operations = _operations(document) if strict else _raw_operations(document)
        if strict:
            problems = [f"json patch {problem}" for problem in (*problems, *_unknown_fields(operations))]
        return Patch(lambda obj: _changed(obj, operations), problems=problems)
    if kind == MERGE_PATCH:
        if document is None or not (isinstance(document, dict | list) or strict):
            raise bad_request(_NO_PATCH)
        if strict and not isinstance(document, dict):
            raise bad_request(f"error decoding patch: {unmarshal_error(document, _MAP)}")
        return Patch(lambda obj: patch.merge_patch(obj, document), problems=problems)
    if document is not None and not isinstance(document, dict):
        raise bad_request(unmarshal_error(document, _MAP))
    change = cast(Object, document or {})
    return Patch(lambda obj: patch.strategic_merge_patch(obj, change, node), change, problems)


_MAP: Final = "map[string]interface {}"
_NO_PATCH: Final = "Invalid JSON Patch"


def _changed(obj: Object, operations: list[Object]) -> Any:
    """Operations can nest what they add or copy into each other, deeper than any body may be."""
    outcome = patch.json_patch(obj, operations)
    if gojson.too_deep(outcome):
        raise bad_request(f"error decoding patch: {gojson.TOO_DEEP}")
    return outcome


def _parse(kind: str, body: bytes, *, strict: bool) -> tuple[Any, list[str]]:
    try:
        if not strict:
            return gojson.loads(body), []
        document = gojson.loads_strict(body)
        problems = gojson.repeated_fields(document)
        return (gojson.loads(body) if problems else document), problems
    except gojson.JsonError as error:
        if kind == MERGE_PATCH and not strict:
            raise bad_request(_NO_PATCH) from None
        prefix = "error decoding patch: " if strict and kind != STRATEGIC_MERGE_PATCH else ""
        raise bad_request(f"{prefix}{error}") from None


_FIELDS: Final = ("op", "path", "from", "value")


def _operations(document: Any) -> list[Object]:
    if not isinstance(document, list | None):
        raise _wrong_type(document, "[]handlers.jsonPatchOp")
    return [_operation(item) for item in cast("list[Any]", document or [])]


def _operation(item: Any) -> Object:
    """One operation; `null` is an empty one to Go, and refused when it is to be carried out."""
    if item is not None and not isinstance(item, dict):
        raise _wrong_type(item, "handlers.jsonPatchOp")
    operation = cast(Object, item or {})
    for field in ("op", "path", "from"):
        if not isinstance(operation.get(field), str | None):
            problem = unmarshal_error(operation[field], "string", f"jsonPatchOp.{field}")
            raise bad_request(f"error decoding patch: {problem}")
    return operation


def _unknown_fields(operations: list[Object]) -> list[str]:
    return [
        f'unknown field "[{index}].{name}"'
        for index, operation in enumerate(operations)
        for name in operation
        if name not in _FIELDS
    ]


def _raw_operations(document: Any) -> list[Object]:
    """The operations that nobody has looked at; what is wrong with one shows when it is carried out."""
    if not isinstance(document, list | None):
        raise bad_request(unmarshal_error(document, "jsonpatch.Patch"))
    operations = cast("list[Any]", document or [])
    for operation in operations:
        if not isinstance(operation, dict | None):
            raise bad_request(unmarshal_error(operation, "jsonpatch.Operation"))
    return [cast(Object, operation or {}) for operation in operations]


def _wrong_type(document: Any, go_type: str) -> ApiError:
    return bad_request(f"error decoding patch: {unmarshal_error(document, go_type)}")

"""Conversion webhooks: custom resources of one version become those of another by asking a server of the user's.

Many objects go in one review. What comes back may differ in labels, annotations and all that is not metadata; the rest
of the metadata stays what it was (`apiextensions-apiserver/pkg/apiserver/conversion`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from podling.api.errors import ApiError
from podling.api.resources import Reader
from podling.api.schema import Node
from podling.api.structs import DecodeError, shape
from podling.extensions.caller import CallError, call
from podling.extensions.defaulting import Fill, filled
from podling.kinds.validation import fields
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

_PATIENCE: Final = 30
"""Seconds for one review; there is no field to ask for another time."""
_LARGEST_REVIEW: Final = 2 << 20
"""Bytes of objects in one review: an answer of about that size must not be too large to be read."""
_OWN_PARTS: Final = ("labels", "annotations")
_GROUP: Final = "apiextensions.k8s.io"
_GO_TYPES: Final = {str: "string", int: "int64", float: "float64", bool: "bool", list: "[]interface {}"}


@dataclass(frozen=True, slots=True)
class Form:
    """What objects of a version look like: their fields, and what is filled in."""

    node: Node
    fill: Fill | None


class ConversionWebhook:
    """The webhook of one definition (`spec.conversion.webhook`)."""

    def __init__(self, spec: Object, reader: Reader) -> None:
        self._config = part(spec, "clientConfig")
        self._version = next(v for v in entries(spec, "conversionReviewVersions") if v in ("v1", "v1beta1"))
        self._reader = reader

    async def convert(self, objects: Sequence[Object], wanted: str) -> list[Object]:
        """The objects in the wanted apiVersion, in their order. Raises ApiError (500) in Kubernetes' words."""
        result = list(objects)
        places = [at for at, obj in enumerate(objects) if obj["apiVersion"] != wanted]
        for lot in _lots(objects, places):
            answers = await self._review([objects[at] for at in lot], wanted)
            for at, converted in zip(lot, answers, strict=True):
                result[at] = converted
        return result

    async def _review(self, objects: Sequence[Object], wanted: str) -> list[Object]:
        try:
            answer = await self._ask(objects, wanted)
        except CallError as error:
            raise _failure(objects[0], f"failed: {error}") from None
        if len(answer) != len(objects):
            raise _failure(objects[0], f"returned {len(answer)} objects, expected {len(objects)}")
        return [_checked(before, after, wanted) for before, after in zip(objects, answer, strict=True)]

    async def _ask(self, objects: Sequence[Object], wanted: str) -> list[Any]:
        uid = str(uuid.uuid4())
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"{_GROUP}/{self._version}",
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
        }
        answer = await call(self._config, self._reader, review, timeout=_PATIENCE)
        return _converted(answer, uid, self._version)


def _lots(objects: Sequence[Object], places: Sequence[int]) -> Iterator[list[int]]:
    lot: list[int] = []
    size = 0
    for at in places:
        length = len(orjson.dumps(objects[at]))
        if lot and size + length > _LARGEST_REVIEW:
            yield lot
            lot, size = [], 0
        lot.append(at)
        size += length
    if lot:
        yield lot


def _converted(answer: Object, uid: str, version: str) -> list[Any]:
    """The objects of an answer. Raises CallError where it is none, or not one to our question."""
    kind = _kind(answer)
    if version == "v1" and kind != f"{_GROUP}/v1, Kind=ConversionReview":
        raise CallError(f"expected webhook response of {_GROUP}/v1, Kind=ConversionReview, got {kind}")
    if not isinstance(answer.get("response"), dict):
        raise CallError("no response provided")
    response = part(answer, "response")
    if version == "v1" and response.get("uid") != uid:
        raise CallError(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    outcome = part(response, "result")
    status = text(outcome, "status")
    if status != "Success":
        raise CallError(text(outcome, "message") or f"response.result.status was '{status}', not 'Success'")
    return entries(response, "convertedObjects")


def _kind(obj: Object) -> str:
    return f"{obj.get('apiVersion') or ''}, Kind={obj.get('kind') or ''}"


def _failure(obj: Object, problem: str) -> ApiError:
    return ApiError(500, "", f"conversion webhook for {_kind(obj)} {problem}")


def _checked(before: Object, after: Any, wanted: str) -> Object:
    """What came back, with the metadata that it may not change restored. Raises ApiError."""
    if not isinstance(after, dict):
        raise _failure(before, f"returned invalid object at index 0: expected an object, got {_go_type(after)}")
    obj = cast(Object, after)
    if obj.get("apiVersion") != wanted:
        expected = f"expected {wanted}, received {obj.get('apiVersion') or ''}"
        raise _failure(before, f"returned invalid object at index 0: invalid groupVersion ({expected})")
    if obj.get("kind") != before["kind"]:
        expected = f"expected {before['kind']}, received {obj.get('kind') or ''}"
        raise _failure(before, f"returned invalid object at index 0: invalid kind ({expected})")
    metadata = obj.get("metadata")
    for key, word in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        old = before["metadata"].get(key) or ""
        new = cast(Object, metadata).get(key) or "" if isinstance(metadata, dict) else ""
        if old != new:
            raise _failure(before, f"returned invalid object: must have the same {word}: {old} != {new}")
    problem, restored = _restored(before["metadata"], obj)
    if problem:
        raise _failure(before, f"returned invalid metadata: {problem}")
    return {**obj, "metadata": restored}


def _restored(original: Object, obj: Object) -> tuple[str, Object]:
    """A problem, or the original's metadata with the labels and annotations of what came back."""
    if "metadata" not in obj:
        return "missing metadata in converted object", {}
    given = cast(Object, obj["metadata"])
    result = {key: value for key, value in original.items() if key not in _OWN_PARTS}
    for name in _OWN_PARTS:
        values: Any = given.get(name)
        if values is None:
            continue
        if not isinstance(values, dict):
            return f"invalid metadata.{name} of type {_go_type(values)} in converted object", {}
        pairs = cast("dict[str, Any]", values)
        wrong = next((key for key, value in pairs.items() if not isinstance(value, str)), None)
        if wrong is not None:
            kind = _go_type(pairs[wrong])
            return f"metadata.{name}[{wrong}] must be a string, but is {kind} in converted object", {}
        if pairs != original.get(name):
            check = fields.labels if name == "labels" else fields.annotation_map
            errors = check(f"metadata.{name}", pairs)
            if errors:
                shown = ", ".join(map(str, errors))
                return shown if len(errors) == 1 else f"[{shown}]", {}
        result[name] = pairs
    return "", result


def _go_type(value: Any) -> str:
    return _GO_TYPES.get(cast("type[Any]", type(value)), "<nil>" if value is None else "map[string]interface {}")


class WebhookConversion:
    """`podling.api.resources.Conversion` between a served version and the stored one."""

    def __init__(self, hook: ConversionWebhook, forms: Mapping[str, Form], *, served: str, stored: str) -> None:
        self._hook = hook
        self._forms = forms
        self._served_as = served
        self._stored_as = stored

    async def to_served(self, objects: Sequence[Object]) -> list[Object]:
        """Stored objects get the defaults of the version that they are stored in, and then of that asked for."""
        present = [self._with_defaults(obj) for obj in objects]
        return [self._written(obj) for obj in await self._hook.convert(present, self._served_as)]

    async def to_stored(self, obj: Object) -> Object:
        (converted,) = await self._hook.convert([obj], self._stored_as)
        return obj if converted is obj else self._pruned(converted)

    def _with_defaults(self, obj: Object) -> Object:
        form = self._forms.get(obj["apiVersion"])
        return filled(obj, form.fill) if form is not None else obj

    def _written(self, obj: Object) -> Object:
        return {"kind": obj["kind"], **filled(self._pruned(obj), self._forms[self._served_as].fill)}

    def _pruned(self, obj: Object) -> Object:
        try:
            return shape(obj, self._forms[obj["apiVersion"]].node)[0]
        except DecodeError as error:
            raise _failure(obj, f"returned invalid object: {error}") from None

"""Admission webhooks: servers that change or refuse what is written (`pkg/admission/plugin/webhook`)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Awaitable, Iterator
from typing import Any, Final, NamedTuple, cast

import orjson

from podling.api import patch
from podling.api.errors import ApiError, bad_request, forbidden, internal
from podling.api.resources import Write
from podling.api.served import Served
from podling.extensions import expressions
from podling.extensions.caller import CallError, NoClient, call
from podling.extensions.expressions import Views
from podling.extensions.matching import Match, is_exempt, matching
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

MUTATING: Final = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING: Final = "validatingwebhookconfigurations.admissionregistration.k8s.io"
_DEFAULT_TIMEOUT: Final = 10
_SAFE: Final = ("None", "NoneOnDryRun")
_GROUP: Final = "admission.k8s.io"


class _Hook(NamedTuple):
    """A webhook that a write is for."""

    spec: Object
    match: Match
    key: str


class Webhooks:
    """The two admission steps that call webhooks."""

    def __init__(self, served: Served, views: Views) -> None:
        self._served = served
        self._views = views
        self._mutating: dict[str, Object] = {}
        self._validating: dict[str, Object] = {}

    def mutating_changed(self, name: str, obj: Object | None) -> None:
        _set(self._mutating, name, obj)

    def validating_changed(self, name: str, obj: Object | None) -> None:
        _set(self._validating, name, obj)

    def mutate(self, write: Write) -> Awaitable[None] | None:
        return self._mutate(write) if self._mutating and not is_exempt(write) else None

    def validate(self, write: Write) -> Awaitable[None] | None:
        return self._validate(write) if self._validating and not is_exempt(write) else None

    async def _mutate(self, write: Write) -> None:
        """In the order of names; a webhook that wants to sees the object again when a later one has changed it."""
        rounds = write.reinvocation.begin(MUTATING, write.new)
        for hook in self._hooks(self._mutating, write):
            if not await self._conditions_hold(hook, write) or write.reinvocation.skips(rounds, hook.key):
                continue
            operations = await self._call(hook, write, mutating=True)
            new = write.new if operations is None else await self._patched(hook, write, operations)
            changed, write.new = new != write.new, new
            repeats = text(hook.spec, "reinvocationPolicy") == "IfNeeded"
            write.reinvocation.asked(rounds, hook.key, changed=changed, repeats=repeats)
        rounds.output = write.new

    async def _validate(self, write: Write) -> None:
        """All at once: none can see what another does. Of several refusals the first by name is told."""
        hooks = [hook for hook in self._hooks(self._validating, write) if await self._conditions_hold(hook, write)]
        found = await asyncio.gather(*(self._call(hook, write) for hook in hooks), return_exceptions=True)
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome

    def _hooks(self, configurations: dict[str, Object], write: Write) -> Iterator[_Hook]:
        for name, configuration in sorted(configurations.items()):
            for spec in entries(configuration, "webhooks"):
                match = matching(spec, "rules", write, self._served)
                if match is not None:
                    yield _Hook(spec, match, f"{name}/{spec['name']}")

    async def _call(self, hook: _Hook, write: Write, *, mutating: bool = False) -> list[Object] | None:
        """Asks one webhook; gives its patch. Raises ApiError where it refuses, or fails and must not."""
        try:
            if write.dry_run and text(hook.spec, "sideEffects") not in _SAFE:
                raise bad_request(f'admission webhook "{hook.spec["name"]}" does not support dry run')
            return await self._ask(hook, write, mutating=mutating)
        except CallError as error:
            if text(hook.spec, "failurePolicy") == "Ignore":
                return None
            why = str(error) if isinstance(error, _Unusable | NoClient) else f"failed to call webhook: {error}"
            message = f'failed calling webhook "{hook.spec["name"]}": {why}'
            raise internal(message) from None

    async def _ask(self, hook: _Hook, write: Write, *, mutating: bool) -> list[Object] | None:
        uid = str(uuid.uuid4())
        timeout = hook.spec.get("timeoutSeconds") or _DEFAULT_TIMEOUT
        review = _review(hook, write, uid, await self._views.objects(write, hook.match))
        answer = await call(part(hook.spec, "clientConfig"), write.reader, review, timeout=timeout)
        try:
            response = _verified(hook, answer, uid, mutating=mutating)
        except CallError as error:
            raise _Unusable(f"received invalid webhook response: {error}") from None
        return _read(hook, write, response, mutating=mutating)

    async def _patched(self, hook: _Hook, write: Write, operations: list[Object]) -> Object:
        shown, _ = await self._views.objects(write, hook.match)
        if shown is None:
            what = "attempted to modify the object, which is not supported for this operation"
            raise internal(f'admission webhook "{hook.spec["name"]}" {what}')
        try:
            changed = patch.patched(shown, operations)
        except patch.PatchFailed as error:
            raise internal(error.why) from None
        return await self._views.changed(write, hook.match, changed)

    async def _conditions_hold(self, hook: _Hook, write: Write) -> bool:
        conditions: list[Any] = entries(hook.spec, "matchConditions")
        if not conditions:
            return True
        from podling.cel.values import EvaluationError

        try:
            return expressions.conditions_hold(conditions, await self._views.values(write, hook.match))
        except EvaluationError as error:
            if text(hook.spec, "failurePolicy") == "Ignore":
                return False
            raise forbidden(write.resource.plural, write.resource.group, write.name, str(error)) from None


def _set(known: dict[str, Object], name: str, obj: Object | None) -> None:
    if obj is None:
        known.pop(name, None)
    else:
        known[name] = obj


def _review(hook: _Hook, write: Write, uid: str, objects: tuple[Object | None, Object | None]) -> Object:
    request = {
        **expressions.request(write, hook.match, uid),
        "object": objects[0],
        "oldObject": objects[1],
    }
    return {"kind": "AdmissionReview", "apiVersion": f"{_GROUP}/{_version(hook)}", "request": request}


def _version(hook: _Hook) -> str:
    return next(v for v in entries(hook.spec, "admissionReviewVersions") if v in ("v1", "v1beta1"))


def _check(answer: Object, uid: str, *, mutating: bool) -> None:
    """Raises CallError for what version 1 does not allow."""
    response = part(answer, "response")
    if response.get("uid") != uid:
        raise CallError(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    group, _, version = text(answer, "apiVersion").rpartition("/")
    wanted, given = f"{_GROUP}/v1, Kind=AdmissionReview", f"{group}/{version}, Kind={text(answer, 'kind')}"
    if given != wanted:
        raise CallError(f"expected webhook response of {wanted}, got {given}")
    changes, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        if changes:
            raise CallError("validating webhook may not return response.patch")
        if kind is not None:
            raise CallError("validating webhook may not return response.patchType")
    elif changes and kind is None:
        raise CallError("webhook returned response.patch but not response.patchType")
    elif kind is not None and not changes:
        raise CallError("webhook returned response.patchType but not response.patch")
    elif kind == "":
        raise CallError('webhook returned invalid response.patchType of ""')


class _Unusable(CallError):
    """The webhook answers, but not as the API wants it."""


def _verified(hook: _Hook, answer: Object, uid: str, *, mutating: bool) -> Object:
    """The response. Raises CallError for one that is none."""
    if answer.get("response") is None:
        raise CallError("webhook response was absent")
    if _version(hook) == "v1":
        _check(answer, uid, mutating=mutating)
    return part(answer, "response")


def _read(hook: _Hook, write: Write, response: Object, *, mutating: bool) -> list[Object] | None:
    """The patch, if there is one. Raises CallError, and ApiError for a refusal (`request/admissionreview.go`)."""
    write.warnings += cast("list[str]", response.get("warnings") or [])
    if not response.get("allowed"):
        raise _denied(hook.spec["name"], part(response, "status"))
    encoded = response.get("patch")
    if not encoded or not mutating:
        return None
    try:
        operations: Any = orjson.loads(base64.b64decode(encoded))
    except (binascii.Error, ValueError) as error:
        raise _Unusable(f"received undecodable patch in webhook response: {error}") from None
    if not isinstance(operations, list):
        raise _undecodable(operations, "Patch")
    for operation in cast("list[Any]", operations):
        if not isinstance(operation, dict):
            raise _undecodable(operation, "Operation")
    kind: str = response.get("patchType") or "JSONPatch"
    if operations and kind != "JSONPatch":
        raise _Unusable(f'unsupported patch type "{kind}"')
    return cast("list[Object]", operations) or None


def _undecodable(value: Any, wanted: str) -> _Unusable:
    kinds = ((dict, "object"), (list, "array"), (str, "string"), (bool, "bool"))
    kind = next((name for python, name in kinds if isinstance(value, python)), "number")
    problem = f"json: cannot unmarshal {kind} into Go value of type jsonpatch.{wanted}"
    return _Unusable(f"received undecodable patch in webhook response: {problem}")


def _denied(name: str, status: Object) -> ApiError:
    who = f'admission webhook "{name}" denied the request'
    why = text(status, "message") or text(status, "reason")
    message = f"{who}: {why}" if why else f"{who} without explanation"
    code = cast(int, status.get("code") or 0)
    details = cast("Object | None", status.get("details"))
    return ApiError(code if code >= 400 else 400, text(status, "reason"), message, details)

"""`podling.api.client.Client` in process: the registry without HTTP.

Each component gets a client of its own, with the identity that its requests would have in a real cluster, so that
`managedFields` and admission see who writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import cast

from podling.api import patch as patches
from podling.api.answers import shown
from podling.api.errors import ApiError, bad_request
from podling.api.registry import Registry
from podling.api.requests import Call
from podling.api.resources import Resource, User
from podling.api.schema import Node
from podling.api.structs import DecodeError, shape
from podling.store.store import EVERYTHING, Watch
from podling.store.types import Change, ChangeType, Entry, Object

_log = logging.getLogger(__name__)


class LocalClient:
    """A component's hands; see `podling.api.client.Client`."""

    def __init__(self, registry: Registry, user: User, field_manager: str) -> None:
        self._registry = registry
        self._user = user
        self._field_manager = field_manager

    # Reading

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._registry.reader.get(resource, namespace, name)

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return self._registry.reader.list(resource, namespace)

    def owned(self, uid: str) -> Sequence[tuple[str, Object]]:
        return [(entry.key.resource, entry.object) for entry in self._registry.store.owned(uid)]

    def subscribe(self, resource: str, handler: Callable[[Change], None]) -> Watch:
        """See `Client.subscribe`. The present objects are given at once, before this returns."""
        store = self._registry.store
        served = self._registry.served.by_name(resource)
        if served is None and resource != EVERYTHING and "." not in resource:
            raise _unknown(resource)
        key = served.storage_key if served else resource
        present = [r for r in store.resources() if key in (EVERYTHING, r)]

        def tell(changes: Sequence[Change]) -> None:
            for change in changes:
                _call_safely(handler, _in_version(served, change) if served else change)

        watch = store.watch(key, tell)
        for stored in present:
            tell([Change(ChangeType.ADDED, entry, None) for entry in store.list(stored)])
        return watch

    def resources(self) -> Sequence[Resource]:
        stored = {r.storage_key: r for r in reversed(self._registry.served.all()) if "list" in r.verbs}
        return tuple(stored.values())

    # Writing

    async def create(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        served = self._resource(resource)
        if subresource:
            place = (_namespace_of(served, obj), cast(str, obj["metadata"]["name"]))
            return await self._registry.create_on(served, subresource, place, obj, self._call())
        entry = await self._registry.create(served, _namespace_of(served, obj), self._owned(served, obj), self._call())
        return shown(served, entry)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        served = self._resource(resource)
        namespace, name = _namespace_of(served, obj), cast(str, obj["metadata"]["name"])
        own = self._owned(served, obj, self._stored(served, namespace, name))
        entry, _ = await self._registry.update(served, namespace, name, own, self._call(), subresource=subresource)
        return shown(served, entry)

    async def update_status(self, resource: str, obj: Object) -> Object:
        written = {key: obj[key] for key in ("metadata", "status") if key in obj}
        return await self.update(resource, written, subresource="status")

    async def patch(
        self,
        resource: str,
        namespace: str,
        name: str,
        patch: Object | list[Object],
        *,
        subresource: str = "",
        strategic: bool = False,
    ) -> Object:
        served = self._resource(resource)
        change = self._change(served, patch, strategic=strategic)
        entry = await self._registry.modify(
            served,
            namespace,
            name,
            lambda old: self._owned(served, change(old), old),
            self._call(),
            subresource=subresource,
            owned=True,
        )
        return shown(served, entry)

    def _change(
        self, resource: Resource, document: Object | list[Object], *, strategic: bool
    ) -> Callable[[Object], Object]:
        if isinstance(document, list):
            operations = document
            return lambda old: patches.json_patch(old, operations)
        merge = document
        if strategic:
            node = self._registry.node(resource)
            return lambda old: patches.strategic_merge_patch(old, merge, node)
        return lambda old: patches.merge_patch(old, merge)

    async def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
        grace_seconds: int | None = None,
    ) -> Object:
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options = {
            "preconditions": {k: v for k, v in preconditions.items() if v is not None} or None,
            "propagationPolicy": propagation,
            "gracePeriodSeconds": grace_seconds,
        }
        given = {k: v for k, v in options.items() if v is not None}
        served = self._resource(resource)
        deleted = await self._registry.delete(served, namespace, name, given, self._call())
        return deleted.object

    def _owned(self, resource: Resource, obj: Object, stored: Object | None = None) -> Object:
        return _owned(resource, self._registry.node(resource), obj, stored)

    def _stored(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """What an update most likely shares parts with."""
        return self._registry.reader.get(resource.group_resource, namespace, name)

    def _call(self) -> Call:
        return Call(user=self._user, field_manager=self._field_manager)

    def _resource(self, name: str) -> Resource:
        resource = self._registry.served.by_name(name)
        if resource is None:
            raise _unknown(name)
        return resource


def _unknown(name: str) -> ApiError:
    return ApiError(404, "NotFound", f'the server doesn\'t have a resource type "{name}"', {})


def _call_safely(handler: Callable[[Change], None], change: Change) -> None:
    try:
        handler(change)
    except Exception:  # noqa: BLE001  the subscriber's fault must not keep the changes behind this one from it
        _log.exception("a subscriber failed on %r", change.entry)


def _in_version(resource: Resource, change: Change) -> Change:
    """The change with entries in the served version, where that is not the stored one."""
    convert = resource.from_storage
    if convert is None:
        return change

    def converted(entry: Entry) -> Entry:
        return entry.showing(convert(entry.object))

    previous = converted(change.previous) if change.previous is not None else None
    return Change(change.type, converted(change.entry), previous)


def _namespace_of(resource: Resource, obj: Object) -> str:
    return cast(str, obj["metadata"].get("namespace") or "") if resource.namespaced else ""


def _owned(resource: Resource, node: Node, obj: Object, stored: Object | None) -> Object:
    """A deep copy as the API would write it: callers share parts of stored objects with what they write.

    A field that does not exist or has another type is the caller's fault and refused, never dropped in silence.
    """
    typed = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
    try:
        copy, unknown = shape(typed, node, settled=stored)
    except DecodeError as error:
        raise bad_request(f"{resource.kind}: {error}") from None
    if unknown:
        raise bad_request(f"{resource.kind}: " + ", ".join(unknown))
    return copy

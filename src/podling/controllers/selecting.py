"""From a changed object to the keys of those that select it by labels: services of a pod, sets of an orphan."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from podling.api import meta
from podling.api.client import Client
from podling.controllers.runtime import ObjectKey, Watch, itself, key_of, of_controller
from podling.store.types import Change, Object


def selector_of(obj: Object) -> Object:
    """Its label selector, also where the kind only knows equality."""
    selector: Object = meta.spec(obj).get("selector") or {}
    return {"matchLabels": selector} if obj["kind"] == "ReplicationController" else selector


def of_selecting(resource: str) -> Callable[[Client, Change], Iterable[ObjectKey]]:
    """The controllers of this resource whose selector matches an ownerless object that changed."""

    def keys(client: Client, change: Change) -> Iterable[ObjectKey]:
        obj = change.entry.object
        if meta.controller_reference(obj) is not None or not meta.labels(obj):
            return
        for owner in client.list(resource, change.entry.key.namespace):
            selector = selector_of(owner)
            if selector and meta.matches_selector(selector, meta.labels(obj)):
                yield key_of(owner)

    return keys


def workload_watches(kind: str, resource: str, *dependents: str) -> tuple[Watch, ...]:
    """What a workload watches: itself, and of its dependents (pods, and those named) its own and what it may adopt."""
    watches = [Watch(resource=resource, keys=itself)]
    for dependent in ("pods", *dependents):
        watches += [
            Watch(resource=dependent, keys=of_controller(kind)),
            Watch(resource=dependent, keys=of_selecting(resource)),
        ]
    return tuple(watches)

"""From a changed object to the keys of those that select it by labels: services of a pod, sets of an orphan."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from podling.api import meta
from podling.api.client import Client
from podling.controllers.runtime import ObjectKey, key_of
from podling.store.types import Change


def of_selecting(resource: str) -> Callable[[Client, Change], Iterable[ObjectKey]]:
    """The controllers of this resource whose selector matches an ownerless object that changed."""

    def keys(client: Client, change: Change) -> Iterable[ObjectKey]:
        obj = change.entry.object
        if meta.controller_reference(obj) is not None or not meta.labels(obj):
            return
        for owner in client.list(resource, change.entry.key.namespace):
            selector = meta.spec(owner).get("selector")
            if selector and meta.matches_selector(selector, meta.labels(obj)):
                yield key_of(owner)

    return keys

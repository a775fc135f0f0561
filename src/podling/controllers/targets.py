"""What an autoscaler's reference points at, and the pods of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from podling.api import meta
from podling.api.client import Client
from podling.api.resources import Resource
from podling.api.scale import selector_text
from podling.controllers.selecting import selector_of
from podling.store.types import Object


class Found(NamedTuple):
    served: Resource | None
    """`None` for a kind that is not served."""
    object: Object | None


class Target(NamedTuple):
    object: Object | None
    pods: Sequence[Object]


def find_object(client: Client, namespace: str, reference: Object) -> Found:
    """The object that a CrossVersionObjectReference names."""
    served = _served(client, reference)
    return Found(served, client.get(served.group_resource, namespace, reference["name"]) if served else None)


def resource_of(client: Client, reference: Object) -> str:
    """The resource (`services`) that a CrossVersionObjectReference means; for a kind not served, a guess at it."""
    group = reference.get("apiVersion", "").rpartition("/")[0]
    served = _served(client, reference)
    return served.group_resource if served else ".".join(filter(None, (f"{reference['kind'].lower()}s", group)))


def _served(client: Client, reference: Object) -> Resource | None:
    group = reference.get("apiVersion", "").rpartition("/")[0]
    return next((r for r in client.resources() if (r.group, r.kind) == (group, reference["kind"])), None)


def find(client: Client, namespace: str, reference: Object) -> Target:
    """The object that a CrossVersionObjectReference names, and what its selector picks."""
    found = find_object(client, namespace, reference).object
    if found is None:
        return Target(None, ())
    chosen = selector_of(found)
    pods = [p for p in client.list("pods", namespace) if meta.matches_selector(chosen, meta.labels(p))]
    return Target(found, pods)


def selector_text_of(obj: Object) -> str:
    """The selector of anything that has one, as text; a Service or a ReplicationController only knows equality."""
    return selector_text(meta.spec(obj).get("selector"))

"""Writing status: only when it differs, only what differs, and how conditions change."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from podling.api import meta
from podling.controllers.actions import Patch
from podling.store.types import Object


def write_status(resource: str, obj: Object, new: Object, why: str) -> list[Patch]:
    """Makes `new` the object's status; nothing if it already is.

    A merge patch without a resourceVersion: a status has one writer, and a newer spec must not refuse it.
    """
    changes = merge_difference(meta.status(obj), new)
    if not changes:
        return []
    return [
        Patch(
            why=why,
            resource=resource,
            namespace=meta.namespace(obj),
            name=meta.name(obj),
            subresource="status",
            patch={"metadata": {"uid": meta.uid(obj)}, "status": changes},
        )
    ]


def merge_difference(old: Object, new: Object) -> Object:
    """The JSON merge patch that turns `old` into `new`, deep in objects, whole for lists."""
    changes: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            inner = merge_difference(before, value)  # pyright: ignore[reportUnknownArgumentType]  JSON leaf
            if inner:
                changes[key] = inner
        elif key not in old or before != value:
            changes[key] = value
    return changes


def with_condition(conditions: Iterable[Object], new: Object, now: datetime) -> list[Object]:
    """The conditions with `new` in them, the transition time kept while the status stays.

    The same status and reason change nothing; otherwise the condition moves to the end, as the workload
    controllers do it (`SetDeploymentCondition`).
    """
    items = list(conditions)
    old = meta.find_condition(items, new["type"])
    if old is not None and (old["status"], old.get("reason")) == (new["status"], new.get("reason")):
        return items
    if old is not None and old["status"] == new["status"]:
        since = old.get("lastTransitionTime") or meta.timestamp(now)
    else:
        since = new.get("lastTransitionTime") or meta.timestamp(now)
    return [*without_condition(items, new["type"]), {**new, "lastTransitionTime": since}]


def without_condition(conditions: Iterable[Object], type: str) -> list[Object]:
    return [c for c in conditions if c["type"] != type]


def replace_condition(conditions: Iterable[Object], new: Object, now: datetime) -> list[Object]:
    """The conditions with `new` at its old place (or at the end), every field taken (`meta.SetStatusCondition`)."""
    items = list(conditions)
    for index, old in enumerate(items):
        if old["type"] == new["type"]:
            kept = old.get("lastTransitionTime") if old["status"] == new["status"] else None
            items[index] = {**new, "lastTransitionTime": kept or meta.timestamp(now)}
            return items
    return [*items, {**new, "lastTransitionTime": meta.timestamp(now)}]

"""The default VolumeSnapshotClass: there as soon as its kind is served, unless the owner of the cluster has another."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Create
from podling.controllers.addons import DEFINITIONS, are_served
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself, service_account
from podling.controllers.snapshots.definition import CLASSES, DEFAULT_CLASS, KINDS, default_class
from podling.store.types import Change


def controller(driver: str) -> Controller:
    async def reconcile(context: Context, key: ObjectKey) -> None:
        if await are_served(context, key, KINDS) and not _has_default(context.client, driver):
            why = "snapshots that name no class need one"
            await context.act(key, [Create(why=why, resource=CLASSES, object=default_class(driver), exists_ok=True)])

    return Controller(
        name="snapshot-class-default",
        user=service_account("snapshot-controller"),
        resource=DEFINITIONS,
        watches=(Watch(resource=DEFINITIONS, keys=_definition),),
        reconcile=reconcile,
    )


def _has_default(client: Client, driver: str) -> bool:
    marked = (c for c in client.list(CLASSES) if meta.annotations(c).get(DEFAULT_CLASS) == "true")
    return any(c["driver"] == driver for c in marked)


def _definition(client: Client, change: Change) -> Iterable[ObjectKey]:
    if change.entry.key.name == CLASSES:
        yield from itself(client, change)

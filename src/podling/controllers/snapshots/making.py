"""What is behind a VolumeSnapshotContent: taken, found again, and removed. The part of external-snapshotter that stands
beside a storage driver; the driver is the node's disk.

A copy is complete or not there at all, so a daemon that is killed in between only takes it anew.
"""

from __future__ import annotations

from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import of
from podling.controllers.actions import Action, Announce, Emit
from podling.controllers.addons import are_served
from podling.controllers.disk import Disk
from podling.controllers.finalizers import set_finalizers
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself, service_account
from podling.controllers.snapshots import objects
from podling.controllers.snapshots.definition import CONTENTS, KINDS
from podling.controllers.snapshots.objects import BEING_DELETED, CONTENT_FINALIZER, is_ready
from podling.controllers.statuses import write_status
from podling.controllers.volumebinder import PROVISIONED_BY, VOLUMES
from podling.store.types import Object

NAME = "csi-snapshotter"
COPIES = 20
"""How many contents are looked at at once: some copies take long, and nobody else shall wait for them."""
_NANO = 10**9


def handle_of(content: Object) -> str:
    """What the snapshot is called on the disk."""
    given = meta.part(content, "spec", "source").get("snapshotHandle")
    return given or f"snapshot-{meta.part(content, 'spec', 'volumeSnapshotRef').get('uid')}"


def may_go(content: Object) -> bool:
    """Whether a content that is deleted is needed no more: its snapshot goes as well, or never knew it."""
    bound = meta.part(content, "spec", "volumeSnapshotRef").get("uid")
    return not bound or BEING_DELETED in meta.annotations(content)


def protected(content: Object) -> list[Action]:
    """A content that is bound does not go by itself."""
    bound = meta.part(content, "spec", "volumeSnapshotRef").get("uid")
    if not bound or CONTENT_FINALIZER in meta.finalizers(content):
        return []
    return [
        set_finalizers(CONTENTS, content, [*meta.finalizers(content), CONTENT_FINALIZER], "what is bound shall not go")
    ]


def released(content: Object) -> list[Action]:
    rest = [f for f in meta.finalizers(content) if f != CONTENT_FINALIZER]
    return [set_finalizers(CONTENTS, content, rest, "nothing of it is left that it would have to be kept for")]


def taken(content: Object, size: int | None, now: datetime) -> list[Action]:
    status: Object = {
        "creationTime": int(now.timestamp() * _NANO),
        "readyToUse": True,
        "snapshotHandle": handle_of(content),
    }
    if size is not None:
        status["restoreSize"] = size
    return [*write_status(CONTENTS, content, status, "its snapshot is taken")]


def found(content: Object) -> list[Action]:
    """A snapshot that was there before; of what time and size it is, nobody wrote down."""
    status: Object = {"readyToUse": True, "snapshotHandle": handle_of(content)}
    return [*write_status(CONTENTS, content, status, "its snapshot is there")]


def not_taken(content: Object, error: str, now: datetime) -> list[Action]:
    volume = meta.part(content, "spec", "source").get("volumeHandle")
    text = f"Failed to create snapshot: failed to take snapshot of the volume {volume}: {error}"
    return _failed(content, "SnapshotCreationFailed", text, now)


def not_found(content: Object, now: datetime) -> list[Action]:
    text = f"Failed to check and update snapshot content: snapshot {handle_of(content)} does not exist"
    return _failed(content, "SnapshotContentCheckandUpdateFailed", text, now)


def not_removed(content: Object, error: str) -> list[Action]:
    return [_tell(content, "SnapshotDeleteError", f"Failed to delete snapshot: {error}")]


def _failed(content: Object, reason: str, message: str, now: datetime) -> list[Action]:
    if meta.part(content, "status", "error").get("message") == message:
        return []
    status: Object = {**meta.status(content), "error": objects.error(message, now), "readyToUse": False}
    return [*write_status(CONTENTS, content, status, message), _tell(content, reason, message)]


def _tell(content: Object, reason: str, message: str) -> Emit:
    return Emit(why=message, event=Announce(regarding=content, reason=reason, message=message, type="Warning"))


def size_of(client: Client, content: Object, driver: str) -> int | None:
    """The size of the volume, by what is said of it; `None` for a volume that is not the driver's or not there."""
    volume = client.get(VOLUMES, "", meta.part(content, "spec", "source").get("volumeHandle", ""))
    if volume is None or meta.annotations(volume).get(PROVISIONED_BY) != driver:
        return None
    return of(meta.part(volume, "spec", "capacity").get("storage", "0")).value


# Controller


class _Maker:
    def __init__(self, disk: Disk, driver: str) -> None:
        self._disk = disk
        self._driver = driver

    async def reconcile(self, context: Context, key: ObjectKey) -> None:
        content = context.client.get(CONTENTS, "", key.name)
        if content is None or meta.spec(content).get("driver") != self._driver:
            return
        if not await are_served(context, key, KINDS):
            return
        if meta.deleting(content):
            await self._remove(context, key, content)
        elif actions := protected(content):
            await context.act(key, actions)
        elif not is_ready(content):
            await self._provide(context, key, content)

    async def _provide(self, context: Context, key: ObjectKey, content: Object) -> None:
        volume = meta.part(content, "spec", "source").get("volumeHandle")
        if volume is None:
            there = await self._disk.has_snapshot(handle_of(content))
            await context.act(key, found(content) if there else not_found(content, context.now()))
            return
        size = size_of(context.client, content, self._driver)
        began = context.now()
        try:
            await self._disk.snapshot(handle_of(content), volume)
        except OSError as error:
            await context.act(key, not_taken(content, str(error), context.now()))
            raise
        await context.act(key, taken(content, size, began))

    async def _remove(self, context: Context, key: ObjectKey, content: Object) -> None:
        if not may_go(content) or CONTENT_FINALIZER not in meta.finalizers(content):
            return
        if meta.spec(content).get("deletionPolicy") == "Delete":
            try:
                await self._disk.remove_snapshot(handle_of(content))
            except OSError as error:
                await context.act(key, not_removed(content, str(error)))
                raise
        await context.act(key, released(content))


def controller(disk: Disk, driver: str) -> Controller:
    """Provides the contents of `driver`, whose volumes are on `disk`."""
    return Controller(
        name=NAME,
        user=service_account(NAME),
        resource=CONTENTS,
        watches=(Watch(resource=CONTENTS, keys=itself),),
        reconcile=_Maker(disk, driver).reconcile,
        workers=COPIES,
    )

"""Snapshots on a disk that fails, and what must not be touched. The usual way is told in transcripts."""

from __future__ import annotations

import asyncio

from stage import SERVED, MemoryDisk
from world import World

from podling.controllers.snapshots import making
from podling.controllers.snapshots.definition import CONTENTS
from podling.controllers.snapshots.objects import BEING_DELETED
from podling.store.types import Key

DRIVER = "podling.dev/local"


class Disk(MemoryDisk):
    """Fails as often as it is told, and knows what it was asked for."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.done: list[str] = []

    def _do(self, what: str) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        self.done.append(what)

    async def snapshot(self, snapshot: str, volume: str) -> None:
        self._do(f"take {snapshot} of {volume}")

    async def remove_snapshot(self, snapshot: str) -> None:
        self._do(f"remove {snapshot}")


def content(driver: str = DRIVER) -> dict:
    reference = {"namespace": "default", "name": "s", "uid": "uid-s"}
    spec = {
        "deletionPolicy": "Delete",
        "driver": driver,
        "source": {"volumeHandle": "v"},
        "volumeSnapshotRef": reference,
    }
    return {"kind": "VolumeSnapshotContent", "metadata": {"name": "c"}, "spec": spec}


def play(disk: Disk, obj: dict, *, snapshot_goes: bool = False, delete: bool = False, failures: int = 0) -> World:
    """`failures` of the disk come after the snapshot is taken."""

    async def story() -> World:
        world = World([making.controller(disk, DRIVER)], SERVED)
        await world.cluster.create(CONTENTS, obj)
        world.start()
        await world.advance(10)
        disk.failures += failures
        if snapshot_goes:
            await world.cluster.patch(CONTENTS, "", "c", {"metadata": {"annotations": {BEING_DELETED: "yes"}}})
        if delete:
            await world.cluster.delete(CONTENTS, "", "c")
            await world.advance(10)
        await world.stop()
        return world

    return asyncio.run(story())


def test_a_full_disk_is_told_and_tried_again() -> None:
    disk = Disk(failures=1)
    world = play(disk, content())
    assert any("failed to take snapshot of the volume v: [Errno 28]" in line for line in world.take_log())
    assert disk.done == ["take snapshot-uid-s of v"]
    status = world.cluster.objects[Key(CONTENTS, "", "c")]["status"]
    assert status["readyToUse"]
    assert "error" not in status


def test_contents_of_other_drivers_are_not_touched() -> None:
    disk = Disk()
    play(disk, content("ebs.csi.aws.com"), delete=True)
    assert disk.done == []


def test_a_content_whose_snapshot_lives_stays_when_it_is_deleted() -> None:
    disk = Disk()
    world = play(disk, content(), delete=True)
    assert Key(CONTENTS, "", "c") in world.cluster.objects
    assert disk.done == ["take snapshot-uid-s of v"]


def test_a_snapshot_that_cannot_be_removed_keeps_its_content_until_it_is() -> None:
    disk = Disk()
    world = play(disk, content(), snapshot_goes=True, delete=True, failures=1)
    assert any("Failed to delete snapshot: [Errno 28]" in line for line in world.take_log())
    assert disk.done[-1] == "remove snapshot-uid-s"
    assert Key(CONTENTS, "", "c") not in world.cluster.objects

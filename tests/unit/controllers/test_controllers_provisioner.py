"""Volumes to order: what goes wrong, and what must not be touched. The usual way is told in a transcript."""

from __future__ import annotations

import asyncio

from stage import SERVED, MemoryDisk
from world import World

from podling.controllers import provisioner
from podling.store.types import Key

CLASS = {
    "kind": "StorageClass",
    "metadata": {"name": "standard"},
    "provisioner": provisioner.NAME,
    "reclaimPolicy": "Delete",
}


class Disk(MemoryDisk):
    """A disk that fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.volumes: set[str] = set()
        self.removed: list[str] = []

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")

    async def make(self, volume: str) -> str:
        self._fail()
        self.volumes.add(volume)
        return f"/volumes/{volume}"

    async def remove(self, volume: str) -> None:
        self._fail()
        self.volumes.discard(volume)
        self.removed.append(volume)


def claim(**spec: object) -> dict:
    metadata = {
        "name": "c",
        "namespace": "default",
        "annotations": {provisioner.PROVISIONER: provisioner.NAME},
    }
    wanted = {"storageClassName": "standard", "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": wanted}


def volume(phase: str, **annotations: str) -> dict:
    return {
        "kind": "PersistentVolume",
        "metadata": {"name": "v", "annotations": annotations},
        "spec": {"persistentVolumeReclaimPolicy": "Delete", "local": {"path": "/etc"}},
        "status": {"phase": phase},
    }


def play(disk: Disk, *objects: tuple[str, dict], seconds: float = 10) -> World:
    async def story() -> World:
        world = World(provisioner.controllers(disk), SERVED)
        for resource, obj in objects:
            await world.cluster.create(resource, obj)
        world.start()
        await world.advance(seconds)
        await world.stop()
        return world

    return asyncio.run(story())


def test_a_full_disk_is_told_and_tried_again() -> None:
    disk = Disk(failures=1)
    world = play(disk, (provisioner.CLASSES, CLASS), (provisioner.CLAIMS, claim()))
    said = "\n".join(world.take_log())
    assert 'failed to provision volume with StorageClass "standard": [Errno 28] No space left on device' in said
    assert "Successfully provisioned volume" in said
    assert len(disk.volumes) == 1


def test_volumes_of_others_are_not_touched() -> None:
    disk = Disk()
    mine = {"pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com"}
    world = play(disk, (provisioner.VOLUMES, volume("Released", **mine)))
    assert disk.removed == []
    assert Key(provisioner.VOLUMES, "", "v") in world.cluster.objects


def test_a_removed_volume_is_found_by_its_name_and_never_by_the_path_that_it_says() -> None:
    disk = Disk()
    play(disk, (provisioner.VOLUMES, volume("Released", **{provisioner.PROVISIONED_BY: provisioner.NAME})))
    assert disk.removed == ["v"]


def test_a_directory_that_cannot_be_removed_keeps_its_volume_and_says_why() -> None:
    disk = Disk(failures=1)
    ours = {provisioner.PROVISIONED_BY: provisioner.NAME}
    world = play(disk, (provisioner.VOLUMES, volume("Released", **ours)))
    assert any("VolumeFailedDelete" in line for line in world.take_log())
    assert Key(provisioner.VOLUMES, "", "v") not in world.cluster.objects, "the next try succeeds"


def test_a_class_of_the_user_s_own_is_default_enough() -> None:
    marked = {**CLASS, "metadata": {"name": "fast", "annotations": {provisioner.DEFAULT_CLASS: "true"}}}
    world = play(Disk(), (provisioner.CLASSES, marked))
    assert provisioner.has_default_class(world.cluster)
    assert not provisioner.has_default_class(play(Disk(), (provisioner.CLASSES, CLASS)).cluster)

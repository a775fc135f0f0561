"""Limits on what a pod writes to the disk: `emptyDir.sizeLimit` and `ephemeral-storage`. What goes beyond is evicted.

A directory has no limit of its own on an ordinary file system, so it is measured, now and then, and only where there is
a limit. In memory (tmpfs) the kernel keeps the limit. Source: the kubelet's local storage eviction, and its sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from podling.api import meta
from podling.node.amounts import whole
from podling.node.state import Role, containers_of, part
from podling.node.volumes import Volumes, tree_size
from podling.store.types import Object

RESOURCE = "ephemeral-storage"


class Places(NamedTuple):
    """Where a pod's writing lands."""

    volumes: Mapping[str, Path]
    """Of its `emptyDir` volumes on the disk."""
    containers: Mapping[str, Iterable[Path]]
    """Writable layers and logs."""


def places(pod: Object, volumes: Volumes, directory: Path, logs: Path) -> Places:
    """`directory` and `logs` are the pod's own."""
    found = {volume["name"]: volumes.path_of(volume["name"]) for volume in on_disk(pod)}
    names = [container["name"] for container, _ in containers_of(pod)]
    return Places(
        {name: path for name, path in found.items() if path is not None},
        {name: (directory / "containers" / name, logs / name) for name in names},
    )


def on_disk(pod: Object) -> list[Object]:
    """The pod's `emptyDir` volumes that are not in memory."""
    volumes: list[Object] = meta.spec(pod).get("volumes") or []
    return [v for v in volumes if "emptyDir" in v and part(v, "emptyDir").get("medium") != "Memory"]


def is_limited(pod: Object) -> bool:
    """Whether there is anything to measure."""
    return any(part(v, "emptyDir").get("sizeLimit") for v in on_disk(pod)) or bool(_limits(pod))


def _limits(pod: Object) -> dict[str, str]:
    """Of containers that may run at the same time."""
    return {
        c["name"]: part(part(c, "resources"), "limits")[RESOURCE]
        for c, role in containers_of(pod)
        if role in (Role.MAIN, Role.SIDECAR) and RESOURCE in part(part(c, "resources"), "limits")
    }


def excess(pod: Object, places: Places) -> str | None:
    """Why the pod must go, in the kubelet's words. Walks directories: call it in a thread."""
    volumes = {name: tree_size(path) for name, path in places.volumes.items()}
    for volume in on_disk(pod):
        limit = part(volume, "emptyDir").get("sizeLimit")
        if limit and volumes.get(volume["name"], 0) > whole(limit):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    limits = _limits(pod)
    if not limits:
        return None
    containers = {name: sum(map(tree_size, paths)) for name, paths in places.containers.items()}
    total = sum(whole(limit) for limit in limits.values())
    if sum(volumes.values()) + sum(containers.values()) > total:
        shown = next(iter(limits.values())) if len(limits) == 1 else str(total)
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
    for name, limit in limits.items():
        if containers.get(name, 0) > whole(limit):
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return None

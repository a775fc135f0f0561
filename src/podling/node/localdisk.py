"""The directories of volumes that were made to order, and of their snapshots: `volumes/NAME` and `snapshots/NAME` below
the cluster's own directory.

The daemon is root of the node's user namespace, so it may remove and copy what containers wrote, whoever they were,
also where they closed a directory to themselves. What has a name is complete: a copy gets its name when it is one, and
what is to be removed loses it first. What a daemon that was killed left nameless is removed by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from podling.node.treecopy import copy_tree

COPIERS = 2
"""Copies at once: more would only wait for the same disk."""


class LocalDisk:
    """Volumes and snapshots by name, see `podling.controllers.disk.Disk`. `close()` ends copies that are being made."""

    def __init__(self, volumes: Path, snapshots: Path) -> None:
        self._volumes = volumes
        self._snapshots = snapshots
        self._closed = threading.Event()
        self._copiers = ThreadPoolExecutor(COPIERS, thread_name_prefix="copy")
        leftovers = [path for place in (volumes, snapshots) if place.is_dir() for path in place.glob(".*")]
        if leftovers:
            self._copiers.submit(_remove_all, leftovers)

    def close(self) -> None:
        self._closed.set()
        self._copiers.shutdown(wait=False, cancel_futures=True)

    async def make(self, volume: str) -> str:
        path = _place(self._volumes, volume)
        await asyncio.to_thread(_make, path)
        return str(path)

    async def clone(self, volume: str, source: str) -> str:
        return await self._copy(_place(self._volumes, source), _place(self._volumes, volume))

    async def restore(self, volume: str, snapshot: str) -> str:
        return await self._copy(_place(self._snapshots, snapshot), _place(self._volumes, volume))

    async def remove(self, volume: str) -> None:
        await asyncio.to_thread(_remove, _place(self._volumes, volume))

    async def snapshot(self, snapshot: str, volume: str) -> None:
        await self._copy(_place(self._volumes, volume), _place(self._snapshots, snapshot))

    async def has_snapshot(self, snapshot: str) -> bool:
        try:
            return await asyncio.to_thread(_place(self._snapshots, snapshot).is_dir)
        except FileNotFoundError:
            return False

    async def remove_snapshot(self, snapshot: str) -> None:
        await asyncio.to_thread(_remove, _place(self._snapshots, snapshot))

    async def _copy(self, source: Path, target: Path) -> str:
        work: Callable[[], None] = partial(_copy, source, target, lambda: not self._closed.is_set())
        await asyncio.get_running_loop().run_in_executor(self._copiers, work)
        return str(target)


def _place(directory: Path, name: str) -> Path:
    """A name is one of an object, or was said by a user: it never leads out of the directory."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return directory / name


def _make(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)


def _copy(source: Path, target: Path, wanted: Callable[[], bool]) -> None:
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        copy_tree(source, draft, wanted)
        draft.rename(target)
    except BaseException:
        if wanted():  # else there is no time: the next daemon removes it
            shutil.rmtree(draft, ignore_errors=True)
        raise


def _remove(path: Path) -> None:
    """A removal that broke off is gone on with when it is tried again."""
    doomed = path.with_name(f".{path.name}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(doomed)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(doomed)


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)

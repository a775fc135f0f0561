"""The directories of volumes that were made to order: `volumes/<name>` below the cluster's own directory.

The daemon runs in the node's user namespace, where every id that a container may have belongs to it. So it can remove
what containers wrote, whoever they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path


class LocalDisk:
    """Volumes by name; a name is one of an object, so that it never leads out of the directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def make(self, volume: str) -> str:
        """The volume's directory. Raises `OSError`."""
        path = self._directory / volume
        await asyncio.to_thread(_make, path)
        return str(path)

    async def remove(self, volume: str) -> None:
        """Raises `OSError`. The directory loses its name first: a half removed one is no volume any more."""
        path, doomed = self._directory / volume, self._directory / f".{volume}"
        with contextlib.suppress(FileNotFoundError):
            path.rename(doomed)
        await asyncio.to_thread(_remove, doomed)


def _make(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path, onerror=_open_up)


def _open_up(remove: Callable[..., object], path: str, problem: object) -> None:
    """Directories that are closed even to their owner are opened, and the removal goes on."""
    error = problem[1] if isinstance(problem, tuple) else problem
    if isinstance(error, FileNotFoundError):
        return
    if not isinstance(error, PermissionError):
        raise error if isinstance(error, OSError) else OSError(str(error))
    parent = os.path.dirname(path)
    os.chmod(parent, stat.S_IRWXU)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, stat.S_IRWXU)
        shutil.rmtree(path)
    else:
        remove(path)

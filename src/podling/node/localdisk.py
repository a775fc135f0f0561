"""The directories of volumes that were made to order: `volumes/<name>` below the cluster's own directory.

The daemon is root of the node's user namespace, so it may remove what containers wrote, whoever they were, also where
they closed a directory to themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
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
        shutil.rmtree(path)

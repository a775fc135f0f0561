"""Where volumes and their snapshots are kept, as the controllers that order them see it. The node has the real one.

Everything is harmless when repeated, and done wholly or not at all: what has a name is complete. What fails is an
`OSError`; a source that is not there is a `FileNotFoundError`.
"""

from __future__ import annotations

from typing import Protocol


class Disk(Protocol):
    async def make(self, volume: str, /) -> str:
        """The volume's directory, which every user may write to."""
        ...

    async def clone(self, volume: str, source: str, /) -> str:
        """The directory of a volume with the content that the volume `source` has now."""
        ...

    async def restore(self, volume: str, snapshot: str, /) -> str:
        """The directory of a volume with the content of a snapshot."""
        ...

    async def remove(self, volume: str, /) -> None:
        """The directory with everything in it, whoever owns that."""
        ...

    async def snapshot(self, snapshot: str, volume: str, /) -> None:
        """Keeps the content that the volume has now."""
        ...

    async def has_snapshot(self, snapshot: str, /) -> bool: ...

    async def remove_snapshot(self, snapshot: str, /) -> None: ...

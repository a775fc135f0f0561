"""The recent past, in memory: what watches catch up from and lists at an older revision are rebuilt with.

One queue of all changes in the order of their revisions, bounded in number and in bytes, and the same changes
again per resource. `floor` is the newest revision that was forgotten: whoever saw `floor` or later can be told
everything since; whoever saw less cannot, and is told so (`Compacted`), never something incomplete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from podling.store.types import Change, ChangeType, Compacted, Entry, Key


class History:
    """Changes after `floor`, the oldest first."""

    def __init__(self, floor: int, *, max_changes: int, max_bytes: int) -> None:
        self.floor = floor
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._bytes = 0
        self._changes: deque[Change] = deque()
        self._by_resource: dict[str, deque[Change]] = {}

    def append(self, change: Change) -> None:
        self._changes.append(change)
        self._by_resource.setdefault(change.entry.key.resource, deque()).append(change)
        self._bytes += _size(change)
        while len(self._changes) > self._max_changes or self._bytes > self._max_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        change = self._changes.popleft()
        resource = change.entry.key.resource
        of_resource = self._by_resource[resource]
        of_resource.popleft()
        if not of_resource:
            del self._by_resource[resource]
        self._bytes -= _size(change)
        self.floor = change.entry.revision

    def since(self, resource: str, revision: int) -> list[Change]:
        """The changes of `resource` after `revision`, the oldest first. Raises `Compacted`."""
        if revision < self.floor:
            raise Compacted(self.floor)
        found: list[Change] = []
        for change in reversed(self._by_resource.get(resource, ())):
            if change.entry.revision <= revision:
                break
            found.append(change)
        found.reverse()
        return found

    def rest(self) -> None:
        """Lets go of parsed versions that nobody used lately, of those that only the history still has."""
        for change in self._changes:
            if change.type is ChangeType.DELETED:
                change.entry.rest()
            if change.previous is not None:
                change.previous.rest()

    def rewind(self, resource: str, present: Iterable[Entry], revision: int) -> dict[Key, Entry]:
        """What `present` was at `revision`: the newer changes undone, the newest first. Raises `Compacted`."""
        entries = {entry.key: entry for entry in present}
        for change in reversed(self.since(resource, revision)):
            if change.previous is None:
                entries.pop(change.entry.key, None)
            else:
                entries[change.entry.key] = change.previous
        return entries


def _size(change: Change) -> int:
    """The bytes that only the history keeps alive: the superseded version."""
    return len(change.previous.raw) if change.previous else 0

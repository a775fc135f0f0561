"""Watches of kinds whose versions somebody has to be asked for.

Changes wait in a queue while those before them are converted, all that wait together in one call, so that their order
holds. What one watcher had converted serves the others too, as the watch cache of Kubernetes does. A conversion that
fails ends the watch with an error: the client comes back and hears of it again until it is mended, instead of missing
a change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from podling.api.errors import ApiError, internal
from podling.api.registry import Registry
from podling.api.resources import Conversion, Resource
from podling.api.watch import Outlet, Wanted, WatchSession
from podling.store.types import Change, ChangeType, Entry, Key

_log = logging.getLogger(__name__)
_REMEMBERED: Final = 1024
"""So many conversions are kept for other watchers: those of the last commits."""

_Place = tuple[Conversion, Key, int]
_Pending = asyncio.Task[Sequence[Entry]]


class SharedConversions:
    """What was converted for a watch lately, or is being converted. What failed is forgotten."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[_Place, tuple[_Pending, int]] = {}

    async def converted(self, resource: Resource, entries: Sequence[Entry]) -> Sequence[Entry]:
        """See `Registry.converted`."""
        assert resource.conversion is not None
        places = [(resource.conversion, entry.key, entry.revision) for entry in entries]
        missing = [entry for entry, place in zip(entries, places, strict=True) if place not in self._known]
        if missing:
            self._begin(resource, resource.conversion, missing)
        found = [self._known[place] for place in places]
        for task in dict.fromkeys(task for task, _ in found):
            await asyncio.shield(task)
        self._forget_oldest()
        return [task.result()[at] for task, at in found]

    def _begin(self, resource: Resource, conversion: Conversion, entries: Sequence[Entry]) -> None:
        task = asyncio.get_running_loop().create_task(self._convert(resource, conversion, entries))
        for at, entry in enumerate(entries):
            self._known[conversion, entry.key, entry.revision] = task, at

    async def _convert(self, resource: Resource, conversion: Conversion, entries: Sequence[Entry]) -> Sequence[Entry]:
        try:
            return await self._registry.converted(resource, entries)
        except BaseException:
            for entry in entries:
                self._known.pop((conversion, entry.key, entry.revision), None)
            raise

    def _forget_oldest(self) -> None:
        for place in list(self._known)[: max(0, len(self._known) - _REMEMBERED)]:
            del self._known[place]


class ConvertedWatch(WatchSession):
    """One running watch of such a kind."""

    def __init__(self, shared: SharedConversions, registry: Registry, wanted: Wanted, stream: Outlet) -> None:
        super().__init__(registry, wanted, stream)
        self._shared = shared
        self._waiting: list[Change] = []
        self._came = asyncio.Event()
        self._busy = True
        self._working: asyncio.Task[None] | None = None

    def _begin(self) -> None:
        after = self._continues_after()
        if after is None:
            entries = self._store.list(self._resource.storage_key, self._namespace)
            first = [Change(ChangeType.ADDED, entry, None) for entry in entries]
        else:
            first = self._store.changes(self._resource.storage_key, after)
        end = self._initial_end() if after is None else b""
        self._sent_revision = self._store.revision
        self._working = asyncio.get_running_loop().create_task(self._work(first, end))

    async def _work(self, first: Sequence[Change], end: bytes) -> None:
        try:
            self._stream.write(self._encode(await self._converted(first)) + end)
            while True:
                self._busy = False
                await self._came.wait()
                self._came.clear()
                self._busy = True
                changes, self._waiting = self._waiting, []
                data = self._encode(await self._converted(changes))
                self._sent_revision = changes[-1].entry.revision
                if data:
                    self._stream.write(data)
        except ApiError as error:
            self._stream.write(self._encoder.error(error))
        except Exception:  # noqa: BLE001  the supervisor of this watch: the client must not wait for what never comes
            _log.exception("a watch of %s failed", self._resource.group_resource)
            self._stream.write(self._encoder.error(internal("the watch failed; the server's log says more")))
        self._working = None
        self._end()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        due = [change for change in changes if change.entry.revision > self._after]
        if due:
            self._waiting += due
            self._came.set()

    async def _converted(self, changes: Sequence[Change]) -> Sequence[Change]:
        selected = [self._needed(change) for change in changes if self._is_ours(change)]
        entries = {id(entry): entry for change in selected for entry in _entries(change)}
        shown = dict(zip(entries, await self._shared.converted(self._resource, [*entries.values()]), strict=True))
        return [
            Change(type_, shown[id(entry)], shown[id(previous)] if previous is not None else None)
            for type_, entry, previous in selected
        ]

    def _needed(self, change: Change) -> Change:
        """What was before counts only where something is selected."""
        return change._replace(previous=None) if self._options.selection.empty else change

    def _is_ours(self, change: Change) -> bool:
        key = change.entry.key
        return self._namespace in (None, key.namespace) and self._options.selection.matches_key(key)

    def _bookmark(self) -> None:
        """Never past what is still being converted."""
        if not self._busy and not self._waiting:
            super()._bookmark()

    def _stop(self) -> None:
        super()._stop()
        if self._working is not None:
            self._working.cancel()


def _entries(change: Change) -> Iterable[Entry]:
    return (change.entry,) if change.previous is None else (change.entry, change.previous)

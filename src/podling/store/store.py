"""The truth of a cluster: versioned objects, one counter for all of them, and every change in its order.

All methods belong to one event loop; only waiting for the disk is left to a thread of its own. A write goes so:

1. It is checked against the newest version, also one that is still being written, gets the next revision and
   joins the queue (`create`, `update`, `delete`; what they raise, they raise at once).
2. When the disk is free, all that is queued becomes one batch and one transaction; the thread commits it, with one
   flush. (SQLite's single steps are shorter than handing them to a thread, which besides had to wait for Python's
   lock at each of them.)
3. Back on the loop the batch becomes visible at once: memory, history, then watchers, then the writers' answers.

So nobody ever sees, and no watcher is ever told, what a crash could take back. If a transaction fails, its batch and
everything queued behind it (which may build on it) fail together, and the next write starts from what is committed.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from podling.store.disk import Disk, Durability
from podling.store.history import History
from podling.store.memory import IndexFunction, Memory
from podling.store.types import (
    AlreadyExists,
    Change,
    ChangeType,
    Conflict,
    Entry,
    Key,
    NotFound,
    Object,
    StorageFailed,
    StoreError,
    compact_json,
)

ChangeHandler = Callable[[Sequence[Change]], None]
"""Gets the changes of one resource that became visible together."""

_log = logging.getLogger(__name__)
_KEPT_PARSED = 512
"""So many of the newest writes keep their parsed objects in any case."""
_PRUNE_EVERY = 512
"""History rows are deleted from the disk in lots of about this many revisions."""


class _Write:
    """A change on its way to the disk and those who wait for it."""

    __slots__ = ("change", "waiters")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.waiters: list[asyncio.Future[Entry]] = []


EVERYTHING = "*"


class Watch:
    """A running subscription; `close()` ends it."""

    def __init__(self, watchers: dict[Watch, ChangeHandler], handler: ChangeHandler) -> None:
        self._watchers = watchers
        watchers[self] = handler

    def close(self) -> None:
        self._watchers.pop(self, None)


class Store:
    """Objects by `Key`. Reads are answered from memory with what is committed.

    `durability` is explained at `podling.store.disk.Durability`; `max_changes` and `max_bytes` bound the history.
    Opening raises `StorageFailed` (damaged, in use by another process, no permission).
    """

    def __init__(
        self,
        path: Path | str,
        *,
        durability: Durability = "full",
        max_changes: int = 10_000,
        max_bytes: int = 16 << 20,
    ) -> None:
        self._disk = Disk(path, durability)
        self._memory = Memory()
        self._revision, floor, entries = self._disk.load()
        self._history = History(floor, max_changes=max_changes, max_bytes=max_bytes)
        for entry in entries:
            self._memory.load(entry)
        for change in self._disk.changes(floor, entries):
            self._history.append(change)
        self._fresh: deque[Entry] = deque()
        self._pruned = floor
        self._assigned = self._revision
        self._queued: list[_Write] = []
        self._pending: dict[Key, _Write] = {}
        self._flush_due = False
        self._writing = False
        self._watchers: dict[str, dict[Watch, ChangeHandler]] = {}
        self._batches: queue.SimpleQueue[tuple[list[_Write], int | None, asyncio.AbstractEventLoop] | None]
        self._batches = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit_batches, name="store", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finishes what the thread is writing and closes the file; queued writes fail."""
        self._batches.put(None)
        self._thread.join()
        self._fail(self._queued, StorageFailed("the store is closed"))
        self._disk.close()

    # Reading

    @property
    def revision(self) -> int:
        """The newest visible revision."""
        return self._revision

    def get(self, key: Key) -> Entry | None:
        return self._memory.get(key)

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Entry]:
        """The objects in the API's order; of all namespaces for `None`."""
        return self._memory.list(resource, namespace)

    def list_at(self, resource: str, namespace: str | None, revision: int) -> Sequence[Entry]:
        """What `list` answered when `revision` was the newest. Raises `Compacted`."""
        present = self._memory.list(resource, namespace)
        if not self._history.since(resource, revision):
            return present
        entries = self._history.rewind(resource, present, revision).values()
        within = (e for e in entries if namespace is None or e.key.namespace == namespace)
        return sorted(within, key=lambda e: (f"{e.key.namespace}/", e.key.name))

    def owned(self, uid: str) -> Sequence[Entry]:
        """The objects with an owner reference to `uid`."""
        return self._memory.owned(uid)

    def resources(self) -> Sequence[str]:
        """The resources of which at least one object exists."""
        return self._memory.resources()

    def add_index(self, resource: str, name: str, values: IndexFunction) -> None:
        """Keeps the objects of `resource` findable by `values(object)` under `name`."""
        self._memory.add_index(resource, name, values)

    def indexed(self, resource: str, name: str, value: str) -> Sequence[Entry]:
        return self._memory.indexed(resource, name, value)

    def latest(self, key: Key) -> Entry | None:
        """The newest version, even if it is still being written: what an update has to build on."""
        write = self._pending.get(key)
        if write is None:
            return self._memory.get(key)
        return None if write.change.type is ChangeType.DELETED else write.change.entry

    async def settled(self, key: Key) -> None:
        """Returns when no write of `key` is on its way; raises what that write raises."""
        write = self._pending.get(key)
        if write is not None:
            await self._wait(write)

    # Writing

    def create(self, key: Key, obj: Object) -> asyncio.Future[Entry]:
        """Stores a new object, which now belongs to the store, and sets its resourceVersion.

        The future is done when the object is on the disk and visible. Raises `AlreadyExists`.
        """
        if self.latest(key) is not None:
            raise AlreadyExists(str(key))
        return self._enqueue(Change(ChangeType.ADDED, self._new_entry(key, obj), None))

    def update(self, key: Key, obj: Object, *, expected: int | None = None) -> asyncio.Future[Entry]:
        """Replaces an object. Raises `NotFound`, and `Conflict` if it is not at revision `expected`."""
        previous = self._expect(key, expected)
        return self._enqueue(Change(ChangeType.MODIFIED, self._new_entry(key, obj), previous))

    def delete(self, key: Key, *, expected: int | None = None) -> asyncio.Future[Entry]:
        """Removes an object; the future gives its last state at the revision of the deletion."""
        previous = self._expect(key, expected)
        self._assigned += 1
        return self._enqueue(Change(ChangeType.DELETED, previous.at(self._assigned), previous))

    def _expect(self, key: Key, expected: int | None) -> Entry:
        previous = self.latest(key)
        if previous is None:
            raise NotFound(str(key))
        if expected is not None and previous.revision != expected:
            raise Conflict(f"{key} is at revision {previous.revision}, not {expected}")
        return previous

    def _new_entry(self, key: Key, obj: Object) -> Entry:
        self._assigned += 1
        obj["metadata"]["resourceVersion"] = str(self._assigned)
        return Entry(key, self._assigned, compact_json(obj), obj)

    def _enqueue(self, change: Change) -> asyncio.Future[Entry]:
        write = _Write(change)
        self._queued.append(write)
        self._pending[change.entry.key] = write
        future = self._wait(write)
        if not self._flush_due and not self._writing:
            self._flush_due = True
            future.get_loop().call_soon(self._flush)
        return future

    def _wait(self, write: _Write) -> asyncio.Future[Entry]:
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        write.waiters.append(future)
        return future

    def _flush(self) -> None:
        self._flush_due = False
        if self._writing or not self._queued:
            return
        batch, self._queued = self._queued, []
        try:
            self._disk.write([write.change for write in batch])
        except StorageFailed as failure:
            self._refuse(batch, failure)
            return
        self._writing = True
        self._batches.put((batch, self._prunable(), asyncio.get_running_loop()))

    def _prunable(self) -> int | None:
        return self._history.floor if self._history.floor - self._pruned >= _PRUNE_EVERY else None

    def _commit_batches(self) -> None:
        """The thread: commits batches until told to stop."""
        while (item := self._batches.get()) is not None:
            batch, floor, loop = item
            failure: StorageFailed | None = None
            try:
                self._disk.commit(floor)
            except StorageFailed as error:
                failure = error
            except Exception as error:  # noqa: BLE001  a thread that ended would let every later write wait for ever
                _log.exception("the disk thread failed")
                failure = StorageFailed(f"{self._disk.path}: {error}")
            try:
                loop.call_soon_threadsafe(self._committed, batch, floor, failure)
            except RuntimeError:
                return  # the loop is closed: nobody waits for an answer any more

    def _committed(self, batch: Sequence[_Write], floor: int | None, failure: StorageFailed | None) -> None:
        self._writing = False
        if failure is not None:
            self._refuse(batch, failure)
            return
        if floor is not None:
            self._pruned = floor
        self._publish([write.change for write in batch])
        for write in batch:
            if self._pending.get(write.change.entry.key) is write:
                del self._pending[write.change.entry.key]
            for future in write.waiters:
                if not future.done():
                    future.set_result(write.change.entry)
        self._flush()

    def _refuse(self, batch: Sequence[_Write], failure: StorageFailed) -> None:
        _log.error("a write failed: %s", failure)
        self._fail([*batch, *self._queued], failure)

    def _fail(self, writes: Iterable[_Write], failure: StoreError) -> None:
        for write in writes:
            for future in write.waiters:
                if not future.done():
                    future.set_exception(failure)
        self._queued = []
        self._pending.clear()

    def _publish(self, changes: Sequence[Change]) -> None:
        by_resource: dict[str, list[Change]] = {}
        for change in changes:
            new = None if change.type is ChangeType.DELETED else change.entry
            self._memory.apply(change.entry.key, change.previous, new)
            self._history.append(change)
            by_resource.setdefault(change.entry.key.resource, []).append(change)
        self._revision = changes[-1].entry.revision
        for resource, of_resource in by_resource.items():
            for watchers in (self._watchers.get(resource, {}), self._watchers.get(EVERYTHING, {})):
                for handler in list(watchers.values()):
                    self._tell(handler, of_resource)
        self._rest_behind(changes)

    def _rest_behind(self, changes: Sequence[Change]) -> None:
        """Lets go of the parsed objects of writes that lie a while back and that nobody read since.

        A burst of writes would else hold memory at its peak, and what is freed later stays with the process.
        """
        for change in changes:
            change.entry.rest()
            self._fresh.append(change.entry)
        while len(self._fresh) > _KEPT_PARSED:
            self._fresh.popleft().rest()

    def _tell(self, handler: ChangeHandler, changes: Sequence[Change]) -> None:
        try:
            handler(changes)
        except Exception:  # noqa: BLE001  one watcher's fault must not keep the change from the others
            _log.exception("a watcher failed")

    # Watching

    def watch(self, resource: str, handler: ChangeHandler) -> Watch:
        """Calls `handler` with every change of `resource` that becomes visible from now on.

        `EVERYTHING` is every resource. Together with `list` or `changes` in the same step of the loop nothing is
        missed and nothing comes twice.
        """
        return Watch(self._watchers.setdefault(resource, {}), handler)

    def changes(self, resource: str, after: int) -> Sequence[Change]:
        """The visible changes of `resource` after that revision. Raises `Compacted`."""
        return self._history.since(resource, after)

    @property
    def floor(self) -> int:
        """The oldest revision from which a watch can be continued."""
        return self._history.floor

    def trim(self) -> None:
        """Lets go of parsed objects that nobody used since the last call; to be called now and then."""
        for resource in self._memory.resources():
            for entry in self._memory.list(resource, None):
                entry.rest()
        self._history.rest()

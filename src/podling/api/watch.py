"""Watches over HTTP: changes as a stream of JSON lines, from now, from a revision, or from the beginning.

All changes of one commit go out in one write. A change is judged by the selection before and after it: an object
that begins to match is ADDED, one that no longer does is DELETED (shown as it was, at the revision of the change).
A reader who does not keep up is cut off by the stream and comes back with the last revision it saw.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import orjson

from podling.api.errors import ApiError, expired
from podling.api.lists import ListOptions, check_present, parse_version
from podling.api.negotiation import Form, Shape
from podling.api.registry import Registry
from podling.api.resources import Resource
from podling.api.table import partial, table
from podling.store.types import Change, ChangeType, Compacted, Entry, Object

_SHORTEST_DEFAULT = 1800
"""A watch without `timeoutSeconds` ends after this many seconds, or up to twice as many, so that not all watchers
come back at once (`minRequestTimeout`)."""
_BOOKMARK_EVERY = 60.0
_BOOKMARK_BEFORE_END = 2.0
_INITIAL_END = {"k8s.io/initial-events-end": "true"}

Event = tuple[str, Entry]


class Outlet(Protocol):
    """Where the lines of a watch go."""

    on_close: Callable[[], None] | None
    """Called once when the reader goes away."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class EventEncoder:
    """Writes events in the form that the client accepts."""

    def __init__(self, resource: Resource, form: Form, include: str, clock: Callable[[], datetime]) -> None:
        self._resource = resource
        self._form = form
        self._include = include
        self._clock = clock
        self._with_columns = True
        self._raw = form.shape is Shape.OBJECT and resource.from_storage is None

    def event(self, type: str, entry: Entry) -> bytes:
        if self._raw:
            return b'{"type":"%b","object":%b}\n' % (type.encode(), entry.raw)
        convert = self._resource.from_storage
        return self._line(type, self._shape(entry.object if convert is None else convert(entry.object), self._include))

    def bookmark(self, revision: int, annotations: Object | None = None) -> bytes:
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        obj: Object = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        return self._line("BOOKMARK", self._shape(obj, "Metadata" if annotations else self._include))

    def error(self, error: ApiError) -> bytes:
        return self._line("ERROR", error.status())

    def _line(self, type: str, obj: Object) -> bytes:
        return orjson.dumps({"type": type, "object": obj}) + b"\n"

    def _shape(self, obj: Object, include: str) -> Object:
        if self._form.shape is Shape.OBJECT:
            return obj
        if self._form.shape is not Shape.TABLE:
            return partial(obj, f"meta.k8s.io/{self._form.version}")
        with_columns, self._with_columns = self._with_columns, False
        return table(
            self._resource,
            [obj],
            {"resourceVersion": obj["metadata"]["resourceVersion"]},
            self._clock(),
            include=include,
            version=self._form.version,
            with_columns=with_columns,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client wants to watch, and in which form."""

    resource: Resource
    namespace: str | None
    options: ListOptions
    encoder: EventEncoder


class WatchSession:
    """One running watch."""

    def __init__(self, registry: Registry, wanted: Wanted, stream: Outlet) -> None:
        self._store = registry.store
        self._registry = registry
        self._resource = wanted.resource
        self._namespace = wanted.namespace
        self._options = wanted.options
        self._encoder = wanted.encoder
        self._stream = stream
        self._sent_revision = 0
        self._after = parse_version(wanted.options.version)
        self._timers: list[asyncio.TimerHandle] = []

    def start(self) -> None:
        """Sends what is due at once and everything that follows, until the time is over or the client leaves."""
        self._watch = self._store.watch(self._resource.storage_key, self._on_changes)
        self._stream.on_close = self._stop
        try:
            self._begin()
        except Compacted:
            self._refuse(expired(f"too old resource version: {self._options.version} ({self._store.floor})"))
        except ApiError as error:
            self._refuse(error)
        else:
            self._schedule()

    def _begin(self) -> None:
        """What is due at once. Raises Compacted, and ApiError for a beginning that is not there yet."""
        first = self._first_events()
        self._sent_revision = self._store.revision
        self._stream.write(first)

    def _first_events(self) -> bytes:
        after = self._continues_after()
        if after is None:
            return self._present() + self._initial_end()
        return self._encode(self._store.changes(self._resource.storage_key, after))

    def _continues_after(self) -> int | None:
        """The revision whose followers are due first; `None`: all that is there is."""
        version, send_initial = self._after, self._options.send_initial
        if send_initial:
            check_present(version, self._store.revision)
        if send_initial or (version == 0 and send_initial is None):
            return None
        return version or self._store.revision

    def _present(self) -> bytes:
        entries = self._registry.select(self._resource, self._namespace, self._options.selection)
        return b"".join([self._encoder.event("ADDED", entry) for entry in entries])

    def _initial_end(self) -> bytes:
        """What a client is told after all that is there, where it asked for that."""
        if not (self._options.send_initial and self._options.bookmarks):
            return b""
        return self._encoder.bookmark(self._store.revision, dict(_INITIAL_END))

    def _refuse(self, error: ApiError) -> None:
        self._stream.write(self._encoder.error(error))
        self._end()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        timeout = self._options.timeout
        seconds = float(timeout) if timeout else _SHORTEST_DEFAULT * (1 + random.random())
        self._timers.append(loop.call_later(seconds, self._end))
        if self._options.bookmarks:
            if seconds > _BOOKMARK_BEFORE_END:
                self._timers.append(loop.call_later(seconds - _BOOKMARK_BEFORE_END, self._bookmark))
            self._timers.append(loop.call_later(_BOOKMARK_EVERY, self._bookmark_again))

    def _bookmark_again(self) -> None:
        self._bookmark()
        self._timers = [timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()]
        self._timers.append(asyncio.get_running_loop().call_later(_BOOKMARK_EVERY, self._bookmark_again))

    def _bookmark(self) -> None:
        if self._store.revision > self._sent_revision:
            self._sent_revision = self._store.revision
            self._stream.write(self._encoder.bookmark(self._store.revision))

    def _end(self) -> None:
        self._stop()
        self._stream.close()

    def _stop(self) -> None:
        self._watch.close()
        for timer in self._timers:
            timer.cancel()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        if changes[0].entry.revision <= self._after:  # a watch may begin in the future
            changes = [change for change in changes if change.entry.revision > self._after]
        data = self._encode(changes)
        if data:
            self._sent_revision = changes[-1].entry.revision
            self._stream.write(data)

    def _encode(self, changes: Sequence[Change]) -> bytes:
        events = [self._encoder.event(*event) for change in changes if (event := self._event(change)) is not None]
        return b"".join(events)

    def _event(self, change: Change) -> Event | None:
        """What a change looks like through the selection."""
        entry = change.entry
        if self._namespace is not None and entry.key.namespace != self._namespace:
            return None
        selection = self._options.selection
        if selection.empty:
            return change.type.value, entry
        before = change.previous is not None and selection.matches(change.previous)
        after = change.type is not ChangeType.DELETED and selection.matches(entry)
        if after:
            return ("MODIFIED" if before else "ADDED"), entry
        if not before:
            return None
        if change.type is ChangeType.DELETED:
            return "DELETED", entry
        assert change.previous is not None
        return "DELETED", change.previous.at(entry.revision)

"""Events about objects, as client-go's recorder writes them (`tools/record`): core/v1, counted and joined.

An event that is equal to an earlier one raises that one's `count`. Ten that differ in nothing but the message, within
ten minutes, become one event whose message begins with `(combined from similar events): `. An object may cause 25
events at once and then one in five minutes (the "spam filter" of client-go); a fault that repeats fast so stays
readable and cannot fill the store.

Recording never waits and never fails: events are written one after the other by a task; what cannot be written is
dropped with a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from socket import gethostname
from typing import Any, cast

from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.meta import timestamp
from podling.store.types import Object

_log = logging.getLogger(__name__)
_MOST_REMEMBERED = 4096
_SIMILAR_LIMIT = 10
_SIMILAR_WINDOW = 600.0
_BURST = 25
_REFILL_SECONDS = 300.0
_COMBINED = "(combined from similar events): "
_LONGEST_MESSAGE = 1024

Reference = Object
"""`involvedObject`."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def reference_to(obj: Object, field_path: str = "") -> Reference:
    """An `ObjectReference` to a whole object."""
    metadata = cast(Object, obj.get("metadata") or {})
    fields = {
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": metadata.get("resourceVersion"),
        "fieldPath": field_path,
    }
    return {k: v for k, v in fields.items() if v}


@dataclass(slots=True)
class _Bucket:
    """A token bucket: how many events an object may still cause."""

    tokens: float
    filled_at: float

    def take(self, now: float) -> bool:
        self.tokens = min(_BURST, self.tokens + (now - self.filled_at) / _REFILL_SECONDS)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Similar:
    """The different messages of events that are otherwise alike."""

    since: float
    messages: set[str] = field(default_factory=set[str])


@dataclass(slots=True)
class _Written:
    """An event that is in the store."""

    name: str
    count: int


class _Remembered(OrderedDict[tuple[Any, ...], Any]):
    """A map that forgets what was not used for longest."""

    def recall(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self:
            self[key] = make()
        self.move_to_end(key)
        while len(self) > _MOST_REMEMBERED:
            self.popitem(last=False)
        return self[key]


class Recorder:
    """`podling.api.client.EventRecorder` for one component (`kubelet`, `deployment-controller`)."""

    def __init__(
        self, client: Client, component: str, *, host: str = "", clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock
        self._buckets = _Remembered()
        self._similar = _Remembered()
        self._written: OrderedDict[tuple[Any, ...], _Written] = OrderedDict()
        self._queue: asyncio.Queue[tuple[tuple[Any, ...], Object]] = asyncio.Queue(1000)
        self._writer: asyncio.Task[None] | None = None

    def __call__(
        self, regarding: Object, type: str, reason: str, message: str, *, field_path: str = "", action: str = ""
    ) -> None:
        now = self._clock()
        reference = reference_to(regarding, field_path)
        about = (reference.get("uid"), reference.get("kind"), reference.get("namespace"), reference.get("name"))
        if not self._allowed(about, now.timestamp()):
            return
        alike = (*about, field_path, type, reason)
        message = message[:_LONGEST_MESSAGE]
        combined = self._is_one_of_many(alike, message, now.timestamp())
        key = (*alike, "" if combined else message)
        event = self._event(reference, type, reason, _COMBINED + message if combined else message, now)
        if action:
            event = self._with_action(event, action, now)
        self._enqueue(key, event)

    async def close(self) -> None:
        """Writes what is queued and ends."""
        await self._queue.join()
        if self._writer is not None:
            self._writer.cancel()

    def _allowed(self, about: tuple[Any, ...], now: float) -> bool:
        return cast(_Bucket, self._buckets.recall(about, lambda: _Bucket(_BURST, now))).take(now)

    def _is_one_of_many(self, alike: tuple[Any, ...], message: str, now: float) -> bool:
        similar = cast(_Similar, self._similar.recall(alike, lambda: _Similar(now)))
        if now - similar.since > _SIMILAR_WINDOW:
            similar.since = now
            similar.messages.clear()
        similar.messages.add(message)
        return len(similar.messages) >= _SIMILAR_LIMIT

    def _event(self, reference: Reference, type: str, reason: str, message: str, now: datetime) -> Object:
        namespace = reference.get("namespace") or "default"
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": f"{reference.get('name', '')}.{int(now.timestamp() * 1e9):x}",
                "namespace": namespace,
            },
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
            "count": 1,
            "type": type,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    def _with_action(self, event: Object, action: str, now: datetime) -> Object:
        """The same event as the events.k8s.io recorder writes it: one moment, no source and no count."""
        plain = {k: v for k, v in event.items() if k not in ("source", "firstTimestamp", "lastTimestamp", "count")}
        moment = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        instance = f"{self._component}-{self._host or gethostname()}"
        return {**plain, "eventTime": moment, "action": action, "reportingInstance": instance}

    def _enqueue(self, key: tuple[Any, ...], event: Object) -> None:
        try:
            self._queue.put_nowait((key, event))
        except asyncio.QueueFull:
            _log.warning("too many events at once: dropped %s", event["message"])
            return
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        while True:
            key, event = await self._queue.get()
            try:
                await self._write(key, event)
            except ApiError as error:
                _log.info("event not written: %s", error.message)
            finally:
                self._queue.task_done()

    async def _write(self, key: tuple[Any, ...], event: Object) -> None:
        written = self._written.get(key)
        if written is None or not await self._count_up(written, event):
            await self._client.create("events", event)
            self._written[key] = _Written(event["metadata"]["name"], 1)
        self._written.move_to_end(key)
        while len(self._written) > _MOST_REMEMBERED:
            self._written.popitem(last=False)

    async def _count_up(self, written: _Written, event: Object) -> bool:
        """Joins `event` to an earlier one; false if that is gone (events are kept for an hour)."""
        count = written.count + 1
        if event.get("action"):
            patch: Object = {"series": {"count": count, "lastObservedTime": event["eventTime"]}}
        else:
            patch = {"count": count, "lastTimestamp": event["lastTimestamp"], "message": event["message"]}
        try:
            await self._client.patch("events", event["metadata"]["namespace"], written.name, patch)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        written.count += 1
        return True

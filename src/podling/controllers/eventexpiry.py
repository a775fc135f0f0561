"""Events are forgotten an hour after they were last told, as the API server's `--event-ttl` has it.

Looked at once a minute, all together: a timer for each of thousands of events would cost more than it is worth.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, itself
from podling.store.types import Object

EVENTS = "events"
TIME_TO_LIVE = timedelta(hours=1)
PERIOD = 60.0
FIRST_NAMESPACE = "default"
"""Its key stands for all events: the namespace is always there."""
_AT_ONCE = 100


def last_told(event: Object) -> datetime:
    """The newest of its times; which of them are set depends on who wrote it."""
    series = meta.part(event, "series").get("lastObservedTime")
    times = (series, event.get("lastTimestamp"), event.get("eventTime"), meta.metadata(event).get("creationTimestamp"))
    return max(meta.parse_time(time) for time in times if time)


async def expire(client: Client, now: datetime) -> None:
    """Deletes the events that nobody told for an hour."""
    old = [event for event in client.list(EVENTS) if last_told(event) + TIME_TO_LIVE <= now]
    for start in range(0, len(old), _AT_ONCE):
        await asyncio.gather(*(_delete(client, event) for event in old[start : start + _AT_ONCE]))


async def _delete(client: Client, event: Object) -> None:
    with contextlib.suppress(ApiError):  # somebody else deleted it, or it was told again
        version = meta.metadata(event).get("resourceVersion")
        await client.delete(
            EVENTS, meta.namespace(event), meta.name(event), uid=meta.uid(event), resource_version=version
        )


def controller() -> Controller:
    async def reconcile(context: Context, key: ObjectKey) -> None:
        if key.name == FIRST_NAMESPACE:
            await expire(context.client, context.now())
            context.add_after(key, PERIOD)

    return Controller(
        name="event-expiry",
        user="system:apiserver",
        resource="namespaces",
        watches=(Watch(resource="namespaces", keys=itself),),
        reconcile=reconcile,
        workers=1,
    )

"""Events go an hour after they were last told."""

from __future__ import annotations

import asyncio

from stage import SERVED
from world import World

from podling.controllers import eventexpiry


def event(name: str, **times: object) -> dict:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Event", "metadata": metadata, **times}


def left(*events: dict, after: float) -> list[str]:
    """The names of the events that are there so many seconds later."""

    async def story() -> list[str]:
        world = World([eventexpiry.controller()], SERVED)
        await world.cluster.create("namespaces", {"kind": "Namespace", "metadata": {"name": "default"}})
        for one in events:
            await world.cluster.create("events", one)
        world.start()
        await world.advance(after)
        await world.stop()
        return [o["metadata"]["name"] for o in world.cluster.list("events")]

    return asyncio.run(story())


def test_an_event_lives_for_an_hour() -> None:
    assert left(event("e"), after=3500) == ["e"]
    assert left(event("e"), after=3661) == []


def test_an_event_that_is_told_again_lives_on() -> None:
    again = event("again", lastTimestamp="2026-01-01T00:30:00Z")
    series = event("series", series={"count": 2, "lastObservedTime": "2026-01-01T00:45:00.000000Z"})
    assert left(again, series, after=3661) == ["again", "series"]
    assert left(again, series, after=5461) == ["series"]

"""`python -m fuzz.soak`: mixed load, and watchers that lose their connection again and again and miss nothing.

Every object carries a serial number of its writer. A watcher keeps the resourceVersions of all events it was given;
it reconnects from one of them, sometimes an old one. At the end what every watcher has seen must be what the store
has: the same objects, and no event missed or repeated among those that all watchers saw.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import ssl
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fuzz import ground as grounds
from fuzz.ground import Ground
from fuzz.wire import request

MAPS = "/api/v1/namespaces/fuzz/configmaps"
WATCHERS = 200
WRITERS = 4
NAMES = 60
GROWTH = 32.0
"""MiB by which the daemon may be larger at the end than after the first quarter."""
SETTLE = 15.0


@dataclass
class Watcher:
    """One client's view: the objects it knows and every event since `begin`."""

    begin: int
    rng: random.Random
    objects: dict[str, str] = field(default_factory=dict[str, str])
    seen: list[int] = field(default_factory=list[int])
    faults: list[str] = field(default_factory=list[str])
    reconnects: int = 0

    @property
    def version(self) -> int:
        return self.seen[-1] if self.seen else self.begin

    def take(self, event: dict[str, Any], replay: list[int]) -> None:
        """One event; `replay` holds those that must come first, again, after a reconnect from an older one."""
        obj = event["object"]
        if event["type"] == "BOOKMARK":
            return
        if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
            self.faults.append(f"event {event}")
            return
        version = int(obj["metadata"]["resourceVersion"])
        if replay:
            expected = replay.pop(0)
            if version != expected:
                self.faults.append(f"replayed {version} where {expected} was seen before")
            return
        if version <= self.version:
            self.faults.append(f"{version} repeated or out of order after {self.version}")
        self.seen.append(version)
        self._apply(event["type"], obj["metadata"]["name"], str(version))

    def _apply(self, kind: str, name: str, version: str) -> None:
        if (kind == "ADDED") == (name in self.objects):
            self.faults.append(
                f"{kind} of {name} at {version}, which {'is' if name in self.objects else 'is not'} there"
            )
        if kind == "DELETED":
            self.objects.pop(name, None)
        else:
            self.objects[name] = version


class Soak:
    """The load on one cluster."""

    def __init__(self, ground: Ground, seconds: float, seed: int) -> None:
        self._place = ground.place
        self._tls = ground.place.context
        self._rng = random.Random(seed)
        self._until = time.monotonic() + seconds
        self._over = asyncio.Event()
        self._written: dict[str, int] = {}
        self.faults: list[str] = []
        self.writes = 0
        self.watchers: list[Watcher] = []

    async def run(self) -> None:
        begin = int((await self._fetch("GET", MAPS))["metadata"]["resourceVersion"])
        listed = (await self._fetch("GET", MAPS))["items"]
        known = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed}
        self.watchers = [Watcher(begin, random.Random(self._rng.random()), dict(known)) for _ in range(WATCHERS)]
        tasks = [asyncio.create_task(self._follow(watcher)) for watcher in self.watchers]
        await asyncio.gather(*(self._write(n) for n in range(WRITERS)))
        await self._settle()
        self._over.set()
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.faults.append(f"a watcher ended with {outcome!r}")

    async def _settle(self) -> None:
        """Waits until every watcher has what the store has, then compares."""
        listed = await self._fetch("GET", MAPS)
        store = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed["items"]}
        deadline = time.monotonic() + SETTLE
        while any(w.objects != store for w in self.watchers) and time.monotonic() < deadline:  # noqa: ASYNC110  many conditions, none an event
            await asyncio.sleep(0.1)
        reference = max((w.seen for w in self.watchers), key=len)
        for number, watcher in enumerate(self.watchers):
            if watcher.objects != store:
                self.faults.append(f"watcher {number} sees other objects than the store has")
            if watcher.seen != reference:
                lost = sorted(set(reference) ^ set(watcher.seen))[:5]
                self.faults.append(f"watcher {number} differs from the others in {lost}")
            self.faults += [f"watcher {number}: {fault}" for fault in watcher.faults[:3]]

    # Writers

    async def _write(self, number: int) -> None:
        """One kept-alive connection that changes objects of its own."""
        rng = random.Random(self._rng.random())
        reader, writer = await self._connect()
        while time.monotonic() < self._until:
            name = f"soak-{number}-{rng.randrange(NAMES // WRITERS)}"
            self.writes += 1
            body = json.dumps(
                {"metadata": {"name": name}, "data": {"serial": str(self.writes), "pad": "x" * 500}}
            ).encode()
            action = rng.choices(("POST", "PUT", "PATCH", "DELETE", "GET"), (3, 3, 3, 1, 2))[0]
            path = MAPS if action == "POST" else f"{MAPS}/{name}"
            kind = "application/merge-patch+json" if action == "PATCH" else "application/json"
            writer.write(request(action, path, b"" if action in ("GET", "DELETE") else body, (("Content-Type", kind),)))
            status, _ = await _answer(reader)
            if status >= 500:
                self.faults.append(f"{action} {path}: {status}")
            await asyncio.sleep(rng.random() * 0.08)
        await _close(writer)

    # Watchers

    async def _follow(self, watcher: Watcher) -> None:
        await asyncio.sleep(watcher.rng.random() * 2)
        while not self._over.is_set():
            back = watcher.rng.randrange(min(len(watcher.seen), 20) + 1)
            replay = watcher.seen[len(watcher.seen) - back :]
            start = watcher.seen[-back - 1] if len(watcher.seen) > back else watcher.begin
            await self._watch(watcher, start, replay, 1 + watcher.rng.random() * 12)
            watcher.reconnects += 1

    async def _watch(self, watcher: Watcher, start: int, replay: list[int], seconds: float) -> None:
        reader, writer = await self._connect()
        bookmarks = "&allowWatchBookmarks=1" if watcher.rng.random() < 0.5 else ""
        writer.write(request("GET", f"{MAPS}?watch=1&resourceVersion={start}{bookmarks}"))
        until = time.monotonic() + seconds
        try:
            async for event in _events(reader):
                watcher.take(event, replay)
                if time.monotonic() > until and not replay and time.monotonic() < self._until:
                    return
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Who is cancelled meanwhile leaves no connection half made."""
        connecting = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", self._place.port, ssl=self._tls))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            _, writer = await connecting
            writer.transport.abort()
            raise

    async def _fetch(self, method: str, path: str) -> Any:
        reader, writer = await self._connect()
        writer.write(request(method, path))
        _, body = await _answer(reader)
        await _close(writer)
        return json.loads(body)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
    return int(head[0].split(" ")[1]), headers


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, headers = await _head(reader)
    return status, await reader.readexactly(int(headers["content-length"]))


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[Any]:
    status, _ = await _head(reader)
    assert status == 200, status
    rest = b""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        if not size:
            return
        rest += (await reader.readexactly(size + 2))[:-2]
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield json.loads(line)


async def soak(ground: Ground, minutes: float, seed: int) -> list[str]:
    """All faults found."""
    load = Soak(ground, minutes * 60, seed)
    running = asyncio.create_task(load.run())
    await asyncio.sleep(minutes * 60 / 4)
    before = ground.memory()
    await running
    after = ground.memory()
    events = sum(len(w.seen) for w in load.watchers)
    reconnects = sum(w.reconnects for w in load.watchers)
    print(f"{load.writes} requests, {events} events to {WATCHERS} watchers, {reconnects} reconnects")
    print(f"memory after a quarter {before:.0f} MiB, at the end {after:.0f} MiB")
    if after - before > GROWTH:
        load.faults.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
    return load.faults + ground.complaints()[:3]


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m fuzz.soak", description=__doc__)
    options.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES") or 2))
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with grounds.ground() as ground:
        faults = asyncio.run(soak(ground, given.minutes, given.seed))
        if not ground.alive():
            faults.append("the daemon is not the one that began")
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

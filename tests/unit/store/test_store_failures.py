"""The store when things go wrong: killed, out of space, damaged, opened twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import select
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from podling.store.store import Store
from podling.store.types import Key, Object, StorageFailed, StorageFull

KILLS = 100
WRITERS = 8
PATIENCE = 30


def config_map(name: str, size: int = 1) -> Object:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"k": "x" * size}}


def key(name: str) -> Key:
    return Key("configmaps", "default", name)


def storm(path: str, prefix: str, acknowledged: int) -> None:
    """Writes without end and tells each acknowledged name; to be killed."""

    async def writer(store: Store, name: str) -> None:
        number = 0
        while True:
            number += 1
            entry = await store.create(key(f"{prefix}-{name}-{number}"), config_map("x", 200))
            os.write(acknowledged, f"{entry.key.name} {entry.revision}\n".encode())

    async def writers() -> None:
        store = Store(path)
        await asyncio.gather(*(writer(store, str(number)) for number in range(WRITERS)))

    asyncio.run(writers())


def serve_storms(orders: Connection) -> None:
    """Forks a storm for each order, so that a hundred of them need one start of Python; tells when it has begun."""
    while (order := orders.recv()) is not None:
        path, prefix = order
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            storm(path, prefix, writing)
        os.close(writing)
        select.select([reading], [], [], PATIENCE)
        orders.send(pid)
        orders.recv()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as pipe:
            orders.send(pipe.read())


def killed_storm(orders: Any, path: Path, prefix: str, pause: float) -> dict[str, int]:
    """Names and revisions that were acknowledged before the storm was killed."""
    orders.send((str(path), prefix))
    orders.recv()
    time.sleep(pause)
    orders.send("kill")
    lines = orders.recv().decode().split("\n")[:-1]
    return {name: int(revision) for name, revision in (line.split() for line in lines)}


def test_no_acknowledged_write_is_lost_when_the_process_is_killed_a_hundred_times(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve_storms, args=(theirs,))
    server.start()
    everything: dict[str, int] = {}
    chance = random.Random(1)
    try:
        for number in range(KILLS):
            everything |= killed_storm(ours, path, f"round{number}", chance.uniform(0.0, 0.02))
    finally:
        ours.send(None)
        server.join()
    store = Store(path)
    try:
        kept = {entry.key.name: entry.revision for entry in store.list("configmaps")}
        assert len(everything) > KILLS
        assert everything.items() <= kept.items()
        assert len(set(kept.values())) == len(kept)
        assert store.revision >= max(kept.values())
    finally:
        store.close()


def test_a_full_disk_is_said_clearly_and_writes_go_on_when_there_is_room_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db")
        await store.create(key("a"), config_map("a"))
        database: sqlite3.Connection = store._disk._db  # type: ignore[reportPrivateUsage]
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages + 2}")
        told: list[Any] = []
        store.watch("configmaps", told.extend)
        failing = [store.create(key(f"big{n}"), config_map("big", 100_000)) for n in range(3)]
        for result in await asyncio.gather(*failing, return_exceptions=True):
            assert isinstance(result, StorageFull)
            assert "no space left" in str(result)
        assert [entry.key.name for entry in store.list("configmaps")] == ["a"]
        assert told == []
        database.execute("PRAGMA max_page_count = 100000")
        await store.create(key("big0"), config_map("big", 100_000))
        assert [entry.key.name for entry in store.list("configmaps")] == ["a", "big0"]
        store.close()

    asyncio.run(scenario())


def test_a_write_that_builds_on_a_failed_one_fails_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db")
        database: sqlite3.Connection = store._disk._db  # type: ignore[reportPrivateUsage]
        database.execute("PRAGMA max_page_count = 1")
        creating = store.create(key("a"), config_map("a", 100_000))
        updating = store.update(key("a"), config_map("a"))
        results = await asyncio.gather(creating, updating, return_exceptions=True)
        assert [type(result) for result in results] == [StorageFull, StorageFull]
        assert store.latest(key("a")) is None
        store.close()

    asyncio.run(scenario())


def test_a_second_process_cannot_open_the_same_state(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    with pytest.raises(StorageFailed, match="in use by another process"):
        Store(tmp_path / "state.db")
    store.close()
    Store(tmp_path / "state.db").close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database, whatever it is" * 100)
    with pytest.raises(StorageFailed, match=r"state\.db: the state file is damaged"):
        Store(path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="nowhere"):
        Store(tmp_path / "nowhere" / "state.db")


def test_what_is_queued_when_the_store_closes_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db")
        writing = store.create(key("a"), config_map("a"))
        store.close()
        with pytest.raises(StorageFailed, match="closed"):
            await writing

    asyncio.run(scenario())

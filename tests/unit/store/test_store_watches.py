"""What watchers are told: everything, once, in order, and nothing that could be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podling.store.store import Store
from podling.store.types import Change, Compacted, Key, Object


def config_map(name: str, value: str = "v") -> Object:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"k": value}}


def key(name: str) -> Key:
    return Key("configmaps", "default", name)


def seen(changes: Sequence[Change]) -> list[tuple[str, str, int]]:
    return [(change.type.value, change.entry.key.name, change.entry.revision) for change in changes]


async def some_changes(store: Store) -> None:
    await store.create(key("a"), config_map("a"))
    await store.update(key("a"), config_map("a", "w"))
    await store.create(Key("secrets", "default", "s"), config_map("s"))
    await store.delete(key("a"))
    await store.create(key("a"), config_map("a"))


EXPECTED = [("ADDED", "a", 1), ("MODIFIED", "a", 2), ("DELETED", "a", 4), ("ADDED", "a", 5)]


def relative(changes: Sequence[Change], start: int) -> list[tuple[str, str, int]]:
    return [(type, name, revision - start) for type, name, revision in seen(changes)]


def run(path: Path, scenario: Any, **options: Any) -> Any:
    async def inside() -> Any:
        store = Store(path, **options)
        try:
            return await scenario(store)
        finally:
            store.close()

    return asyncio.run(inside())


def test_a_watcher_sees_the_changes_of_its_resource_in_order(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        start = store.revision
        told: list[Change] = []
        watch = store.watch("configmaps", told.extend)
        await some_changes(store)
        assert relative(told, start) == EXPECTED
        assert [change.previous.revision - start if change.previous else None for change in told] == [None, 1, 2, None]
        watch.close()
        await store.delete(key("a"))
        assert len(told) == len(EXPECTED)

    run(tmp_path / "state.db", scenario)


def test_a_watcher_is_told_of_a_change_only_when_it_can_be_read(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        visible: list[bool] = []
        store.watch("configmaps", lambda changes: visible.append(store.get(key("a")) is changes[-1].entry))
        writing = store.create(key("a"), config_map("a"))
        assert visible == []
        await writing
        assert visible == [True]

    run(tmp_path / "state.db", scenario)


def test_one_failing_watcher_does_not_keep_changes_from_the_others(tmp_path: Path, caplog: Any) -> None:
    async def scenario(store: Store) -> None:
        told: list[Change] = []
        store.watch("configmaps", lambda changes: 1 / 0)  # type: ignore[arg-type,return-value]
        store.watch("configmaps", told.extend)
        await store.create(key("a"), config_map("a"))
        assert len(told) == 1

    run(tmp_path / "state.db", scenario)
    assert "a watcher failed" in caplog.text


def test_what_was_missed_can_be_caught_up_from_any_revision_of_the_history(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        start = store.revision
        await some_changes(store)
        for after in range(6):
            expected = [change for change in EXPECTED if change[2] > after]
            assert relative(store.changes("configmaps", start + after), start) == expected

    run(tmp_path / "state.db", scenario)


def test_the_history_survives_a_restart_with_the_versions_before_each_change(tmp_path: Path) -> None:
    async def scenario(store: Store) -> tuple[int, Sequence[Change]]:
        start = store.revision
        await some_changes(store)
        return start, store.changes("configmaps", start)

    async def after_restart(store: Store) -> None:
        again = store.changes("configmaps", start)
        assert seen(again) == seen(before)
        assert [c.entry.object for c in again] == [c.entry.object for c in before]
        assert [c.previous and c.previous.raw for c in again] == [c.previous and c.previous.raw for c in before]

    start, before = run(tmp_path / "state.db", scenario)
    run(tmp_path / "state.db", after_restart)


def test_a_revision_older_than_the_history_is_compacted_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario(store: Store) -> tuple[int, int]:
        start = store.revision
        for number in range(30):
            await store.create(key(f"c{number}"), config_map(f"c{number}"))
        with pytest.raises(Compacted):
            store.changes("configmaps", start)
        assert len(store.changes("configmaps", store.floor)) == 10
        return start, store.floor

    async def after_restart(store: Store) -> None:
        assert store.floor == floor
        with pytest.raises(Compacted):
            store.changes("configmaps", start)

    start, floor = run(tmp_path / "state.db", scenario, max_changes=10)
    run(tmp_path / "state.db", after_restart, max_changes=10)


def test_the_history_is_bounded_in_bytes_and_pruned_on_the_disk(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.create(key("big"), config_map("big"))
        for number in range(1200):
            await store.update(key("big"), config_map("big", f"{number}" + "x" * 1000))
        assert store.revision - store.floor <= 10

    run(tmp_path / "state.db", scenario, max_bytes=10_000, durability="normal")

    async def after_restart(store: Store) -> None:
        assert len(store.changes("configmaps", store.floor)) <= 600

    run(tmp_path / "state.db", after_restart)


Operations = st.lists(st.tuples(st.sampled_from(["put", "delete", "flush"]), st.sampled_from("abc")), max_size=25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=Operations, cut=st.integers(0, 25))
def test_changes_replayed_on_an_old_list_give_the_new_list(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "state.db"

    async def scenario(store: Store) -> tuple[int, dict[Key, int]]:
        middle, then = store.revision, dict[Key, int]()
        writes: list[Any] = []
        for number, (operation, name) in enumerate(operations):
            if number == cut:
                await asyncio.gather(*writes)
                middle, then = store.revision, contents(store)
            writes += write(store, operation, name)
            if operation == "flush":
                await asyncio.gather(*writes)
        await asyncio.gather(*writes)
        assert replayed(then, store.changes("configmaps", middle)) == contents(store)
        return middle, then

    async def after_restart(store: Store) -> None:
        assert replayed(then, store.changes("configmaps", middle)) == contents(store)
        assert {e.key: e.revision for e in store.list_at("configmaps", None, middle)} == then

    middle, then = run(path, scenario, durability="normal")
    run(path, after_restart)


def write(store: Store, operation: str, name: str) -> list[Any]:
    exists = store.latest(key(name)) is not None
    if operation == "put":
        return [(store.update if exists else store.create)(key(name), config_map(name))]
    return [store.delete(key(name))] if operation == "delete" and exists else []


def contents(store: Store) -> dict[Key, int]:
    return {entry.key: entry.revision for entry in store.list("configmaps")}


def replayed(then: dict[Key, int], changes: Sequence[Change]) -> dict[Key, int]:
    now = dict(then)
    for change in changes:
        assert now.get(change.entry.key) == (change.previous.revision if change.previous else None)
        if change.type.value == "DELETED":
            del now[change.entry.key]
        else:
            now[change.entry.key] = change.entry.revision
    return now

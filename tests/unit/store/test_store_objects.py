"""What the store keeps, refuses and finds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from podling.store.store import Store
from podling.store.types import AlreadyExists, Compacted, Conflict, Key, NotFound, Object


def config_map(name: str, namespace: str = "default", **fields: Any) -> Object:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", **fields}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": {"k": "v"}}


def key(name: str, namespace: str = "default") -> Key:
    return Key("configmaps", namespace, name)


def names(entries: Any) -> list[str]:
    return [entry.key.name for entry in entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def with_store(path: Path, scenario: Any, **options: Any) -> Any:
    async def run() -> Any:
        store = Store(path, **options)
        try:
            return await scenario(store)
        finally:
            store.close()

    return asyncio.run(run())


def test_a_created_object_has_the_next_revision_as_its_resource_version(path: Path) -> None:
    async def scenario(store: Store) -> None:
        before = store.revision
        entry = await store.create(key("a"), config_map("a"))
        assert entry.revision == before + 1 == store.revision
        assert entry.object["metadata"]["resourceVersion"] == str(entry.revision)
        assert store.get(key("a")) is entry

    with_store(path, scenario)


def test_every_write_raises_the_one_counter_of_all_resources(path: Path) -> None:
    async def scenario(store: Store) -> None:
        first = await store.create(key("a"), config_map("a"))
        second = await store.create(Key("secrets", "default", "a"), config_map("a"))
        third = await store.delete(key("a"))
        assert [first.revision, second.revision, third.revision] == list(range(first.revision, first.revision + 3))

    with_store(path, scenario)


def test_an_object_is_invisible_until_it_is_on_the_disk(path: Path) -> None:
    async def scenario(store: Store) -> None:
        writing = store.create(key("a"), config_map("a"))
        assert store.get(key("a")) is None
        assert store.list("configmaps") == ()
        latest = store.latest(key("a"))
        assert latest is not None
        assert await writing is latest is store.get(key("a"))

    with_store(path, scenario)


def test_conflicts_are_found_against_writes_that_are_still_on_their_way(path: Path) -> None:
    async def scenario(store: Store) -> None:
        creating = store.create(key("a"), config_map("a"))
        with pytest.raises(AlreadyExists):
            store.create(key("a"), config_map("a"))
        pending = store.latest(key("a"))
        assert pending is not None
        updating = store.update(key("a"), config_map("a"), expected=pending.revision)
        with pytest.raises(Conflict):
            store.update(key("a"), config_map("a"), expected=pending.revision)
        deleting = store.delete(key("a"))
        with pytest.raises(NotFound):
            store.delete(key("a"))
        await asyncio.gather(creating, updating, deleting)
        assert store.get(key("a")) is None

    with_store(path, scenario)


def test_the_last_state_of_a_deleted_object_carries_the_revision_of_the_deletion(path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.create(key("a"), config_map("a"))
        gone = await store.delete(key("a"))
        assert gone.object["data"] == {"k": "v"}
        assert gone.object["metadata"]["resourceVersion"] == str(gone.revision) == str(store.revision)

    with_store(path, scenario)


def test_lists_come_in_the_order_of_the_apis_storage_keys(path: Path) -> None:
    async def scenario(store: Store) -> None:
        for namespace, name in (("b", "x"), ("a", "z"), ("a-b", "y"), ("a", "b"), ("a", "b-c")):
            await store.create(key(name, namespace), config_map(name, namespace))
        await store.delete(key("x", "b"))
        assert [e.key[1:] for e in store.list("configmaps")] == [("a-b", "y"), ("a", "b"), ("a", "b-c"), ("a", "z")]
        assert names(store.list("configmaps", "a")) == ["b", "b-c", "z"]
        assert store.list("configmaps", "b") == ()

    with_store(path, scenario)


def test_objects_are_found_by_the_uid_of_their_owner(path: Path) -> None:
    owned = config_map("child", ownerReferences=[{"uid": "uid-a"}, {"uid": "uid-b"}])

    async def scenario(store: Store) -> None:
        await store.create(key("child"), owned)
        assert names(store.owned("uid-a")) == names(store.owned("uid-b")) == ["child"]
        await store.update(key("child"), config_map("child", ownerReferences=[{"uid": "uid-b"}]))
        assert (names(store.owned("uid-a")), names(store.owned("uid-b"))) == ([], ["child"])

    async def after_restart(store: Store) -> None:
        assert names(store.owned("uid-b")) == ["child"]
        await store.delete(key("child"))
        assert names(store.owned("uid-b")) == []

    with_store(path, scenario)
    with_store(path, after_restart)


def test_an_index_follows_the_changes_of_the_indexed_field(path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.create(key("before"), config_map("before", labels={"node": "n1"}))
        store.add_index("configmaps", "node", lambda obj: [obj["metadata"].get("labels", {}).get("node", "")])
        await store.create(key("after"), config_map("after", labels={"node": "n1"}))
        assert names(store.indexed("configmaps", "node", "n1")) == ["after", "before"]
        await store.update(key("after"), config_map("after", labels={"node": "n2"}))
        await store.delete(key("before"))
        assert names(store.indexed("configmaps", "node", "n1")) == []
        assert names(store.indexed("configmaps", "node", "n2")) == ["after"]

    with_store(path, scenario)


def test_a_list_can_be_taken_as_it_was_at_an_older_revision(path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.create(key("a"), config_map("a"))
        await store.create(key("b"), config_map("b"))
        then = store.revision
        before = list(store.list("configmaps", "default"))
        await store.delete(key("a"))
        await store.update(key("b"), config_map("b", labels={"new": "yes"}))
        await store.create(key("c"), config_map("c"))
        assert list(store.list_at("configmaps", "default", then)) == before
        assert names(store.list_at("configmaps", None, store.revision)) == ["b", "c"]
        with pytest.raises(Compacted):
            store.list_at("configmaps", None, store.floor - 1)

    with_store(path, scenario)


def test_objects_and_the_counter_survive_a_restart(path: Path) -> None:
    async def scenario(store: Store) -> int:
        await store.create(key("a"), config_map("a"))
        await store.create(key("b"), config_map("b"))
        await store.delete(key("b"))
        return store.revision

    async def after_restart(store: Store) -> None:
        assert store.revision == revision
        assert names(store.list("configmaps")) == ["a"]
        assert (await store.create(key("c"), config_map("c"))).revision == revision + 1

    revision = with_store(path, scenario)
    with_store(path, after_restart)


def test_parsed_objects_that_nobody_uses_are_let_go(path: Path) -> None:
    async def scenario(store: Store) -> None:
        entry = await store.create(key("a"), config_map("a", labels={"l": "1"}))
        first = entry.object
        assert entry.labels == {"l": "1"}
        store.trim()
        assert entry.object is first
        store.trim()
        store.trim()
        assert entry.labels == {"l": "1"}
        assert entry.object is not first
        assert entry.object == first

    with_store(path, scenario)

"""Watches over HTTP, and subscriptions and events in process."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from apicore import CONFIG_MAP, CONFIG_MAPS, MERGE, NOW, PARTIAL, TABLE, World, config_map, run
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from podling.api.errors import ApiError
from podling.api.local import LocalClient
from podling.api.recorder import Recorder
from podling.api.resources import User
from podling.store.types import Change


def shown(events: list[Any]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def story(world: World) -> str:
    """A beginning, and what happens after it. Gives the revision of the beginning."""
    first = await world.create(CONFIG_MAP, config_map("w1", {"t": "x"}))
    path = f"{CONFIG_MAPS}/w"
    await world.request("PATCH", f"{path}1", {"data": {"k": "2"}}, Content_Type=MERGE)
    await world.request("POST", CONFIG_MAPS, config_map("w2", {"t": "x"}))
    await world.request("DELETE", f"{path}1")
    await world.request("PATCH", f"{path}2", {"metadata": {"labels": {"t": "y"}}}, Content_Type=MERGE)
    await world.request("PATCH", f"{path}2", {"metadata": {"labels": {"t": "x"}}}, Content_Type=MERGE)
    await world.request("POST", CONFIG_MAPS, config_map("w3", {"t": "z"}))
    await world.request("DELETE", f"{path}2")
    return first["metadata"]["resourceVersion"]


def test_a_watch_goes_on_from_a_revision_and_judges_by_the_selector_before_and_after(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        start = await story(world)
        http = await world.watch(f"{CONFIG_MAPS}?watch=true&labelSelector=t%3Dx&resourceVersion={start}")
        events = await http.events(6)
        assert shown(events) == [
            ("MODIFIED", "w1"), ("ADDED", "w2"), ("DELETED", "w1"),
            ("DELETED", "w2"), ("ADDED", "w2"), ("DELETED", "w2"),
        ]  # fmt: skip
        left = events[3]["object"]["metadata"]
        assert left["labels"] == {"t": "x"}
        assert int(left["resourceVersion"]) == int(events[2]["object"]["metadata"]["resourceVersion"]) + 1

    run(tmp_path, scenario)


def test_a_watch_without_a_revision_begins_with_what_is_there(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        http = await world.watch(f"{CONFIG_MAPS}?watch=1")
        assert shown(await http.events(1)) == [("ADDED", "a")]
        await world.request("POST", CONFIG_MAPS, config_map("b"))
        assert shown(await http.events(1)) == [("ADDED", "b")]

    run(tmp_path, scenario)


def test_a_watch_list_ends_its_beginning_with_a_bookmark(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        options = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        http = await world.watch(f"{CONFIG_MAPS}?watch=true&{options}")
        added, bookmark = await http.events(2)
        assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
        assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert bookmark["object"]["metadata"]["resourceVersion"] == str(world.store.revision)
        bad = await world.request("GET", f"{CONFIG_MAPS}?watch=true&sendInitialEvents=true")
        assert bad.status == 422

    run(tmp_path, scenario)


def test_a_bookmark_in_a_table_is_a_row_of_an_empty_object(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        options = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        http = await world.watch(f"{CONFIG_MAPS}?watch=true&includeObject=None&{options}", Accept=TABLE)
        (bookmark,) = await http.events(1)
        (row,) = bookmark["object"]["rows"]
        assert bookmark["object"]["metadata"] == {"resourceVersion": str(world.store.revision)}
        assert row["object"]["kind"] == "PartialObjectMetadata"
        assert row["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}

    run(tmp_path, scenario)


def test_a_watch_list_of_the_future_is_told_to_wait(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        options = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        http = await world.watch(f"{CONFIG_MAPS}?watch=true&resourceVersion=9999&{options}")
        (event,) = await http.events(1)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 504)
        assert event["object"]["details"]["retryAfterSeconds"] == 1

    run(tmp_path, scenario)


def test_a_watch_from_the_future_begins_when_it_is_there(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.watch(f"{CONFIG_MAPS}?watch=true&resourceVersion={world.store.revision + 1}")
        for name in ("a", "b"):
            await world.create(CONFIG_MAP, config_map(name))
        (event,) = await http.events(1)
        assert event["object"]["metadata"]["name"] == "b"

    run(tmp_path, scenario)


def test_no_watch_is_written_in_yaml(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", f"{CONFIG_MAPS}?watch=true", Accept="application/yaml")
        assert answer.status == 406
        assert b"application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch" in answer.body

    run(tmp_path, scenario)


def test_a_watch_from_a_forgotten_revision_is_told_so_in_the_stream(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.watch(f"{CONFIG_MAPS}?watch=true&resourceVersion=1")
        (event,) = await http.events(1)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await http.chunk() == b""

    run(tmp_path, scenario)


def test_a_watch_ends_after_its_timeout_and_the_connection_goes_on(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.watch(f"{CONFIG_MAPS}?watch=true&timeoutSeconds=1")
        assert await http.chunk() == b""
        assert (await http.request("GET", "/readyz")).status == 200

    run(tmp_path, scenario)


def test_a_watched_table_names_its_columns_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.watch(f"{CONFIG_MAPS}?watch=true", Accept=TABLE)
        for name in ("a", "b"):
            await world.request("POST", CONFIG_MAPS, config_map(name))
        first, second = await http.events(2)
        assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data"]
        assert second["object"]["columnDefinitions"] is None
        assert second["object"]["rows"][0]["cells"] == ["b", 1]

    run(tmp_path, scenario)


def test_the_metadata_alone_can_be_watched(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.watch(f"{CONFIG_MAPS}?watch=true", Accept=PARTIAL)
        await world.request("POST", CONFIG_MAPS, config_map("a"))
        (event,) = await http.events(1)
        assert (event["object"]["kind"], "data" in event["object"]) == ("PartialObjectMetadata", False)

    run(tmp_path, scenario)


def test_one_object_can_be_watched_by_its_path(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.watch("/api/v1/watch/namespaces/default/configmaps/b")
        for name in ("a", "b"):
            await world.request("POST", CONFIG_MAPS, config_map(name))
        assert shown(await http.events(1)) == [("ADDED", "b")]

    run(tmp_path, scenario)


def test_a_watch_that_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        http = await world.watch(f"{CONFIG_MAPS}?watch=true")
        http.close()
        async with asyncio.timeout(5):
            while any(world.store._watchers.values()):  # type: ignore[reportPrivateUsage]  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    run(tmp_path, scenario)


def client(world: World, name: str = "system:kube-controller-manager") -> LocalClient:
    return LocalClient(world.server.registry, User(name), name.rpartition(":")[2])


def test_an_in_process_client_writes_by_the_path_of_requests(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ours = client(world)
        created = await ours.create(
            "configmaps", {"metadata": {"name": "a", "namespace": "default"}, "data": {"k": "1"}}
        )
        assert created["metadata"]["managedFields"][0]["manager"] == "kube-controller-manager"
        await ours.patch("configmaps", "default", "a", {"data": {"k": "2"}})
        stored = ours.get("configmaps", "default", "a")
        assert stored is not None
        assert stored["data"] == {"k": "2"}
        await ours.update("configmaps", {**stored, "data": {"k": "3"}})
        assert stored["data"] == {"k": "2"}
        try:
            await ours.update("configmaps", {**stored, "data": {"k": "4"}})
        except ApiError as error:
            assert error.reason == "Conflict"
        await ours.delete("configmaps", "default", "a", uid=stored["metadata"]["uid"])
        assert ours.get("configmaps", "default", "a") is None
        assert ours.list("configmaps") == []

    run(tmp_path, scenario)


def test_an_in_process_client_is_not_allowed_to_misspell_a_field(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        try:
            await client(world).create("configmaps", {"metadata": {"name": "a", "namespace": "default"}, "dota": {}})
        except ApiError as error:
            assert error.message == 'ConfigMap: unknown field "dota"'
        else:
            raise AssertionError("it was taken")

    run(tmp_path, scenario)


def test_a_subscriber_is_told_of_all_that_is_there_and_then_of_every_change(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        told: list[tuple[str, str]] = []

        def tell(change: Change) -> None:
            told.append((change.type.value, change.entry.key.name))
            if change.entry.key.name == "b":
                raise RuntimeError("a subscriber's fault")

        subscription = client(world).subscribe("configmaps", tell)
        assert told == [("ADDED", "a")]
        await world.create(CONFIG_MAP, config_map("b"))
        await world.request("DELETE", f"{CONFIG_MAPS}/a")
        assert told[1:] == [("ADDED", "b"), ("DELETED", "a")]
        subscription.close()
        await world.create(CONFIG_MAP, config_map("c"))
        assert len(told) == 3

    run(tmp_path, scenario)


class Events:
    """A client that only keeps events."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}

    async def create(self, resource: str, obj: Any) -> Any:
        self.stored[obj["metadata"]["name"]] = obj
        return obj

    async def patch(self, resource: str, namespace: str, name: str, patch: Any) -> Any:
        if name not in self.stored:
            raise ApiError(404, "NotFound", "gone")
        self.stored[name] = {**self.stored[name], **patch}
        return self.stored[name]


POD = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "ns", "uid": "u"}}


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Any:
        self.now += timedelta(seconds=1)
        return self.now


def recorded(write: Any) -> list[Any]:
    async def scenario() -> list[Any]:
        events = Events()
        clock = Clock()
        recorder = Recorder(events, "kubelet", host="n", clock=clock)  # type: ignore[arg-type]
        await write(recorder, events, clock)
        await recorder.close()
        return list(events.stored.values())

    return asyncio.run(scenario())


def test_an_event_tells_who_saw_what_where() -> None:
    async def write(recorder: Recorder, events: Events, clock: Clock) -> None:
        recorder(POD, "Warning", "BackOff", "no luck", field_path="spec.containers{c}")

    (event,) = recorded(write)
    assert event["involvedObject"] == {
        "kind": "Pod", "apiVersion": "v1", "name": "p", "namespace": "ns", "uid": "u",
        "fieldPath": "spec.containers{c}",
    }  # fmt: skip
    assert (event["source"], event["type"], event["reason"]) == (
        {"component": "kubelet", "host": "n"},
        "Warning",
        "BackOff",
    )
    assert event["metadata"]["namespace"] == "ns"
    assert event["metadata"]["name"].startswith("p.")


def test_equal_events_are_counted_in_one() -> None:
    async def write(recorder: Recorder, events: Events, clock: Clock) -> None:
        for _ in range(5):
            recorder(POD, "Normal", "Pulled", "same")

    (event,) = recorded(write)
    assert event["count"] == 5
    assert event["lastTimestamp"] > event["firstTimestamp"]


def test_many_similar_events_are_combined() -> None:
    async def write(recorder: Recorder, events: Events, clock: Clock) -> None:
        for number in range(15):
            recorder(POD, "Normal", "Pulled", f"message {number}")

    events = recorded(write)
    assert len(events) == 10
    assert (events[-1]["message"], events[-1]["count"]) == ("(combined from similar events): message 14", 6)


def test_an_object_cannot_flood_the_store_with_events() -> None:
    async def write(recorder: Recorder, events: Events, clock: Clock) -> None:
        for number in range(100):
            recorder(POD, "Normal", f"Reason{number}", "m")
        clock.now += timedelta(minutes=6)
        recorder(POD, "Normal", "Later", "m")

    assert len(recorded(write)) == 26


def test_an_event_that_expired_is_written_anew() -> None:
    async def write(recorder: Recorder, events: Events, clock: Clock) -> None:
        recorder(POD, "Normal", "Pulled", "same")
        async with asyncio.timeout(5):
            while not events.stored:  # noqa: ASYNC110
                await asyncio.sleep(0)
        events.stored.clear()
        recorder(POD, "Normal", "Pulled", "same")

    (event,) = recorded(write)
    assert event["count"] == 1


def test_a_watch_over_a_websocket_sends_a_message_for_each_event(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        http = await world.connect()
        key = base64.b64encode(b"0123456789abcdef").decode()
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": key}
        await http.send("GET", f"{CONFIG_MAPS}?watch=true", Sec_WebSocket_Version="13", **upgrade)
        assert (await http.head())[0] == 101
        await world.request("POST", CONFIG_MAPS, config_map("b"))
        client = Connection(ConnectionType.CLIENT)
        seen: list[Any] = []
        while len(seen) < 2:
            client.receive_data(await http.reader.read(65536))
            seen += [orjson.loads(event.data) for event in client.events() if isinstance(event, TextMessage)]
        assert shown(seen) == [("ADDED", "a"), ("ADDED", "b")]
        await http.raw(client.send(CloseConnection(code=1000)))
        assert await http.reader.read() == b"\x88\x02\x03\xe8"

    run(tmp_path, scenario)

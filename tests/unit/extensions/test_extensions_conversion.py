"""Conversion webhooks: every way to read and write goes through them, and what they answer is checked.

The definition has two versions: `v1` says `spec.host` and `spec.port`, `v2` (stored) says `spec.address`, "host:port".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from extensionworld import DEFINITIONS, WIDGETS, World, definition, serve, spec_schema, until, widget, world
from reviewer import webhook

from podling.store.types import Key, Object
from support.http import Http

TEXT: Object = {"type": "string"}
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
V1, V2 = (f"/apis/example.com/{version}/namespaces/default/widgets" for version in ("v1", "v2"))


def translated(obj: Object, wanted: str) -> Object:
    spec = obj["spec"]
    if wanted == "example.com/v2":
        spec = {"address": f"{spec['host']}:{spec['port']}"}
    else:
        host, _, port = spec["address"].partition(":")
        spec = {"host": host, "port": port}
    return {**obj, "apiVersion": wanted, "spec": spec}


@dataclass
class Translator:
    """The webhook. `spoil` changes what it answers; `asked` has the number of objects of each review."""

    spoil: Callable[[Object], Any] = lambda obj: obj
    asked: list[int] = field(default_factory=list[int])

    def __call__(self, request: Object) -> Object:
        self.asked.append(len(request["objects"]))
        converted = [translated(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        return {"result": {"status": "Success"}, "convertedObjects": [self.spoil(obj) for obj in converted]}


def two_versions(url: str, ca: str, **storage: object) -> Object:
    made = definition(
        spec_schema(host=TEXT, port=TEXT), storage=False, selectableFields=[{"jsonPath": ".spec.host"}], **storage
    )
    column = {"name": "Address", "type": "string", "jsonPath": ".spec.address"}
    newer = definition(spec_schema(address=TEXT), additionalPrinterColumns=[column])["spec"]["versions"][0]
    made["spec"]["versions"].append({**newer, "name": "v2"})
    config = {"clientConfig": {"url": url, "caBundle": ca}, "conversionReviewVersions": ["v1"]}
    made["spec"]["conversion"] = {"strategy": "Webhook", "webhook": config}
    return made


@dataclass
class Story:
    world: World
    http: Http
    hook: Translator
    connect: Callable[[], Awaitable[Http]]

    async def get(self, path: str, **headers: str) -> Any:
        return (await self.http.request("GET", path, **headers)).json

    async def make(self, name: str, host: str = "a", path: str = V1) -> Object:
        return (await self.http.request("POST", path, widget(name, host=host, port="80"))).json


@asynccontextmanager
async def story(directory: Path) -> AsyncIterator[Story]:
    hook = Translator()
    async with world(directory) as here, webhook(directory, hook) as (url, ca):
        await serve(here, two_versions(url, ca))
        port = await here.server.listen("127.0.0.1", 0)
        connections: list[Http] = []

        async def connect() -> Http:
            connections.append(Http(*await asyncio.open_connection("127.0.0.1", port)))
            return connections[-1]

        try:
            yield Story(here, await connect(), hook, connect)
        finally:
            for http in connections:
                http.close()
            await here.server.close()


def run(directory: Path, scenario: Callable[[Story], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with story(directory) as told:
            await scenario(told)

    asyncio.run(inside())


def test_every_way_to_write_goes_through_the_webhook(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        made = await told.make("one")
        assert (made["apiVersion"], made["spec"]) == ("example.com/v1", {"host": "a", "port": "80"})
        stored = told.world.server.registry.store.get(Key(WIDGETS, "default", "one"))
        assert stored is not None
        assert (stored.object["apiVersion"], stored.object["spec"]) == ("example.com/v2", {"address": "a:80"})
        patched = await told.http.request("PATCH", f"{V1}/one", {"spec": {"port": "81"}}, Content_Type=MERGE)
        assert patched.json["spec"] == {"host": "a", "port": "81"}
        replaced = await told.http.request("PUT", f"{V1}/one", {**patched.json, "spec": {"host": "b", "port": "1"}})
        assert replaced.json["spec"] == {"host": "b", "port": "1"}
        assert (await told.get(f"{V2}/one"))["spec"] == {"address": "b:1"}
        deleted = await told.http.request("DELETE", f"{V1}/one")
        assert deleted.json["status"] == "Success"

    run(tmp_path, scenario)


def test_a_list_is_converted_in_one_review_and_selected_by_the_version_asked_for(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        for name, host in (("one", "a"), ("two", "b"), ("three", "a")):
            await told.make(name, host)
        told.hook.asked.clear()
        listed = await told.get(V1)
        assert [item["spec"]["host"] for item in listed["items"]] == ["a", "a", "b"]
        assert told.hook.asked == [3]
        chosen = await told.get(f"{V1}?fieldSelector=spec.host%3Da")
        assert [item["metadata"]["name"] for item in chosen["items"]] == ["one", "three"]
        told.hook.asked.clear()
        first = await told.get(f"{V1}?limit=2")
        assert told.hook.asked == [2]
        rest = await told.get(f"{V1}?limit=2&continue={first['metadata']['continue']}")
        assert [item["metadata"]["name"] for item in rest["items"]] == ["two"]
        told.hook.asked.clear()
        table = await told.get(V2, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert [row["cells"] for row in table["rows"]] == [["one", "a:80"], ["three", "a:80"], ["two", "b:80"]]
        assert told.hook.asked == []

    run(tmp_path, scenario)


def test_watchers_see_their_version_and_share_the_reviews(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        await told.make("one")
        watchers = [await told.connect() for _ in range(3)]
        for http in watchers:
            await http.send("GET", f"{V1}?watch=true")
            assert (await http.head())[0] == 200
        beginnings = [await http.events(1) for http in watchers]
        assert all(events[0]["object"]["spec"] == {"host": "a", "port": "80"} for events in beginnings)
        told.hook.asked.clear()
        await told.http.request("PATCH", f"{V2}/one", {"spec": {"address": "z:9"}}, Content_Type=MERGE)
        changes = [await http.events(1) for http in watchers]
        assert all(events[0]["object"]["spec"] == {"host": "z", "port": "9"} for events in changes)
        owners_fields, for_all_watchers = 2, 1
        assert told.hook.asked == [owners_fields, for_all_watchers]

    run(tmp_path, scenario)


def test_a_watch_that_selects_by_a_field_of_its_version_sees_objects_come_and_go(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        await told.make("one", "a")
        http = await told.connect()
        await http.send("GET", f"{V1}?watch=true&fieldSelector=spec.host%3Da")
        await http.head()
        await http.events(1)
        await told.http.request("PATCH", f"{V2}/one", {"spec": {"address": "z:9"}}, Content_Type=MERGE)
        await told.http.request("PATCH", f"{V2}/one", {"spec": {"address": "a:9"}}, Content_Type=MERGE)
        events = await http.events(2)
        assert [(event["type"], event["object"]["spec"]["host"]) for event in events] == [
            ("DELETED", "a"),
            ("ADDED", "a"),
        ]

    run(tmp_path, scenario)


def test_an_apply_in_one_version_meets_the_owners_in_another(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        first = widget("one", host="a", port="80")
        made = await told.http.request("PATCH", f"{V1}/one?fieldManager=x", first, Content_Type=APPLY)
        assert made.status == 201
        second = {**first, "apiVersion": "example.com/v2", "spec": {"address": "b:81"}}
        refused = await told.http.request("PATCH", f"{V2}/one?fieldManager=y", second, Content_Type=APPLY)
        assert refused.status == 409
        assert sorted(cause["field"] for cause in refused.json["details"]["causes"]) == [".spec.host", ".spec.port"]
        forced = await told.http.request("PATCH", f"{V2}/one?fieldManager=y&force=true", second, Content_Type=APPLY)
        assert forced.json["spec"] == {"address": "b:81"}
        owners = {entry["manager"]: entry["fieldsV1"] for entry in forced.json["metadata"]["managedFields"]}
        assert owners == {"y": {"f:spec": {"f:address": {}}}}

    run(tmp_path, scenario)


def without_uid(obj: Object) -> Object:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "uid"}}


def labelled(obj: Object, value: object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "labels": {"a": value}}}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda obj: {**obj, "apiVersion": "example.com/v3"},
            "invalid groupVersion (expected example.com/v1, received",
        ),
        (lambda obj: {**obj, "kind": "Gadget"}, "invalid kind (expected Widget, received Gadget)"),
        (without_uid, "returned invalid object: must have the same UID: "),
        (lambda obj: {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}, "must have the same name: one != "),
        (lambda obj: labelled(obj, 5), "metadata.labels[a] must be a string, but is int64 in converted object"),
        (lambda obj: labelled(obj, "no spaces"), "returned invalid metadata: metadata.labels: Invalid value"),
    ],
)
def test_an_answer_that_breaks_the_rules_is_refused(
    tmp_path: Path, spoil: Callable[[Object], Object], words: str
) -> None:
    async def scenario(told: Story) -> None:
        await told.make("one")
        told.hook.spoil = spoil
        refused = await told.http.request("GET", f"{V1}/one")
        assert refused.status == 500
        assert refused.json["message"].startswith("conversion webhook for example.com/v2, Kind=Widget returned")
        assert words in refused.json["message"]

    run(tmp_path, scenario)


def test_metadata_stays_but_for_labels_and_annotations(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        made = await told.make("one")
        told.hook.spoil = lambda obj: {
            **obj, "metadata": {**obj["metadata"], "labels": {"from": "hook"}, "finalizers": ["example.com/x"]},
        }  # fmt: skip
        found = await told.get(f"{V1}/one")
        assert found["metadata"] == {**made["metadata"], "labels": {"from": "hook"}}

    run(tmp_path, scenario)


def test_objects_of_an_older_storage_version_are_converted_until_they_are_written_again(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        client, store = told.world.client, told.world.server.registry.store
        await told.make("one")
        present = client.get(DEFINITIONS, "", WIDGETS)
        assert present is not None
        versions = [{**v, "storage": not v["storage"]} for v in present["spec"]["versions"]]
        changed = await client.update(DEFINITIONS, {**present, "spec": {**present["spec"], "versions": versions}})
        assert changed["status"]["storedVersions"] == ["v2", "v1"]
        await until(lambda: told.world.server.served.find("example.com", "v1", "widgets").stored_as == "example.com/v1")  # type: ignore[union-attr]
        entry = store.get(Key(WIDGETS, "default", "one"))
        assert entry is not None and entry.object["apiVersion"] == "example.com/v2"
        found = await told.get(f"{V1}/one")
        assert found["spec"] == {"host": "a", "port": "80"}
        await told.http.request("PUT", f"{V1}/one", found)
        entry = store.get(Key(WIDGETS, "default", "one"))
        assert entry is not None and entry.object["spec"] == {"host": "a", "port": "80"}
        gone = {**changed, "status": {**changed["status"], "storedVersions": ["v1"]}}
        await client.update_status(DEFINITIONS, gone)
        told.hook.asked.clear()
        assert (await told.get(f"{V1}/one"))["spec"] == {"host": "a", "port": "80"}
        assert told.hook.asked == []

    run(tmp_path, scenario)


def test_a_webhook_that_is_not_there_fails_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    async def scenario(told: Story) -> None:
        await told.make("one")
        present = told.world.client.get(DEFINITIONS, "", WIDGETS)
        assert present is not None
        config = {"clientConfig": {"url": "https://127.0.0.1:1/x"}, "conversionReviewVersions": ["v1"]}
        conversion = {"strategy": "Webhook", "webhook": config}
        await told.world.client.update(DEFINITIONS, {**present, "spec": {**present["spec"], "conversion": conversion}})
        refused = await told.http.request("GET", f"{V1}/one")
        assert refused.json["message"] == (
            'conversion webhook for example.com/v2, Kind=Widget failed: Post "https://127.0.0.1:1/x?timeout=30s": '
            "dial tcp 127.0.0.1:1: connect: connection refused"
        )
        assert (await told.get(f"{V2}/one"))["spec"] == {"address": "a:80"}
        http = await told.connect()
        await http.send("GET", f"{V1}?watch=true")
        await http.head()
        (event,) = await http.events(1)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 500)

    run(tmp_path, scenario)

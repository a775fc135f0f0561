"""Custom resources: served when their definition is accepted, checked as their schema says, gone with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from extensionworld import DEFINITIONS, WIDGETS, World, definition, serve, spec_schema, until, widget, world

from podling.api import meta
from podling.api.errors import ApiError
from podling.store.types import Object

INTEGER: Object = {"type": "integer"}
TEXT: Object = {"type": "string"}


async def refusal(world: World, obj: Object) -> str:
    with pytest.raises(ApiError) as refused:
        await world.client.create(WIDGETS, obj)
    return refused.value.message


def test_a_definition_is_accepted_established_and_served(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await serve(here, definition(spec_schema(size=INTEGER)))
            await until(lambda: meta.condition_is(here.client.get(DEFINITIONS, "", WIDGETS) or {}, "Established"))
            made = await here.client.create(WIDGETS, widget("one", size=1))
            assert made["spec"] == {"size": 1}
            assert made["metadata"]["generation"] == 1

    asyncio.run(story())


def test_names_that_are_taken_are_not_accepted(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await serve(here, definition(spec_schema()))
            other = definition(spec_schema())
            other["metadata"]["name"] = "gadgets.example.com"
            other["spec"]["names"] = {"plural": "gadgets", "kind": "Widget"}
            await here.client.create(DEFINITIONS, other)
            found = lambda: here.client.get(DEFINITIONS, "", "gadgets.example.com") or {}  # noqa: E731  read again
            await until(lambda: meta.condition(found(), "NamesAccepted"))
            assert meta.condition(found(), "NamesAccepted")["message"] == '"WidgetList" is already in use'
            assert not meta.condition_is(found(), "Established")
            assert here.server.served.by_name("gadgets.example.com") is None

    asyncio.run(story())


def test_defaults_are_filled_in_and_a_null_without_meaning_counts_as_absent(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            inner = {"type": "object", "properties": {"mode": {"type": "string", "default": "fast"}}}
            await serve(here, definition(spec_schema(size={**INTEGER, "default": 3}, part=inner)))
            made = await here.client.create(WIDGETS, widget("one", size=None, part={}))
            assert made["spec"] == {"size": 3, "part": {"mode": "fast"}}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        (INTEGER, "x", 'Invalid value: "string": spec.f in body must be of type integer: "string"'),
        (TEXT | {"enum": ["a", "b"]}, "c", 'Unsupported value: "c": supported values: "a", "b"'),
        (TEXT | {"maxLength": 2}, "abc", "Too long: may not be more than 2 bytes"),
        (TEXT | {"minLength": 2}, "a", 'Invalid value: "a": spec.f in body should be at least 2 chars long'),
        (TEXT | {"pattern": "^a"}, "b", "Invalid value: \"b\": spec.f in body should match '^a'"),
        (TEXT | {"format": "ipv4"}, "x", 'Invalid value: "x": spec.f in body must be of type ipv4: "x"'),
        (INTEGER | {"minimum": 2}, 1, "Invalid value: 1: spec.f in body should be greater than or equal to 2"),
        (INTEGER | {"multipleOf": 5}, 7, "Invalid value: 7: spec.f in body should be a multiple of 5"),
        (
            INTEGER | {"multipleOf": 0.5},
            7,
            "Invalid value: 0: factor MultipleOf declared for spec.f must be positive: 0",
        ),
        ({"type": "array", "items": INTEGER, "maxItems": 1}, [1, 2], "Too many: 2: must have at most 1 items"),
        ({"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}, ["a", "a"], 'Duplicate value: "a"'),
        (
            {"type": "array", "items": TEXT},
            [None],
            'Invalid value: "null": spec.f[0] in body must be of type string: "null"',
        ),
        (
            TEXT | {"format": "date-time"},
            5,
            'Invalid value: "int64": spec.f in body must be of type date-time: "int64"',
        ),
        (
            INTEGER | {"format": "int32"},
            1 << 31,
            "Checked value must be of type integer with format int32 in spec.f",
        ),
        (TEXT | {"pattern": r"^\pL+\z"}, "a1", r"spec.f in body should match '^\pL+\z'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_kubernetes_words(
    tmp_path: Path, schema: Object, value: object, message: str
) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await serve(here, definition(spec_schema(f=schema)))
            assert (await refusal(here, widget("one", f=value))).endswith(message)

    asyncio.run(story())


def test_a_null_where_there_may_be_none_is_as_if_nothing_had_been_sent(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            fields = {"a": TEXT, "b": TEXT | {"default": "x"}, "c": TEXT | {"nullable": True}}
            await serve(here, definition(spec_schema(**fields)))
            made = await here.client.create(WIDGETS, widget("one", a=None, b=None, c=None))
            assert made["spec"] == {"b": "x", "c": None}

    asyncio.run(story())


def test_what_was_wrong_before_and_has_not_changed_is_let_through(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await serve(here, definition(spec_schema(a=TEXT, b=TEXT)))
            await here.client.create(WIDGETS, widget("one", a="long"))
            narrower = {**(here.client.get(DEFINITIONS, "", WIDGETS) or {})}
            schema = spec_schema(a={**TEXT, "maxLength": 2}, b=TEXT)
            versions = [{**narrower["spec"]["versions"][0], "schema": {"openAPIV3Schema": schema}}]
            await here.client.patch(DEFINITIONS, "", WIDGETS, {"spec": {"versions": versions}})
            await here.client.patch(WIDGETS, "default", "one", {"spec": {"b": "new"}})
            with pytest.raises(ApiError, match="Too long"):
                await here.client.patch(WIDGETS, "default", "one", {"spec": {"a": "longer"}})

    asyncio.run(story())


def test_rules_judge_values_and_transitions(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            schema = spec_schema(low=INTEGER, high=INTEGER)
            schema["properties"]["spec"]["x-kubernetes-validations"] = [
                {"rule": "self.low <= self.high", "messageExpression": "'low is %d'.format([self.low])"},
                {"rule": "self.high >= oldSelf.high", "message": "high may only grow", "fieldPath": ".high"},
            ]
            await serve(here, definition(schema))
            assert (await refusal(here, widget("one", low=2, high=1))).endswith("spec: Invalid value: low is 2")
            await here.client.create(WIDGETS, widget("one", low=0, high=5))
            with pytest.raises(ApiError, match="Invalid value: high may only grow"):
                await here.client.patch(WIDGETS, "default", "one", {"spec": {"high": 4}})

    asyncio.run(story())


def test_a_rule_that_does_not_compile_keeps_the_definition_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            schema = spec_schema(a=INTEGER)
            schema["properties"]["spec"]["x-kubernetes-validations"] = [{"rule": "self.b == 1"}]
            with pytest.raises(ApiError, match="undefined field 'b'"):
                await here.client.create(DEFINITIONS, definition(schema))

    asyncio.run(story())


def test_another_version_is_converted_and_stored_as_the_storage_version(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            both = definition(spec_schema(a=TEXT))
            newer = {"name": "v2", "served": True, "storage": False}
            newer["schema"] = {"openAPIV3Schema": spec_schema(a=TEXT, extra=TEXT)}
            both["spec"]["versions"].append(newer)
            await serve(here, both)
            second = here.server.served.find("example.com", "v2", "widgets")
            assert second is not None and second.from_storage is not None
            made = await here.client.create(WIDGETS, {**widget("one", a="x"), "apiVersion": second.api_version})
            assert made["apiVersion"] == "example.com/v2"
            assert second.to_storage is not None
            stored = second.to_storage({**made, "spec": {"a": "x", "extra": "lost"}})
            assert (stored["apiVersion"], stored["spec"]) == ("example.com/v1", {"a": "x"})

    asyncio.run(story())


def test_a_deleted_definition_takes_its_instances_with_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await serve(here, definition(spec_schema()))
            await here.client.create(WIDGETS, widget("one"))
            held = widget("two")
            held["metadata"]["finalizers"] = ["example.com/wait"]
            await here.client.create(WIDGETS, held)
            await here.client.delete(DEFINITIONS, "", WIDGETS)
            await until(lambda: len(here.client.list(WIDGETS)) == 1)
            going = here.client.get(DEFINITIONS, "", WIDGETS)
            assert going is not None and meta.condition_is(going, "Terminating")
            # What somebody has noted there must not keep it.
            status = {**going["status"], "storedVersions": ["v1", "never"]}
            await here.client.update_status(DEFINITIONS, {**going, "status": status})
            await here.client.patch(WIDGETS, "default", "two", {"metadata": {"finalizers": None}})
            await until(lambda: here.client.get(DEFINITIONS, "", WIDGETS) is None)
            await until(lambda: here.server.served.by_name(WIDGETS) is None)

    asyncio.run(story())


def test_what_was_established_is_served_at_once_after_a_restart(tmp_path: Path) -> None:
    async def before() -> None:
        async with world(tmp_path) as here:
            await serve(here, definition(spec_schema(size=INTEGER)))
            await until(lambda: meta.condition_is(here.client.get(DEFINITIONS, "", WIDGETS) or {}, "Established"))
            await here.client.create(WIDGETS, widget("one", size=1))

    async def after() -> None:
        async with world(tmp_path) as here:
            assert here.server.served.by_name(WIDGETS) is not None
            assert [meta.name(obj) for obj in here.client.list(WIDGETS)] == ["one"]

    asyncio.run(before())
    asyncio.run(after())

"""MutatingAdmissionPolicy: what it changes, in which order, and what it must not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from extensionworld import ADMIN, World, world

from podling.api.connecting import CONNECTED, options_of
from podling.api.errors import ApiError
from podling.api.requests import Call
from podling.store.types import Object

GROUP = "admissionregistration.k8s.io"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps", "pods"]}
LABELS = "Object{metadata: Object.metadata{labels: Object.metadata.labels{team: 'blue'}}}"


async def bind(here: World, name: str, *mutations: Object, binding: Object | None = None, **spec: object) -> None:
    policy = {
        "matchConstraints": {"resourceRules": [RULE]},
        "reinvocationPolicy": "Never",
        "mutations": [*mutations],
        **spec,
    }
    await here.client.create(f"mutatingadmissionpolicies.{GROUP}", {"metadata": {"name": name}, "spec": policy})
    bound = {"policyName": name, **(binding or {})}
    await here.client.create(f"mutatingadmissionpolicybindings.{GROUP}", {"metadata": {"name": name}, "spec": bound})


def applies(expression: str) -> Object:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patches(expression: str) -> Object:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


def pod() -> Object:
    container = {"name": "main", "image": "nginx"}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [container]}}


def test_a_configuration_is_merged_and_owned_by_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            sidecar = (
                "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{"
                "name: 'proxy', image: 'mesh:1', restartPolicy: 'Always'}]}}"
            )
            await bind(here, "sidecar", applies(sidecar), applies(LABELS))
            await here.client.create("serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}})
            made = await here.client.create("pods", pod())
            (added,) = made["spec"]["initContainers"]
            assert (added["name"], added["imagePullPolicy"]) == ("proxy", "IfNotPresent")
            assert made["metadata"]["labels"] == {"team": "blue"}
            assert [c["name"] for c in made["spec"]["containers"]] == ["main"]
            (owner,) = made["metadata"]["managedFields"]
            assert "f:initContainers" not in owner["fieldsV1"]["f:spec"]

    asyncio.run(story())


def test_a_json_patch_with_a_test_that_does_not_hold_is_left_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            expression = (
                "[JSONPatch{op: 'test', path: '/data/color', value: 'red'},"
                " JSONPatch{op: 'add', path: '/metadata/annotations', value: {'b/0': ''}},"
                " JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('a/b'),"
                " value: variables.x}]"
            )
            await bind(here, "p", patches(expression), variables=[{"name": "x", "expression": "object.metadata.name"}])
            red = await here.client.create("configmaps", config_map("one", color="red"))
            assert red["metadata"]["annotations"] == {"b/0": "", "a/b": "one"}
            blue = await here.client.create("configmaps", config_map("two", color="blue"))
            assert "annotations" not in blue["metadata"]

    asyncio.run(story())


def test_parameters_and_conditions_decide_what_is_changed(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await here.client.create("configmaps", config_map("defaults", owner="ops"))
            mutation = applies("Object{metadata: Object.metadata{annotations: {'owner': params.data.owner}}}")
            await bind(
                here,
                "p",
                mutation,
                paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
                matchConditions=[{"name": "named", "expression": "object.metadata.name.startsWith('my-')"}],
                binding={"paramRef": {"name": "defaults", "namespace": "default", "parameterNotFoundAction": "Deny"}},
            )
            mine = await here.client.create("configmaps", config_map("my-one"))
            assert mine["metadata"]["annotations"] == {"owner": "ops"}
            assert "annotations" not in (await here.client.create("configmaps", config_map("other")))["metadata"]
            await here.client.delete("configmaps", "default", "defaults")
            with pytest.raises(ApiError, match="no params found for policy binding with `Deny`"):
                await here.client.create("configmaps", config_map("my-two"))

    asyncio.run(story())


def test_a_policy_that_wants_to_is_asked_again_when_a_later_one_has_changed_the_object(tmp_path: Path) -> None:
    counting = "Object{metadata: Object.metadata{annotations: {'seen': string(object.data.size())}}}"
    adding = "[JSONPatch{op: 'add', path: '/data/added', value: '1'}]"

    async def story(directory: Path, policy: str) -> str:
        async with world(directory) as here:
            await bind(here, "a-counts", applies(counting), reinvocationPolicy=policy)
            await bind(here, "b-adds", patches(adding))
            made = await here.client.create("configmaps", config_map("x", k="v"))
            return made["metadata"]["annotations"]["seen"]

    for policy, seen in (("IfNeeded", "2"), ("Never", "1")):
        (tmp_path / policy).mkdir()
        assert asyncio.run(story(tmp_path / policy, policy)) == seen


@pytest.mark.parametrize(
    ("mutation", "words"),
    [
        (
            applies("Object{spec: Object.spec.wrong{x: 1}}"),
            'type mismatch: unexpected type name "Object.spec.wrong", expected "Object.spec", which matches field name',
        ),
        (
            applies("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'a', command: ['sh']}]}}"),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: "
            ".spec.containers[0].command",
        ),
        (applies("Object{spec: Object.spec{nope: 1}}"), ".spec.nope: field not declared in schema"),
        (
            patches("[JSONPatch{op: 'add', path: '/a/b/c', value: 1}]"),
            'JSON Patch: add operation does not apply: doc is missing path: "/a/b/c": missing value',
        ),
        (applies("object.spec.missing"), "resulted in error: no such key: missing"),
        (applies("dyn(1)"), "unsupported return type from ApplyConfiguration expression: int"),
        (patches("dyn(1)"), "type mismatch: JSONPatchType.expression should evaluate to array"),
        (patches("dyn([1])"), "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch"),
    ],
)
def test_a_mutation_that_cannot_be_made_refuses_the_write_unless_it_may_fail(
    tmp_path: Path, mutation: Object, words: str
) -> None:
    async def story(policy: str) -> None:
        async with world(tmp_path / policy) as here:
            await here.client.create("serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}})
            await bind(here, "p", mutation, failurePolicy=policy)
            await here.client.create("pods", pod())

    for policy in ("Fail", "Ignore"):
        (tmp_path / policy).mkdir()
    with pytest.raises(ApiError) as refused:
        asyncio.run(story("Fail"))
    assert words in refused.value.message
    assert refused.value.message.startswith("policy 'p' with binding 'p' denied request: ")
    assert (refused.value.code, refused.value.reason) == (403, "Invalid")
    asyncio.run(story("Ignore"))


def test_an_expression_of_another_type_keeps_the_policy_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            with pytest.raises(ApiError, match="must evaluate to Object but got string"):
                await bind(here, "p", applies("'x'"))
            with pytest.raises(ApiError, match=r"must evaluate to list\(JSONPatch\) but got list\(int\)"):
                await bind(here, "p", patches("[1]"))

    asyncio.run(story())


@pytest.mark.parametrize(
    "mutation", [applies("Object{container: 'c'}"), patches("[JSONPatch{op: 'remove', path: '/tty'}]")]
)
def test_a_policy_for_everything_does_not_stand_in_the_way_of_an_exec(tmp_path: Path, mutation: Object) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
            await bind(here, "p", mutation, matchConstraints={"resourceRules": [everything]})
            about, pods = CONNECTED["pods", "exec"], here.server.served.find("", "v1", "pods")
            assert pods is not None
            obj = options_of(about, "tty=1&command=ls", "")
            registry, call = here.server.registry, Call(user=ADMIN)
            asked = await registry.ask(pods, "exec", "CONNECT", about, obj, ("default", "web"), call)
            assert asked["command"] == ["ls"]

    asyncio.run(story())


def test_what_a_policy_is_for_is_decided_by_the_object_as_it_came(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await bind(here, "a", applies(LABELS))
            only_blue = {"resourceRules": [RULE], "objectSelector": {"matchLabels": {"team": "blue"}}}
            marks = applies("Object{metadata: Object.metadata{annotations: {'seen': 'yes'}}}")
            await bind(here, "b", marks, matchConstraints=only_blue)
            made = await here.client.create("configmaps", config_map("one"))
            assert "annotations" not in made["metadata"]

    asyncio.run(story())


def test_all_failures_are_among_the_causes(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await bind(here, "a", applies("object.data.x"))
            unknown = {"apiVersion": "v1", "kind": "Nothing"}
            await bind(here, "b", applies(LABELS), paramKind=unknown)
            with pytest.raises(ApiError) as refused:
                await here.client.create("configmaps", config_map("one", k="v"))
            error = refused.value
            first, second = [cause["message"] for cause in (error.details or {})["causes"]]
            assert (error.code, error.reason, error.message) == (403, "Forbidden", first)
            assert first.startswith('policy "b" denied request: failed to configure policy: failed to find resource')
            assert second.startswith("policy 'a' with binding 'a' denied request: expression 'object.data.x' resulted")

    asyncio.run(story())

"""Lists, their pages and selectors, Tables, and the revisions they show."""

# ruff: noqa: E501  the messages are Kubernetes' and stay in one piece
from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apicore import (
    CONFIG_MAP,
    CONFIG_MAPS,
    MERGE,
    NAMESPACE,
    PARTIAL,
    PARTIAL_LIST,
    POD,
    PODS,
    TABLE,
    World,
    config_map,
    pod,
    run,
)

from podling.api.errors import ApiError
from podling.api.lists import parse_version
from podling.api.requests import parse_path
from podling.api.resources import Resource
from podling.api.selectors import parse_field_selector, parse_label_selector, select


async def four(world: World) -> None:
    for name, color in (("a1", "red"), ("a2", "blue"), ("a3", ""), ("a4", "red")):
        labels = {"t": "x", **({"color": color} if color else {})}
        await world.create(CONFIG_MAP, config_map(name, labels))


def test_items_of_a_list_do_not_repeat_their_type(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        listing = (await world.request("GET", CONFIG_MAPS)).json
        assert (listing["kind"], listing["apiVersion"]) == ("ConfigMapList", "v1")
        assert listing["metadata"]["resourceVersion"] == str(world.store.revision)
        assert [sorted(item) for item in listing["items"]] == [["data", "metadata"]] * 4

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("t%3Dx", "a1 a2 a3 a4"),
        ("color%3Dred", "a1 a4"),
        ("color!%3Dred", "a2 a3"),
        ("color%20in%20(red,blue)", "a1 a2 a4"),
        ("color%20notin%20(red),t%3Dx", "a2 a3"),
        ("!color", "a3"),
        ("color,t", "a1 a2 a4"),
        ("color%3E1", ""),
    ],
)
def test_label_selectors_choose(tmp_path: Path, selector: str, names: str) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        assert (await world.request("GET", f"{CONFIG_MAPS}?labelSelector={selector}")).names == names.split()

    run(tmp_path, scenario)


NAME_PART = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bad key=x", "unable to parse requirement: found 'key', expected: in, notin, =, ==, !=, gt, lt"),
        ("a/", f'unable to parse requirement: <nil>: Invalid value: "a/": name part must be non-empty; {NAME_PART}'),
        ("/a", 'unable to parse requirement: <nil>: Invalid value: "/a": prefix part must be non-empty'),
        ("==", "found '==', expected: !, identifier, or 'end of string'"),
        ("t=x,", "found '', expected: identifier after ','"),
        ("t in", "unable to parse requirement: found '' expected: '('"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
    ],
)
def test_a_bad_label_selector_is_refused_in_kubernetes_words(text: str, message: str) -> None:
    with pytest.raises(Exception) as caught:
        parse_label_selector(text)
    assert str(caught.value) == message


def test_a_zero_ends_a_selector() -> None:
    assert parse_label_selector("a=b\0,c").matches({"a": "b"})


def test_values_of_sets_may_be_empty() -> None:
    assert parse_label_selector("a in ()").matches({"a": ""})
    assert parse_label_selector("a in (,b)").matches({"a": ""})
    assert parse_label_selector("a=").matches({"a": ""})


def test_numbers_in_labels_are_compared() -> None:
    assert parse_label_selector("n>5").matches({"n": "6"})
    assert not parse_label_selector("n<5").matches({"n": "six"})
    with pytest.raises(Exception, match="must be an integer"):
        parse_label_selector("n>x")


def test_field_selectors_can_escape_their_own_signs() -> None:
    (term,) = parse_field_selector(r"metadata.name!=a\,b\=c")
    assert (term.field, term.value, term.equal) == ("metadata.name", "a,b=c", False)
    with pytest.raises(Exception) as caught:
        parse_field_selector("spec.nodeName")
    assert str(caught.value) == "invalid selector: 'spec.nodeName'; can't understand 'spec.nodeName'"


def test_field_selectors_choose_by_index_name_or_namespace(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for name, node in (("p1", "n1"), ("p2", "n2"), ("p3", "n1"), ("p4", "")):
            await world.request("POST", PODS, pod(name, node))

        async def select(selector: str, path: str = PODS) -> Any:
            return (await world.request("GET", f"{path}?fieldSelector={selector}")).names

        assert await select("spec.nodeName%3Dn1") == ["p1", "p3"]
        assert await select("spec.nodeName%3D") == ["p4"]
        assert await select("spec.nodeName!%3Dn1", "/api/v1/pods") == ["p2", "p4"]
        assert await select("metadata.name%3Dp2,spec.nodeName%3Dn2") == ["p2"]
        assert await select("metadata.namespace%3Dother", "/api/v1/pods") == []

    run(tmp_path, scenario)


def test_a_field_that_cannot_be_selected_is_named(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        general = await world.request("GET", f"{CONFIG_MAPS}?fieldSelector=x%3Dy")
        assert general.json["message"] == (
            '"x" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )
        own = await world.request("GET", f"{PODS}?fieldSelector=x%3Dy")
        assert own.json["message"] == "field label not supported: x"

    run(tmp_path, scenario)


def test_pages_of_a_list_show_one_revision_whatever_happens_between_them(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        first = await world.request("GET", f"{CONFIG_MAPS}?limit=2")
        metadata = first.json["metadata"]
        assert (first.names, metadata["remainingItemCount"]) == (["a1", "a2"], 2)
        await world.create(CONFIG_MAP, config_map("a35"))
        await world.request("DELETE", f"{CONFIG_MAPS}/a3")
        await world.request("PATCH", f"{CONFIG_MAPS}/a4", {"data": {"k": "new"}}, Content_Type=MERGE)
        second = await world.request("GET", f"{CONFIG_MAPS}?limit=2&continue={metadata['continue']}")
        assert (second.names, second.json["metadata"]) == (
            ["a3", "a4"],
            {"resourceVersion": metadata["resourceVersion"]},
        )
        assert second.json["items"][1]["data"] == {"k": "v"}

    run(tmp_path, scenario)


def test_a_token_that_is_too_old_comes_with_one_that_goes_on_at_the_present(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        token = (await world.request("GET", f"{CONFIG_MAPS}?limit=2")).json["metadata"]["continue"]
        for number in range(20):
            await world.create(CONFIG_MAP, config_map(f"b{number:02}"))
        expired = await world.request("GET", f"{CONFIG_MAPS}?limit=2&continue={token}")
        assert (expired.status, expired.json["reason"]) == (410, "Expired")
        again = expired.json["metadata"]["continue"]
        assert (await world.request("GET", f"{CONFIG_MAPS}?limit=2&continue={again}")).names == ["a3", "a4"]

    run(tmp_path, scenario, max_changes=10)


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("limit=abc", 400, 'strconv.ParseInt: parsing "abc": invalid syntax'),
        ("continue=x", 400, "invalid continue token: continue key is not valid: illegal base64 data at input byte 0"),
        ("continue=garbage", 400, "invalid continue token: continue key is not valid: invalid character '\\u0081' looking for beginning of value"),
        ("resourceVersion=abc", 400, 'invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax'),
        ("resourceVersion=99999999", 504, "Timeout: Too large resource version: 99999999, current: 1001"),
        ("resourceVersion=99999999&resourceVersionMatch=Exact", 504, "Timeout: Too large resource version: 99999999, current: 1001"),
        ("resourceVersion=5&resourceVersionMatch=Exact", 410, "The resourceVersion for the provided list is too old."),
        ("resourceVersionMatch=Exact", 422, 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided'),
        ("limit=9223372036854775808", 400, 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
        ("limit=x&timeoutSeconds=1_0", 400, 'strconv.ParseInt: parsing "1_0": invalid syntax'),
        ("sendInitialEvents=true", 422, 'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list'),
    ],
)  # fmt: skip
def test_list_options_are_checked(tmp_path: Path, query: str, code: int, message: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", f"{CONFIG_MAPS}?{query}")
        assert (answer.status, answer.json["message"]) == (code, message)
        assert ("Retry-After" in answer.headers) is (code == 504 and "Exact" not in query)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("[]", "json: cannot unmarshal array into Go value of type storage.continueToken"),
        ('{"v":"meta.k8s.io/v1","rv":"1"}', "json: cannot unmarshal string into Go struct field continueToken.rv of type int64"),
        ('{"v":"v2","rv":1,"start":"a"}', "server does not recognize this encoded version v2"),
        ('{"v":"meta.k8s.io/v1","start":""}', "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        ('{"v":"meta.k8s.io/v1","rv":-1,"start":""}', "encoded start key empty (version meta.k8s.io/v1)"),
        ('{"v":"meta.k8s.io/v1","rv":-1,"start":"/a/../b"}', "/a/../b"),
        ('{"v":"meta.k8s.io/v1","rv":-1,"start":"a/"}', "a/"),
    ],
)  # fmt: skip
def test_a_bad_continue_token_is_refused(tmp_path: Path, token: str, problem: str) -> None:
    async def scenario(world: World) -> None:
        text = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        answer = await world.request("GET", f"{CONFIG_MAPS}?limit=1&continue={text}")
        assert answer.json["message"] == f"invalid continue token: continue key is not valid: {problem}"

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("resource", "field", "message"),
    [
        (CONFIG_MAP, "data", '"data" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        (NAMESPACE, "metadata.namespace", ""),
        (POD, "spec.x", "field label not supported: spec.x"),
        (replace(NAMESPACE, selectable=POD.selectable), "metadata.namespace", "field label not supported: metadata.namespace"),
        (replace(CONFIG_MAP, custom=True), "data", "field label not supported: data"),
        (replace(CONFIG_MAP, group="batch", plural="jobs"), "x", 'field label "x" not supported for Job'),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_selected_by_is_told(resource: Resource, field: str, message: str) -> None:
    if not message:
        assert select(resource, "", f"{field}=a").wanted(field) == "a"
        return
    with pytest.raises(ApiError) as caught:
        select(resource, "", f"{field}=a")
    assert caught.value.message == message


def test_a_list_can_be_asked_for_at_exactly_one_revision(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        then = (await world.request("GET", f"{CONFIG_MAPS}/a2")).json["metadata"]["resourceVersion"]
        exact = f"{CONFIG_MAPS}?resourceVersion={then}&resourceVersionMatch=Exact"
        assert (await world.request("GET", exact)).names == ["a1", "a2"]
        assert len((await world.request("GET", f"{CONFIG_MAPS}?resourceVersion={then}")).names) == 4

    run(tmp_path, scenario)


def test_tables_have_the_kinds_columns_and_the_wanted_objects(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        table = (await world.request("GET", CONFIG_MAPS, Accept=TABLE)).json
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data"]
        assert [row["cells"] for row in table["rows"]] == [[f"a{n}", 1] for n in (1, 2, 3, 4)]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        whole = (await world.request("GET", f"{CONFIG_MAPS}?includeObject=Object&limit=1", Accept=TABLE)).json
        assert whole["rows"][0]["object"]["data"] == {"k": "v"}
        assert whole["metadata"]["continue"]
        none = (await world.request("GET", f"{CONFIG_MAPS}/a1?includeObject=None", Accept=TABLE)).json
        assert none["rows"] == [{"cells": ["a1", 1], "object": None}]
        bad = await world.request("GET", f"{CONFIG_MAPS}?includeObject=X", Accept=TABLE)
        assert bad.status == 400

    run(tmp_path, scenario)


def test_kinds_without_columns_show_when_they_were_created(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        table = (await world.request("GET", "/api/v1/namespaces", Accept=TABLE)).json
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Created At"]
        assert table["rows"][0]["cells"] == ["default", "2026-01-02T03:04:05Z"]

    run(tmp_path, scenario)


def test_the_metadata_alone_can_be_asked_for(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        one = (await world.request("GET", f"{CONFIG_MAPS}/a1", Accept=PARTIAL)).json
        assert (one["kind"], "data" in one) == ("PartialObjectMetadata", False)
        many = (await world.request("GET", CONFIG_MAPS, Accept=PARTIAL_LIST)).json
        assert {item["kind"] for item in many["items"]} == {"PartialObjectMetadata"}
        wrong = await world.request("GET", CONFIG_MAPS, Accept=PARTIAL)
        assert (wrong.status, wrong.json["message"]) == (
            406,
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        )

    run(tmp_path, scenario)


def test_the_best_accepted_form_is_chosen(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await four(world)
        kubectl = f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
        assert (await world.request("GET", CONFIG_MAPS, Accept=kubectl)).json["kind"] == "Table"
        typed = "application/vnd.kubernetes.protobuf,application/json"
        assert (await world.request("GET", CONFIG_MAPS, Accept=typed)).json["kind"] == "ConfigMapList"
        yaml = await world.request("GET", f"{CONFIG_MAPS}/a1", Accept="application/yaml")
        assert yaml.body.startswith(b"apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap\n")
        assert (await world.request("GET", CONFIG_MAPS, Accept="image/png")).status == 406
        pretty = await world.request("GET", f"{CONFIG_MAPS}/a1?pretty=true")
        assert pretty.body.startswith(b'{\n  "kind": "ConfigMap",\n')

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/namespaces/x", ("get", "namespaces", "", "x", "x")),
        ("PUT", "/api/v1/namespaces/x/finalize", ("update", "namespaces", "finalize", "x", "x")),
        ("GET", "/api/v1/namespaces/x/pods", ("list", "pods", "", "x", "")),
        ("DELETE", "/apis/apps/v1/namespaces/x/deployments", ("deletecollection", "deployments", "", "x", "")),
        ("POST", "/api/v1/namespaces/x/pods/p/exec", ("create", "pods", "exec", "x", "p")),
        ("GET", "/api/v1/watch/namespaces/x/pods", ("watch", "pods", "", "x", "")),
        ("GET", "/api/v1/nodes/n/proxy/a/b", ("get", "nodes", "proxy", "", "n")),
        ("GET", "/apis/apps/v1", ("get", "", "", "", "")),
    ],
)
def test_paths_are_taken_apart_as_kubernetes_does(method: str, path: str, expected: tuple[str, ...]) -> None:
    info = parse_path(method, path)
    assert (info.verb, info.resource, info.subresource, info.namespace, info.name) == expected


def test_a_watch_is_asked_for_by_the_query_of_a_collection_only() -> None:
    assert parse_path("GET", "/api/v1/pods", watch=True).verb == "watch"
    assert parse_path("GET", "/api/v1/namespaces/x/pods/p", watch=True).verb == "get"


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("x", "invalid syntax"),
        ("\uff11", "invalid syntax"),
        ("9" * 5000, "value out of range"),
        (str(2**64), "value out of"),
    ],
)
def test_a_version_that_is_no_number_of_64_bits_is_refused(version: str, problem: str) -> None:
    with pytest.raises(ApiError, match=problem) as caught:
        parse_version(version)
    assert caught.value.code == 500
    assert parse_version("0" * 5000 + "7") == 7

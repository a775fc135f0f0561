"""Options of requests, what they may be asked for, and the forms of answers and refusals."""

# ruff: noqa: E501  the messages are Kubernetes' and stay in one piece
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from apicore import ADMIN, APPLY, CONFIG_MAP, CONFIG_MAPS, MERGE, NOW, PODS, World, config_map, pod, run

from podling.api import gotext
from podling.api.errors import ApiError
from podling.api.requests import Attributes, Call, Decision, Query
from podling.api.resources import Resource, User
from podling.node.rest import log_options

OPTIONS = 'CreateOptions.meta.k8s.io "" is invalid: '


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("dryRun=", OPTIONS + 'dryRun: Unsupported value: [""]: supported values: "All"'),
        ("dryRun=All&dryRun=x", OPTIONS + 'dryRun: Unsupported value: ["All","x"]: supported values: "All"'),
        (
            "fieldManager=a%01b",
            OPTIONS + 'fieldManager: Invalid value: "a\\x01b": invalid character U+0001 (at position 1)',
        ),
        (
            "dryRun=x&fieldManager=" + "%C3%A4" * 65,
            OPTIONS
            + '[fieldManager: Too long: may not be more than 128 bytes, dryRun: Unsupported value: ["x"]: supported values: "All"]',
        ),
    ],
)
def test_options_of_a_write_are_checked(tmp_path: Path, query: str, message: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("POST", f"{CONFIG_MAPS}?{query}", config_map("a"))
        assert (answer.status, answer.json["message"]) == (422, message)

    run(tmp_path, scenario)


def test_force_belongs_to_apply_and_apply_needs_a_manager(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        forced = await world.request("PATCH", f"{CONFIG_MAPS}/a?force=false", {}, Content_Type=MERGE)
        assert forced.json["details"]["causes"][0]["message"] == "Forbidden: may not be specified for non-apply patch"
        unnamed = await world.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=", config_map("a"), Content_Type=APPLY)
        assert unnamed.json["details"]["causes"][0]["message"] == "Required value: is required for apply patch"

    run(tmp_path, scenario)


def test_an_export_that_is_not_wanted_is_no_export(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        assert (await world.request("GET", f"{CONFIG_MAPS}/a?export=false")).status == 200
        assert (await world.request("GET", f"{CONFIG_MAPS}/a?export=true")).status == 400

    run(tmp_path, scenario)


def test_a_body_of_delete_options_stands_alone(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for name in ("a", "b"):
            await world.create(CONFIG_MAP, config_map(name))
        assert (await world.request("DELETE", f"{CONFIG_MAPS}/a?dryRun=All")).status == 200
        assert (await world.request("GET", f"{CONFIG_MAPS}/a")).status == 200
        assert (await world.request("DELETE", f"{CONFIG_MAPS}/a?dryRun=All", {"dryRun": []})).status == 200
        assert (await world.request("GET", f"{CONFIG_MAPS}/a")).status == 404
        assert (await world.request("DELETE", f"{CONFIG_MAPS}/b", {"dryRun": ["All"]})).status == 200
        assert (await world.request("GET", f"{CONFIG_MAPS}/b")).status == 200

    run(tmp_path, scenario)


def test_preconditions_of_a_delete_may_be_in_the_query(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        for query, word in (("uid=x", "UID"), ("resourceVersion=999", "ResourceVersion")):
            refused = await world.request("DELETE", f"{CONFIG_MAPS}/a?{query}")
            assert (refused.status, f"the {word} in the precondition" in refused.json["message"]) == (409, True)
        assert (await world.request("DELETE", f"{CONFIG_MAPS}/a?uid=&resourceVersion=")).status == 200

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        (
            b'{"kind":"Pod","apiVersion":"v1"}',
            'no kind "Pod" is registered for version "v1" in scheme "pkg/apis/meta/internalversion/scheme/register.go:27"',
        ),
        (
            b'{"gracePeriodSeconds":"x"}',
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
    ],
)
def test_bad_delete_options_are_refused(tmp_path: Path, body: bytes, message: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("DELETE", f"{CONFIG_MAPS}/a", body)
        assert (answer.status, answer.json["message"]) == (400, message)

    run(tmp_path, scenario)


def test_a_delete_that_is_only_accepted_says_so_to_those_who_asked_for_dependents_to_go(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for name in ("a", "b"):
            await world.request("POST", PODS, pod(name, "node"))
        assert (await world.request("DELETE", f"{PODS}/a", {"orphanDependents": False})).status == 202
        assert (await world.request("DELETE", f"{PODS}/b")).status == 200

    run(tmp_path, scenario)


def test_no_collection_is_deleted_across_namespaces(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        assert (await world.request("DELETE", "/api/v1/configmaps")).status == 405
        assert (await world.request("GET", f"{CONFIG_MAPS}/a")).status == 200

    run(tmp_path, scenario)


def test_who_may_only_change_things_cannot_make_one_by_a_change(tmp_path: Path) -> None:
    def authorize(user: User, attributes: Attributes) -> Decision:
        return Decision(attributes.verb != "create")

    async def scenario(world: World) -> None:
        refused = await world.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=m", config_map("a"), Content_Type=APPLY)
        assert (refused.status, refused.json["message"]) == (
            403,
            'configmaps "a" is forbidden: User "admin" cannot create resource "configmaps" in API group "" in the namespace "default"',
        )
        await world.create(CONFIG_MAP, config_map("a"))
        changed = await world.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=m", config_map("a"), Content_Type=APPLY)
        assert changed.status == 200

    run(tmp_path, scenario, authorize=authorize)


def test_owners_that_are_named_twice_are_kept_once(tmp_path: Path) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}

    async def scenario(world: World) -> None:
        body = config_map("a")
        body["metadata"]["ownerReferences"] = [owner, owner, {**owner, "controller": False}]
        made = await world.request("POST", CONFIG_MAPS, body)
        assert made.json["metadata"]["ownerReferences"] == [owner, {**owner, "controller": False}]
        assert made.headers["Warning"].endswith(
            '.metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: u"'
        )
        twice = {"metadata": {"ownerReferences": [owner, owner]}}
        changed = await world.request("PATCH", f"{CONFIG_MAPS}/a", twice, Content_Type=MERGE)
        assert changed.json["metadata"]["ownerReferences"] == [owner]
        assert "contains duplicate entries after mutating admission happens; " in changed.headers["Warning"]

    run(tmp_path, scenario)


def test_a_wrong_namespace_is_told_before_a_wrong_name(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = config_map("b")
        body["metadata"]["namespace"] = "other"
        answer = await world.request("PUT", f"{CONFIG_MAPS}/a", body)
        assert answer.json["message"].startswith("the namespace of the provided object")

    run(tmp_path, scenario)


TYPES = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


@pytest.mark.parametrize(
    ("accept", "path", "message"),
    [
        ("text/html", f"{CONFIG_MAPS}/a", f"406: Not Acceptable\n\nAvailable representations: {TYPES}"),
        ("application/*", f"{CONFIG_MAPS}/a", f"406: Not Acceptable\n\nAvailable representations: {TYPES}"),
        ("APPLICATION/JSON", f"{CONFIG_MAPS}/a", f"406: Not Acceptable\n\nAvailable representations: {TYPES}"),
        (
            "text/html",
            CONFIG_MAPS,
            f"406: Not Acceptable\n\nAvailable representations: {TYPES}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        ),
        (
            "application/json;as=Tables;v=v1;g=meta.k8s.io",
            CONFIG_MAPS,
            f"only the following media types are accepted: {TYPES}",
        ),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_what_can(tmp_path: Path, accept: str, path: str, message: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", path, Accept=accept)
        assert (answer.status, answer.json["message"]) == (406, message)
        assert b"\n  " in answer.body  # written for people: nobody knows what the client reads

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("query", "headers", "indented"),
    [
        ("", {}, False),
        ("?pretty=true", {}, True),
        ("?pretty=yes", {}, False),
        ("?pretty=", {"User_Agent": "curl/8"}, True),
        ("?pretty=0", {"User_Agent": "curl/8"}, False),
        ("", {"User_Agent": "Mozilla/5.0 (X11)"}, True),
        ("", {"User_Agent": "Mozilla/4.0"}, False),
        ("", {"Accept": "application/json;pretty=1"}, True),
    ],
)
@pytest.mark.parametrize("name", ["a", "none"])
def test_people_get_answers_and_refusals_indented(
    tmp_path: Path, query: str, headers: dict[str, str], indented: bool, name: str
) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        answer = await world.request("GET", f"{CONFIG_MAPS}/{name}{query}", **headers)
        assert (b"\n  " in answer.body) is indented

    run(tmp_path, scenario)


def test_a_refusal_comes_in_the_form_that_was_asked_for(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", f"{CONFIG_MAPS}/none", Accept="application/yaml")
        assert answer.headers["Content-Type"] == "application/yaml"
        assert b"reason: NotFound\n" in answer.body

    run(tmp_path, scenario)


@pytest.mark.parametrize("path", ["/version", "/api", "/apis", "/apis/apps", "/apis/apps/v1"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_documents_can_only_be_read(tmp_path: Path, method: str, path: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request(method, path, {})
        assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")

    run(tmp_path, scenario)


@pytest.mark.parametrize("path", ["/apis/apps/v9", "/api/v2", "/version/x"])
def test_what_lies_below_a_document_is_not_found_in_json(tmp_path: Path, path: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", path)
        assert (answer.status, answer.json["reason"]) == (404, "NotFound")

    run(tmp_path, scenario)


def test_a_watch_by_path_of_one_object_fits_its_selector(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        path = "/api/v1/watch/namespaces/default/configmaps/a"
        refused = await world.request("GET", f"{path}?fieldSelector=metadata.name%3Db")
        assert (refused.status, refused.json["message"]) == (
            400,
            "fieldSelector metadata.name doesn't match requested name",
        )
        for name in ("a", "b"):
            await world.create(CONFIG_MAP, config_map(name))
        for query in ("", "?fieldSelector=metadata.name%3Da"):
            http = await world.watch(path + query)
            (event,) = await http.events(1)
            assert event["object"]["metadata"]["name"] == "a"

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/openapi/v2", "application/json"),
        ("/openapi/v3", "*/*"),
        ("/openapi/v3/api/v1", "*/*"),
        ("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    ],
)
def test_a_document_that_the_client_has_is_not_sent_again(tmp_path: Path, path: str, accept: str) -> None:
    async def scenario(world: World) -> None:
        first = await world.request("GET", path, Accept=accept)
        again = await world.request("GET", path, Accept=accept, If_None_Match=first.headers["ETag"])
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        changed = await world.request("GET", path, Accept=accept, If_None_Match='"OLD"')
        assert (changed.status, changed.body) == (200, first.body)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("timeout", "problem"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("1h5d", 'time: unknown unit "d" in duration "1h5d"'),
        (".", 'time: invalid duration "."'),
    ],
)
def test_a_timeout_is_a_duration(tmp_path: Path, timeout: str, problem: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", f"{CONFIG_MAPS}?timeout={timeout}")
        assert answer.json["message"] == f"invalid timeout specified in the request URL - {problem}"
        assert (await world.request("GET", f"{CONFIG_MAPS}?timeout=1m30s")).status == 200

    run(tmp_path, scenario)


def test_a_version_of_a_new_object_is_refused_only_when_it_is_one(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for version, status in (("abc", 201), ("0", 201), ("7", 500)):
            body = config_map(f"v{version}")
            body["metadata"]["resourceVersion"] = version
            assert (await world.request("POST", CONFIG_MAPS, body)).status == status
        nameless = config_map("")
        nameless["metadata"]["resourceVersion"] = "7"
        assert (await world.request("POST", CONFIG_MAPS, nameless)).status == 422

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("resource", "place"),
    [
        (CONFIG_MAP, "/registry/configmaps/default/a"),
        (replace(CONFIG_MAP, plural="services"), "/registry/services/specs/default/a"),
        (replace(CONFIG_MAP, group="e.com", custom=True), "/registry/e.com/configmaps/default/a"),
    ],
)
def test_another_uid_is_a_conflict_that_names_the_place_in_the_store(
    tmp_path: Path, resource: Resource, place: str
) -> None:
    async def scenario(world: World) -> None:
        await world.create(resource, config_map("a"))
        with pytest.raises(ApiError) as caught:
            body = {**config_map("a"), "metadata": {"name": "a", "uid": "other"}}
            await world.server.registry.update(resource, "default", "a", body, Call(user=ADMIN))
        assert f"Code: 4, Key: {place}, ResourceVersion: 0, " in caught.value.message

    run(tmp_path, scenario)


def test_options_of_logs_are_read_as_kubernetes_reads_them() -> None:
    options = log_options(Query.parse("follow=yes&timestamps=0&previous=&sinceTime=2026-01-02T03:04:05Z"), "c")
    assert (options.follow, options.timestamps, options.previous) == (True, False, True)
    assert options.since_time == NOW
    for query, problem in (
        ("tailLines=", 'strconv.ParseInt: parsing "": invalid syntax'),
        ("sinceTime=xx", 'parsing time "xx" as "2006-01-02T15:04:05Z07:00": cannot parse "xx" as "2006"'),
    ):
        with pytest.raises(ApiError) as caught:
            log_options(Query.parse(query), "c")
        assert caught.value.message == problem


@pytest.mark.parametrize(
    ("read", "text", "problem"),
    [
        (gotext.parse_uint, "-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (gotext.parse_uint, "٣", 'strconv.ParseUint: parsing "٣": invalid syntax'),
        (gotext.parse_uint, "18446744073709551616", 'parsing "18446744073709551616": value out of range'),
        (gotext.parse_uint, "9" * 5000, "value out of range"),
        (gotext.parse_int, "", 'strconv.ParseInt: parsing "": invalid syntax'),
        (gotext.parse_int, "-9223372036854775809", "value out of range"),
        (gotext.parse_int, "--1", "invalid syntax"),
    ],
)
def test_numbers_are_read_as_go_reads_them(read: Callable[[str], int], text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="strconv") as caught:
        read(text)
    assert str(caught.value).endswith(problem)


def test_numbers_at_the_edge_are_numbers() -> None:
    assert gotext.parse_uint("0" * 5000 + "18446744073709551615") == 2**64 - 1
    assert gotext.parse_int("-9223372036854775808") == -(2**63)
    assert gotext.parse_int("+5") == 5

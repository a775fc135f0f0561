"""Create, read, update, patch, delete: what is stored, what is refused, and in which words."""

# ruff: noqa: E501  the messages are Kubernetes' and stay in one piece
from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apicore import (
    ADMIN,
    APPLY,
    CONFIG_MAP,
    CONFIG_MAPS,
    DEPLOYMENT,
    DEPLOYMENTS,
    JSON_PATCH,
    MERGE,
    PODS,
    STRATEGIC,
    World,
    config_map,
    deployment,
    pod,
    run,
)

from podling.api.admission import Admission
from podling.api.errors import ApiError
from podling.api.requests import Attributes, Call, Decision
from podling.api.resources import User, Write
from podling.kinds.core import binding


def test_the_system_fills_in_the_metadata_of_a_new_object(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = config_map("a")
        body["metadata"] |= {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7}
        answer = await world.request("POST", CONFIG_MAPS, body)
        metadata = answer.json["metadata"]
        assert answer.status == 201
        assert metadata["creationTimestamp"] == "2026-01-02T03:04:05Z"
        assert metadata["namespace"] == "default"
        assert metadata["uid"] != "mine"
        assert metadata["generation"] == 7, "a kind that counts no generations keeps the given one"
        assert metadata["managedFields"][0]["manager"] == "tester"
        assert (await world.request("GET", f"{CONFIG_MAPS}/a")).json == answer.json

    run(tmp_path, scenario)


def test_a_name_is_generated_and_never_collides(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = {"metadata": {"generateName": "job-"}}
        answers = await asyncio.gather(*(world.request("POST", CONFIG_MAPS, body) for _ in range(1)))
        name = answers[0].json["metadata"]["name"]
        assert name.startswith("job-")
        assert len(name) == len("job-") + 5
        world.server.registry.random.seed(1)
        first = (await world.request("POST", CONFIG_MAPS, body)).json["metadata"]["name"]
        world.server.registry.random.seed(1)
        second = await world.request("POST", CONFIG_MAPS, body)
        assert second.status == 201
        assert second.json["metadata"]["name"] != first

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            {"metadata": {}},
            422,
            'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required',
        ),
        ({"metadata": {"name": "taken"}}, 409, 'configmaps "taken" already exists'),
        (
            {"metadata": {"name": "taken", "generateName": "x"}},
            409,
            'configmaps "taken" already exists, the server was not able to generate a unique name for the object',
        ),
        (
            {"metadata": {"name": "x", "namespace": "other"}},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            {"metadata": {"name": "x", "resourceVersion": "5"}},
            500,
            "resourceVersion should not be set on objects to be created",
        ),
    ],
)
def test_a_create_is_refused(tmp_path: Path, body: Any, code: int, message: str) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("taken"))
        answer = await world.request("POST", CONFIG_MAPS, body)
        assert (answer.status, answer.json["code"], answer.json["message"]) == (code, code, message)

    run(tmp_path, scenario)


def test_a_new_object_needs_a_namespace_that_exists_and_stays(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        missing = await world.request("POST", "/api/v1/namespaces/none/configmaps", config_map("a"))
        assert (missing.status, missing.json["message"]) == (404, 'namespaces "none" not found')
        going = {"metadata": {"name": "going", "finalizers": ["example.com/f"]}}
        await world.request("POST", "/api/v1/namespaces", going)
        await world.request("DELETE", "/api/v1/namespaces/going")
        refused = await world.request("POST", "/api/v1/namespaces/going/configmaps", config_map("a"))
        assert (refused.status, refused.json["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
        again = await world.request("POST", "/api/v1/namespaces", {"metadata": {"name": "going"}})
        assert again.json["message"] == 'object is being deleted: namespaces "going" already exists'
        kept = await world.request("DELETE", "/api/v1/namespaces/default")
        assert kept.json["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "path", ["/api/v1/nopes", "/api/v2/pods", "/apis/apps/v9/deployments", f"{CONFIG_MAPS}/c/status"]
)
def test_what_is_not_served_is_not_found_in_json(tmp_path: Path, path: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", path)
        assert answer.status == 404
        assert answer.json["message"] == "the server could not find the requested resource"
        assert answer.json["details"] == {}

    run(tmp_path, scenario)


@pytest.mark.parametrize("path", ["/nope", "/apis/nope/v1/x"])
def test_what_is_outside_the_api_is_not_found_in_text(tmp_path: Path, path: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("GET", path)
        assert (answer.status, answer.body) == (404, b"404 page not found\n")

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{CONFIG_MAPS}/a"), ("PATCH", CONFIG_MAPS), ("PUT", CONFIG_MAPS), ("POST", "/api/v1/configmaps")],
)
def test_a_verb_in_the_wrong_place_is_not_allowed(tmp_path: Path, method: str, path: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request(method, path, {}, Content_Type=MERGE)
        assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")

    run(tmp_path, scenario)


def test_an_update_with_a_stale_resource_version_is_a_conflict(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        old = await world.create(CONFIG_MAP, config_map("a", k="1"))
        fresh = {**old, "data": {"k": "2"}}
        assert (await world.request("PUT", f"{CONFIG_MAPS}/a", fresh)).status == 200
        stale = await world.request("PUT", f"{CONFIG_MAPS}/a", {**fresh, "data": {"k": "3"}})
        assert stale.status == 409
        assert stale.json["message"] == (
            'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
            "please apply your changes to the latest version and try again"
        )
        assert (await world.request("PUT", f"{CONFIG_MAPS}/a", config_map("a", k="4"))).json["data"] == {"k": "4"}

    run(tmp_path, scenario)


def test_a_resource_version_that_is_no_number_is_no_conflict(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        body = {"metadata": {"resourceVersion": "x"}}
        answer = await world.request("PATCH", f"{CONFIG_MAPS}/a", body, Content_Type=MERGE)
        message = 'strconv.ParseUint: parsing "x": invalid syntax'
        assert (answer.status, answer.json["message"]) == (500, message)

    run(tmp_path, scenario)


def test_an_update_that_changes_nothing_keeps_the_resource_version(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        before = (await world.request("POST", CONFIG_MAPS, config_map("a"))).json["metadata"]["resourceVersion"]
        for method, body, kind in (
            ("PUT", config_map("a"), "application/json"),
            ("PATCH", {"data": {"k": "v"}}, MERGE),
            ("PATCH", [], JSON_PATCH),
        ):
            answer = await world.request(method, f"{CONFIG_MAPS}/a", body, Content_Type=kind)
            assert (answer.status, answer.json["metadata"]["resourceVersion"]) == (200, before)

    run(tmp_path, scenario)


def test_an_update_cannot_change_what_the_system_owns(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        old = await world.create(CONFIG_MAP, config_map("a"))
        changed = {**config_map("a", k="2")}
        changed["metadata"] |= {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9}
        metadata = (await world.request("PUT", f"{CONFIG_MAPS}/a", changed)).json["metadata"]
        assert (metadata["uid"], metadata["creationTimestamp"]) == (
            old["metadata"]["uid"],
            old["metadata"]["creationTimestamp"],
        )
        changed["metadata"]["uid"] = "other"
        refused = await world.request("PUT", f"{CONFIG_MAPS}/a", changed)
        assert refused.status == 409
        assert "Precondition failed: UID in precondition: other" in refused.json["message"]

    run(tmp_path, scenario)


def test_the_four_kinds_of_patches(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.request("POST", PODS, pod("p"))
        path = f"{PODS}/p"

        async def patch(body: Any, kind: str, query: str = "") -> Any:
            answer = await world.request("PATCH", path + query, body, Content_Type=kind)
            assert answer.status == 200, answer.json
            return answer.json

        merged = await patch({"metadata": {"labels": {"a": "1", "b": "2"}}}, MERGE)
        assert merged["metadata"]["labels"] == {"a": "1", "b": "2"}
        edited = await patch([{"op": "remove", "path": "/metadata/labels/b"}], JSON_PATCH)
        assert edited["metadata"]["labels"] == {"a": "1"}
        containers = {"spec": {"containers": [{"name": "c", "image": "j"}, {"name": "d", "image": "k"}]}}
        strategic = await patch(containers, STRATEGIC)
        assert sorted(c["name"] + c["image"] for c in strategic["spec"]["containers"]) == ["cj", "dk"]
        config = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"applied": "yes"}}}
        applied = await patch(config, APPLY, "?fieldManager=m")
        assert applied["metadata"]["labels"] == {"a": "1", "applied": "yes"}

    run(tmp_path, scenario)


def test_an_apply_of_strange_metadata_is_refused(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": "strange"}
        answer = await world.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=m", config, Content_Type=APPLY)
        assert (answer.status, answer.json["reason"]) == (400, "BadRequest")

    run(tmp_path, scenario)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_apply_configuration_is_no_body_of_another_verb(tmp_path: Path, method: str) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        path = CONFIG_MAPS if method == "POST" else f"{CONFIG_MAPS}/a"
        answer = await world.request(method, path, config_map("a") | {"data": ["untyped"]}, Content_Type=APPLY)
        assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")

    run(tmp_path, scenario)


def test_apply_creates_what_is_not_there(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=m", config_map("a"), Content_Type=APPLY)
        assert answer.status == 201
        assert answer.json["metadata"]["managedFields"][0]["operation"] == "Apply"
        unnamed = await world.request("PATCH", f"{CONFIG_MAPS}/a", config_map("a"), Content_Type=APPLY)
        assert (unnamed.status, unnamed.json["details"]["causes"][0]["field"]) == (422, "fieldManager")

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("kind", "body", "code", "message"),
    [
        ("text/plain", b"{}", 415, "415: Unsupported Media Type"),
        (MERGE, b"[]", 400, "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (MERGE, b"null", 400, "Invalid JSON Patch"),
        (JSON_PATCH, b"{}", 400, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (JSON_PATCH, b"[[]]", 400, "error decoding patch: json: cannot unmarshal array into Go value of type handlers.jsonPatchOp"),
        (JSON_PATCH, b"[null]", 422, "the server rejected our request due to an error in our request"),
        (MERGE, b'{"metadata":{"name":"b"}}', 400, "the name of the object (b) does not match the name on the URL (a)"),
        (JSON_PATCH, b'[{"op":"test","path":"/data/k","value":"x"}]', 422, "the server rejected our request due to an error in our request"),
    ],
)  # fmt: skip
def test_a_patch_is_refused(tmp_path: Path, kind: str, body: bytes, code: int, message: str) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        answer = await world.request("PATCH", f"{CONFIG_MAPS}/a", body, Content_Type=kind)
        assert (answer.status, answer.json["message"]) == (code, message)

    run(tmp_path, scenario)


def test_unknown_fields_are_refused_warned_of_or_dropped(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = {"metadata": {"name": "a"}, "nope": 1}
        strict = await world.request("POST", f"{CONFIG_MAPS}?fieldValidation=Strict", body)
        assert strict.status == 400
        warned = await world.request("POST", CONFIG_MAPS, body)
        assert warned.headers["Warning"] == '299 - "unknown field \\"nope\\""'
        refused = await world.request("POST", CONFIG_MAPS, body)
        assert (refused.status, refused.headers["Warning"]) == (409, warned.headers["Warning"])
        ignored = await world.request("PUT", f"{CONFIG_MAPS}/a?fieldValidation=Ignore", body)
        assert (ignored.status, "Warning" in ignored.headers, "nope" in ignored.json) == (200, False, False)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("method", "path", "name", "code"),
    [("PUT", f"{CONFIG_MAPS}/a", "a", 404), ("PUT", f"{CONFIG_MAPS}/a", "b", 400)],
)
def test_a_refused_request_is_warned_too(tmp_path: Path, method: str, path: str, name: str, code: int) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request(method, path, {"metadata": {"name": name}, "nope": 1})
        assert (answer.status, answer.headers["Warning"]) == (code, '299 - "unknown field \\"nope\\""')

    run(tmp_path, scenario)


def test_a_taken_name_beside_a_prefix_is_told_as_one_that_was_not_generated(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = {"metadata": {"name": "a", "generateName": "x-"}}
        assert (await world.request("POST", CONFIG_MAPS, body)).status == 201
        answer = await world.request("POST", CONFIG_MAPS, body)
        says = 'configmaps "a" already exists, the server was not able to generate a unique name for the object'
        assert (answer.status, answer.json["message"], answer.headers["Retry-After"]) == (409, says, "1")
        assert answer.json["details"]["retryAfterSeconds"] == 1

    run(tmp_path, scenario)


def test_what_is_not_there_is_not_found_whatever_version_is_expected(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("PUT", f"{CONFIG_MAPS}/a", {"metadata": {"name": "a", "resourceVersion": "x"}})
        assert answer.status == 404

    run(tmp_path, scenario)


def test_a_parameter_with_a_semicolon_is_none(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert (await world.request("GET", f"{CONFIG_MAPS}?limit=x;a&limit=1;b")).status == 200
        assert (await world.request("GET", f"{CONFIG_MAPS}?limit=x")).status == 400

    run(tmp_path, scenario)


def test_the_generation_counts_changes_of_the_spec_and_status_is_kept_apart(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = {**deployment("d"), "status": {"replicas": 7}}
        created = (await world.request("POST", DEPLOYMENTS, body)).json
        assert (created["metadata"]["generation"], created["status"]) == (1, {})
        body["spec"]["replicas"] = 2
        updated = (await world.request("PUT", f"{DEPLOYMENTS}/d", body)).json
        assert (updated["metadata"]["generation"], updated["status"]) == (2, {})
        status = {"spec": {"replicas": 9}, "status": {"replicas": 2}}
        patched = (await world.request("PATCH", f"{DEPLOYMENTS}/d/status", status, Content_Type=MERGE)).json
        assert patched["metadata"]["generation"] == 2
        assert (patched["spec"]["replicas"], patched["status"]) == (2, {"replicas": 2})

    run(tmp_path, scenario)


def test_a_workload_is_scaled(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.request("POST", DEPLOYMENTS, deployment("d", 3))
        scale = (await world.request("GET", f"{DEPLOYMENTS}/d/scale")).json
        assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 3}, "app=d")
        patch = {"spec": {"replicas": 5}}
        patched = await world.request("PATCH", f"{DEPLOYMENTS}/d/scale", patch, Content_Type=MERGE)
        assert patched.json["spec"] == {"replicas": 5}
        assert (await world.request("GET", f"{DEPLOYMENTS}/d")).json["metadata"]["generation"] == 2
        scale["spec"]["replicas"] = 1
        assert (await world.request("PUT", f"{DEPLOYMENTS}/d/scale", scale)).status == 409
        other = {"metadata": {"uid": "other"}, "spec": {"replicas": 2}}
        refused = await world.request("PATCH", f"{DEPLOYMENTS}/d/scale", other, Content_Type=MERGE)
        assert refused.json["message"] == (
            'Operation cannot be fulfilled on deployments/scale.apps "d": '
            f"Precondition failed: UID in precondition: other, UID in object meta: {scale['metadata']['uid']}"
        )
        negative = await world.request(
            "PATCH", f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": -1}}, Content_Type=MERGE
        )
        assert negative.json["message"] == (
            'Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
        )

    run(tmp_path, scenario)


def test_a_dry_run_answers_like_a_write_and_stores_nothing(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        created = await world.request("POST", f"{CONFIG_MAPS}?dryRun=All", config_map("a"))
        assert (created.status, "resourceVersion" in created.json["metadata"]) == (201, False)
        assert (await world.request("GET", f"{CONFIG_MAPS}/a")).status == 404
        await world.create(CONFIG_MAP, config_map("a", k="1"))
        changed = await world.request("PUT", f"{CONFIG_MAPS}/a?dryRun=All", config_map("a", k="2"))
        assert changed.json["data"] == {"k": "2"}
        assert (await world.request("DELETE", f"{CONFIG_MAPS}/a", {"dryRun": ["All"]})).json["status"] == "Success"
        assert (await world.request("GET", f"{CONFIG_MAPS}/a")).json["data"] == {"k": "1"}
        bad = await world.request("POST", f"{CONFIG_MAPS}?dryRun=Some", config_map("b"))
        assert (bad.status, bad.json["details"]["kind"]) == (422, "CreateOptions")

    run(tmp_path, scenario)


def test_a_delete_answers_what_was_deleted(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        obj = await world.create(CONFIG_MAP, config_map("a"))
        answer = await world.request("DELETE", f"{CONFIG_MAPS}/a")
        details = {"name": "a", "kind": "configmaps", "uid": obj["metadata"]["uid"]}
        assert (answer.json["status"], answer.json["details"]) == ("Success", details)
        assert (await world.request("DELETE", f"{CONFIG_MAPS}/a")).status == 404

    run(tmp_path, scenario)


def test_preconditions_guard_a_delete(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        obj = await world.create(CONFIG_MAP, config_map("a"))
        other = await world.request("DELETE", f"{CONFIG_MAPS}/a", {"preconditions": {"uid": "other"}})
        assert (other.status, other.json["details"]["kind"]) == (409, "ConfigMap")
        stale = await world.request("DELETE", f"{CONFIG_MAPS}/a", {"preconditions": {"resourceVersion": "1"}})
        assert stale.status == 409
        right = {k: obj["metadata"][k] for k in ("uid", "resourceVersion")}
        assert (await world.request("DELETE", f"{CONFIG_MAPS}/a", {"preconditions": right})).status == 200

    run(tmp_path, scenario)


def test_finalizers_keep_an_object_until_the_last_is_gone(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = config_map("a")
        body["metadata"]["finalizers"] = ["example.com/one", "example.com/two"]
        await world.request("POST", CONFIG_MAPS, body)
        marked = (await world.request("DELETE", f"{CONFIG_MAPS}/a")).json
        assert marked["metadata"]["deletionTimestamp"] == "2026-01-02T03:04:05Z"
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
        again = (await world.request("DELETE", f"{CONFIG_MAPS}/a")).json
        assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
        path = f"{CONFIG_MAPS}/a"
        one = await world.request("PATCH", path, {"metadata": {"finalizers": ["example.com/two"]}}, Content_Type=MERGE)
        assert one.json["metadata"]["finalizers"] == ["example.com/two"]
        last = await world.request("PATCH", path, {"metadata": {"finalizers": None}}, Content_Type=MERGE)
        assert (last.status, "finalizers" in last.json["metadata"]) == (200, False)
        assert (await world.request("GET", path)).status == 404

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("options", "finalizers"),
    [
        ({"propagationPolicy": "Foreground"}, ["foregroundDeletion"]),
        ({"propagationPolicy": "Orphan"}, ["orphan"]),
        ({"orphanDependents": True}, ["orphan"]),
    ],
)
def test_propagation_is_left_to_the_garbage_collector_as_a_finalizer(
    tmp_path: Path, options: Any, finalizers: list[str]
) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        answer = await world.request("DELETE", f"{CONFIG_MAPS}/a", options)
        assert answer.json["metadata"]["finalizers"] == finalizers

    run(tmp_path, scenario)


def test_a_pod_on_a_node_is_given_its_grace_period_which_can_only_be_shortened(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.request("POST", PODS, pod("p", node="n"))

        async def delete(body: Any = None) -> tuple[int, str]:
            metadata = (await world.request("DELETE", f"{PODS}/p", body)).json["metadata"]
            return metadata["deletionGracePeriodSeconds"], metadata["deletionTimestamp"][-3:-1]

        assert await delete() == (30, "35")
        assert await delete({"gracePeriodSeconds": 10}) == (10, "15")
        assert await delete({"gracePeriodSeconds": 100}) == (10, "15")
        assert await delete({"gracePeriodSeconds": 0}) == (0, "05")
        assert (await world.request("GET", f"{PODS}/p")).status == 404

    run(tmp_path, scenario)


def test_a_pod_without_a_node_is_deleted_at_once_and_shown(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        created = (await world.request("POST", PODS, pod("p"))).json
        deleted = (await world.request("DELETE", f"{PODS}/p")).json
        assert deleted["metadata"]["uid"] == created["metadata"]["uid"]
        assert deleted["metadata"]["generation"] == 2
        assert (await world.request("GET", f"{PODS}/p")).status == 404

    run(tmp_path, scenario)


def test_a_collection_is_deleted_by_selector(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for number in range(300):
            await world.create(CONFIG_MAP, config_map(f"c{number}", {"odd": str(number % 2)}))
        deleted = await world.request("DELETE", f"{CONFIG_MAPS}?labelSelector=odd%3D1")
        assert len(deleted.names) == 150
        left = await world.request("GET", CONFIG_MAPS)
        assert {item["metadata"]["labels"]["odd"] for item in left.json["items"]} == {"0"}

    run(tmp_path, scenario)


def test_admission_changes_and_refuses_in_its_place(tmp_path: Path) -> None:
    async def label(write: Write) -> None:
        write.new["metadata"].setdefault("labels", {})["admitted"] = write.operation
        write.warnings.append("be careful")

    def refuse(write: Write) -> None:
        if write.new["metadata"]["name"] == "bad":
            assert write.new["metadata"]["labels"]["admitted"]
            raise ApiError(403, "Forbidden", "no")

    async def scenario(world: World) -> None:
        good = await world.request("POST", CONFIG_MAPS, config_map("good"))
        assert good.json["metadata"]["labels"] == {"admitted": "CREATE"}
        assert good.headers["Warning"] == '299 - "be careful"'
        assert (await world.request("POST", CONFIG_MAPS, config_map("bad"))).status == 403

    run(tmp_path, scenario, admission=Admission(mutating=[label], validating=[refuse]))


def test_who_may_not_is_told_what(tmp_path: Path) -> None:
    def authorize(user: User, attributes: Attributes) -> Decision:
        return Decision(attributes.path == "/readyz")

    async def scenario(world: World) -> None:
        answer = await world.request("GET", f"{CONFIG_MAPS}/a")
        assert answer.status == 403
        assert answer.json["message"] == (
            'configmaps "a" is forbidden: User "admin" cannot get resource "configmaps" in API group "" '
            'in the namespace "default"'
        )
        listing = await world.request("GET", DEPLOYMENTS.replace("namespaces/default/", ""))
        assert listing.json["message"].endswith('resource "deployments" in API group "apps" at the cluster scope')
        assert (await world.request("GET", "/metrics")).json["message"] == (
            'forbidden: User "admin" cannot get path "/metrics"'
        )
        assert (await world.request("GET", "/readyz")).status == 200

    run(tmp_path, scenario, authorize=authorize)


def test_many_writers_of_one_object_lose_nothing(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        connections = [await world.connect() for _ in range(16)]
        for number, http in enumerate(connections):
            await http.send("PATCH", f"{CONFIG_MAPS}/a", {"data": {f"k{number}": "x"}}, Content_Type=MERGE)
        assert {(await http.answer()).status for http in connections} == {200}
        data = (await world.request("GET", f"{CONFIG_MAPS}/a")).json["data"]
        assert data.keys() >= {f"k{number}" for number in range(16)}

    run(tmp_path, scenario)


def test_a_full_disk_is_told_to_the_client_and_reads_go_on(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        world.store._disk._db.execute("PRAGMA max_page_count = 1")  # type: ignore[reportPrivateUsage]
        full = await world.request("POST", CONFIG_MAPS, config_map("b", k="x" * 100_000))
        assert full.status == 507
        assert "no space left on the disk" in full.json["message"]
        assert (await world.request("GET", f"{CONFIG_MAPS}/a")).status == 200
        world.store._disk._db.execute("PRAGMA max_page_count = 100000")  # type: ignore[reportPrivateUsage]
        assert (await world.request("POST", CONFIG_MAPS, config_map("b"))).status == 201

    run(tmp_path, scenario)


def test_health_is_asked_for_as_a_whole_or_by_check(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert (await world.request("GET", "/livez?verbose")).body == b"[+]ping ok\nlivez check passed\n"
        assert (await world.request("GET", "/readyz")).body == b"ok"
        without = await world.request("GET", "/healthz?verbose&exclude=ping&exclude=x")
        assert without.body == (
            b"[+]ping excluded: ok\n"
            b'warn: some health checks cannot be excluded: no matches for "x"\nhealthz check passed\n'
        )
        assert (await world.request("GET", "/readyz/ping?verbose")).body == b"ok"
        assert (await world.request("GET", "/readyz/none")).status == 404
        assert (await world.request("GET", "/readyz/")).status == 404

    run(tmp_path, scenario)


def test_requests_are_counted(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.request("GET", f"{CONFIG_MAPS}/nope")
        text = (await world.request("GET", "/metrics")).body.decode()
        what = 'component="apiserver",dry_run="",group="",version="v1",resource="configmaps",subresource=""'
        assert f'apiserver_request_total{{code="404",{what},scope="resource",verb="GET"}} 1' in text
        assert f'apiserver_request_duration_seconds_count{{{what},scope="resource",verb="GET"}} 1' in text
        for body, headers in (({}, {"Content_Type": MERGE}), (config_map("a"), {"Content_Type": APPLY})):
            await world.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=m", body, **headers)
        await world.request("GET", CONFIG_MAPS)
        text = (await world.request("GET", "/metrics")).body.decode()
        assert f'apiserver_request_total{{code="404",{what},scope="resource",verb="PATCH"}} 1' in text
        assert f'apiserver_request_total{{code="201",{what},scope="resource",verb="APPLY"}} 1' in text
        assert f'apiserver_request_total{{code="200",{what},scope="namespace",verb="LIST"}} 1' in text

    run(tmp_path, scenario)


@pytest.mark.parametrize("path", ["/api/v1/madeup", "/apis/made.up/v1/things", f"{CONFIG_MAPS}/a/madeup"])
def test_requests_for_what_is_not_served_are_counted_without_its_name(tmp_path: Path, path: str) -> None:
    async def scenario(world: World) -> None:
        await world.request("GET", path)
        text = (await world.request("GET", "/metrics")).body.decode()
        assert 'code="404",component="apiserver",dry_run="",group="",version="",resource="",' in text
        assert "made" not in text

    run(tmp_path, scenario)


def test_the_version_is_that_of_the_kubernetes_that_is_spoken(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert (await world.request("GET", "/version")).json["gitVersion"] == "v1.36.2"

    run(tmp_path, scenario)


def test_an_applied_scale_takes_over_the_replicas_only_by_force(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        path = f"{DEPLOYMENTS}/d"
        await world.request("PATCH", f"{path}?fieldManager=owner", deployment("d", 3), Content_Type=APPLY)
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 5}}
        refused = await world.request("PATCH", f"{path}/scale?fieldManager=scaler", scale, Content_Type=APPLY)
        assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "owner": .spec.replicas'
        forced = await world.request("PATCH", f"{path}/scale?fieldManager=scaler&force=1", scale, Content_Type=APPLY)
        assert forced.json["spec"] == {"replicas": 5}
        managed = (await world.request("GET", path)).json["metadata"]["managedFields"]
        owners = {entry["manager"]: entry for entry in managed}
        assert "f:replicas" not in owners["owner"]["fieldsV1"]["f:spec"]
        assert owners["scaler"]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
        assert (owners["scaler"]["subresource"], owners["scaler"]["apiVersion"]) == ("scale", "apps/v1")

    run(tmp_path, scenario)


def test_every_answer_of_a_deprecated_kind_carries_the_warning(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.server.add_resources(replace(CONFIG_MAP, plural="relics", deprecation="use something else"))
        answer = await world.request("GET", CONFIG_MAPS.replace("configmaps", "relics"))
        assert answer.headers["Warning"] == '299 - "use something else"'

    run(tmp_path, scenario)


def test_a_binding_in_the_collection_gives_the_pod_that_it_names_a_node(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.server.add_resources(binding.resource())
        world.server.add_creator("bindings", "", binding.creator(world.server.registry))
        await world.request("POST", PODS, pod("a"))
        bindings = PODS.replace("pods", "bindings")
        wanted = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}}
        assert (await world.request("POST", bindings, wanted)).status == 201
        assert (await world.request("GET", f"{PODS}/a")).json["spec"]["nodeName"] == "n"
        assert (await world.request("GET", bindings)).status == 405
        refused = await world.request("POST", bindings, {"metadata": {"name": "a"}, "target": {}})
        assert (refused.status, refused.json["message"]) == (500, "target.name: Required value")

    run(tmp_path, scenario)


def test_the_root_lists_what_is_served(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        paths = (await world.request("GET", "/")).json["paths"]
        assert paths == sorted(paths)
        assert {"/api/v1", "/apis/apps/v1", "/readyz", "/version"} <= set(paths)

    run(tmp_path, scenario)


def test_a_change_that_is_refused_gives_back_what_was_allocated_for_it(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        given_back: list[Any] = []
        kind = replace(DEPLOYMENT, strategy=replace(DEPLOYMENT.strategy, released=given_back.append))
        await world.create(kind, deployment("a"))
        call = Call(user=ADMIN, field_manager="tester")
        with pytest.raises(ApiError, match="must not be negative"):
            await world.server.registry.modify(
                kind, "default", "a", lambda old: {**old, "spec": {**old["spec"], "replicas": -1}}, call
            )
        assert [obj["spec"]["replicas"] for obj in given_back] == [-1]

    run(tmp_path, scenario)


def test_who_scales_owns_the_replicas_if_somebody_did(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        path = f"{DEPLOYMENTS}/d"

        async def scaled(replicas: int) -> dict[str, Any]:
            body = {"spec": {"replicas": replicas}}
            answer = await world.request("PATCH", f"{path}/scale?fieldManager=scaler", body, Content_Type=MERGE)
            assert answer.status == 200, answer.json
            entries = (await world.request("GET", path)).json["metadata"]["managedFields"]
            return {entry.get("subresource", entry["manager"]): entry for entry in entries}

        config = {key: value for key, value in deployment("d").items() if key != "spec"}
        spec = {key: value for key, value in deployment("d")["spec"].items() if key != "replicas"}
        config |= {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}
        applied = await world.request("PATCH", f"{path}?fieldManager=m", config, Content_Type=APPLY)
        assert applied.status == 201
        assert "scale" not in await scaled(2)
        config["spec"] = {**spec, "replicas": 2}
        assert (await world.request("PATCH", f"{path}?fieldManager=m", config, Content_Type=APPLY)).status == 200
        owners = await scaled(3)
        assert owners["scale"]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
        assert (owners["scale"]["apiVersion"], "time" in owners["scale"]) == ("apps/v1", False)
        assert "f:replicas" not in owners["m"]["fieldsV1"]["f:spec"]
        assert "scale" not in await scaled(0)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("kind", "query", "field", "message"),
    [
        (APPLY, "", "fieldManager", "Required value: is required for apply patch"),
        (APPLY, "?fieldManager=", "fieldManager", "Required value: is required for apply patch"),
        (MERGE, "?force=false", "force", "Forbidden: may not be specified for non-apply patch"),
        (MERGE, f"?fieldManager={'m' * 129}", "fieldManager", "Too long: may not be more than 128 bytes"),
        (MERGE, "?fieldManager=%C3%A4%07", "fieldManager",
         'Invalid value: "ä\\a": invalid character U+0007 (at position 2)'),
    ],
)  # fmt: skip
def test_the_options_of_a_patch_are_checked(tmp_path: Path, kind: str, query: str, field: str, message: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.request("PATCH", f"{CONFIG_MAPS}/a{query}", config_map("a"), Content_Type=kind)
        cause = answer.json["details"]["causes"][0]
        assert (answer.status, cause["field"], cause["message"]) == (422, field, message)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("kind", "body", "query", "code", "message"),
    [
        (STRATEGIC, b"[]", "", 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (STRATEGIC, b"{", "", 400, "unexpected end of JSON input"),
        (MERGE, b"{", "", 400, "error decoding patch: unexpected end of JSON input"),
        (MERGE, b"{", "?fieldValidation=Ignore", 400, "Invalid JSON Patch"),
        (MERGE, b"3", "?fieldValidation=Ignore", 400, "Invalid JSON Patch"),
        (JSON_PATCH, b"{}", "?fieldValidation=Ignore", 400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        (JSON_PATCH, b"[3]", "?fieldValidation=Ignore", 400, "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
        (JSON_PATCH, b'[{"op":1}]', "?fieldValidation=Ignore", 422, "the server rejected our request due to an error in our request"),
        (MERGE, b'{"metadata":{"namespace":"other","name":"b"}}', "", 400,
         "the namespace of the provided object does not match the namespace sent on the request"),
        (MERGE, b'{"metadata":{"name":null}}', "", 400,
         "the name of the object (a based on URL) was undeterminable: name must be provided"),
    ],
)  # fmt: skip
def test_a_patch_is_refused_in_the_words_of_who_reads_it_first(
    tmp_path: Path, kind: str, body: bytes, query: str, code: int, message: str
) -> None:
    async def scenario(world: World) -> None:
        missing = await world.request("PATCH", f"{CONFIG_MAPS}/a{query}", body, Content_Type=kind)
        assert missing.status == 404
        await world.create(CONFIG_MAP, config_map("a"))
        answer = await world.request("PATCH", f"{CONFIG_MAPS}/a{query}", body, Content_Type=kind)
        assert (answer.status, answer.json["message"]) == (code, message)

    run(tmp_path, scenario)


def test_a_strategic_patch_of_null_changes_nothing(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        created = await world.create(CONFIG_MAP, config_map("a"))
        answer = await world.request("PATCH", f"{CONFIG_MAPS}/a", b"null", Content_Type=STRATEGIC)
        assert (answer.status, answer.json) == (200, created)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        (MERGE, b'{"data":{"k":"1","k":"2"}}', 'duplicate field "data.k"'),
        (STRATEGIC, b'{"data":{"k":"1","k":"2"}}', 'duplicate field "data.k"'),
        (JSON_PATCH, b'[{"op":"remove","op":"add","path":"/data/k","value":"2"}]', 'json patch duplicate field "[0].op"'),
        (JSON_PATCH, b'[{"op":"add","path":"/data/k","value":"2","why":1}]', 'json patch unknown field "[0].why"'),
    ],
)  # fmt: skip
def test_repeated_and_unknown_fields_of_a_patch_are_told(tmp_path: Path, kind: str, body: bytes, problem: str) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        path = f"{CONFIG_MAPS}/a"
        strict = await world.request("PATCH", f"{path}?fieldValidation=Strict", body, Content_Type=kind)
        assert strict.status == 422
        assert strict.json["message"].endswith(f": strict decoding error: {problem}")
        warned = await world.request("PATCH", path, body, Content_Type=kind)
        quoted = problem.replace('"', '\\"')
        assert (warned.status, warned.headers["Warning"]) == (200, f'299 - "{quoted}"')
        assert warned.json["data"]["k"] == "2"
        ignored = await world.request("PATCH", f"{path}?fieldValidation=Ignore", body, Content_Type=kind)
        assert (ignored.status, "Warning" in ignored.headers) == (200, False)

    run(tmp_path, scenario)


def test_names_in_sent_managed_fields_are_checked(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = config_map("a")
        entry = {"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:immutable": {}}}
        body["metadata"]["managedFields"] = [{**entry, "manager": "m" * 129, "subresource": "s" * 257}]
        answer = await world.request("POST", CONFIG_MAPS, body)
        fields = [cause["field"] for cause in answer.json["details"]["causes"]]
        assert answer.status == 422
        assert fields == ["metadata.managedFields[0].manager", "metadata.managedFields[0].subresource"]

    run(tmp_path, scenario)


def test_equal_owner_references_are_kept_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
        body = config_map("a")
        body["metadata"]["ownerReferences"] = [owner, {**owner, "uid": "w"}, owner, {**owner, "controller": True}]
        created = await world.request("POST", CONFIG_MAPS, body)
        assert created.headers["Warning"].endswith('duplicate UID(s) observed: u"')
        kept = created.json["metadata"]["ownerReferences"]
        assert kept == [owner, {**owner, "uid": "w"}, {**owner, "controller": True}]
        change = [{"op": "add", "path": "/metadata/ownerReferences/-", "value": owner}]
        patched = await world.request("PATCH", f"{CONFIG_MAPS}/a", change, Content_Type=JSON_PATCH)
        assert "contains duplicate entries after mutating admission happens; " in patched.headers["Warning"]
        assert patched.json["metadata"]["ownerReferences"] == kept

    run(tmp_path, scenario)


def test_an_apply_configuration_needs_no_name_for_what_is_there(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        config = {"apiVersion": "v1", "kind": "ConfigMap"}
        path = f"{CONFIG_MAPS}/a?fieldManager=m"
        refused = await world.request("PATCH", path, config, Content_Type=APPLY)
        assert (refused.status, "undeterminable" in refused.json["message"]) == (400, True)
        await world.create(CONFIG_MAP, config_map("a"))
        assert (await world.request("PATCH", path, config, Content_Type=APPLY)).status == 200

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("metadata", "code", "message"),
    [
        ({"name": "e"}, 400, "the name of the object (e) does not match the name on the URL (d)"),
        ({"uid": "e"}, 409, 'Operation cannot be fulfilled on deployments/scale.apps "d": Precondition failed: UID in'),
    ],
)
def test_a_patch_of_the_scale_of_another_is_refused(
    tmp_path: Path, metadata: dict[str, str], code: int, message: str
) -> None:
    async def scenario(world: World) -> None:
        await world.request("POST", DEPLOYMENTS, deployment("d"))
        answer = await world.request("PATCH", f"{DEPLOYMENTS}/d/scale", {"metadata": metadata}, Content_Type=MERGE)
        assert (answer.status, answer.json["message"][: len(message)]) == (code, message)

    run(tmp_path, scenario)


def test_the_type_of_a_patch_is_written_in_lower_case(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.create(CONFIG_MAP, config_map("a"))
        for kind, code in ((f"{MERGE}; charset=utf-8", 200), (MERGE.title(), 415)):
            answer = await world.request("PATCH", f"{CONFIG_MAPS}/a", {}, Content_Type=kind)
            assert answer.status == code

    run(tmp_path, scenario)


def test_a_repeated_key_of_a_yaml_configuration_is_told_with_its_line(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        body = b'apiVersion: v1\nkind: ConfigMap\ndata: {a: "1", a: "2"}\nmetadata: {name: a}\n'
        path = f"{CONFIG_MAPS}/a?fieldManager=m"
        warned = await world.request("PATCH", path, body, Content_Type=APPLY)
        assert warned.headers["Warning"] == '299 - "line 3: key \\"a\\" already set in map"'
        strict = await world.request("PATCH", f"{path}&fieldValidation=Strict", body, Content_Type=APPLY)
        assert strict.json["message"] == (
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n"
            '  line 3: key "a" already set in map'
        )

    run(tmp_path, scenario)

"""Discovery and OpenAPI documents."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from podling.api import discovery, openapi
from podling.api.discovery import Discovery
from podling.api.errors import ApiError
from podling.api.openapi import OpenApi
from podling.api.resources import Resource, ScalePaths
from podling.api.schema import Schemas

SCHEMAS = Schemas.load()
SERVED = (
    Resource(
        group="",
        version="v1",
        kind="Pod",
        plural="pods",
        singular="pod",
        namespaced=True,
        schema="io.k8s.api.core.v1.Pod",
        short_names=("po",),
        categories=("all",),
        status=True,
        subresources=("log", "exec"),
    ),
    Resource(
        group="apps",
        version="v1",
        kind="Deployment",
        plural="deployments",
        singular="deployment",
        namespaced=True,
        schema="io.k8s.api.apps.v1.Deployment",
        status=True,
        scale=ScalePaths(),
    ),
    *(
        Resource(
            group="autoscaling",
            version=version,
            kind="HorizontalPodAutoscaler",
            plural="horizontalpodautoscalers",
            singular="horizontalpodautoscaler",
            namespaced=True,
            schema=f"io.k8s.api.autoscaling.{version}.HorizontalPodAutoscaler",
            storage="hpas",
            to_storage=(lambda obj: obj) if version == "v1" else None,
        )
        for version in ("v1", "v2")
    ),
    Resource(
        group="example.com",
        version="v1alpha1",
        kind="Toy",
        plural="toys",
        singular="toy",
        namespaced=False,
        schema="com.example.Toy",
        custom=True,
    ),
)
DISCOVERY = Discovery(SERVED)


def document(path: str, accept: str = "application/json") -> Any:
    found = DISCOVERY.respond(path, accept)
    assert found is not None
    return orjson.loads(found[0])


def names(items: list[Any], key: str = "name") -> list[str]:
    return [item[key] for item in items]


def test_groups_come_by_priority_and_custom_ones_last() -> None:
    groups = document("/apis")["groups"]
    assert names(groups) == ["apps", "autoscaling", "example.com"]
    assert names(groups[1]["versions"], "version") == ["v2", "v1"]
    assert groups[1]["preferredVersion"] == {"groupVersion": "autoscaling/v2", "version": "v2"}
    assert document("/apis/apps")["kind"] == "APIGroup"


def test_resources_are_listed_with_their_subresources() -> None:
    resources = document("/api/v1")["resources"]
    assert names(resources) == ["pods", "pods/exec", "pods/log", "pods/status"]
    assert resources[0]["shortNames"] == ["po"]
    assert resources[1] == {
        "name": "pods/exec",
        "singularName": "",
        "namespaced": True,
        "kind": "PodExecOptions",
        "verbs": ["create", "get"],
    }
    scale = document("/apis/apps/v1")["resources"][1]
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")


def test_the_storage_version_hash_is_that_of_the_stored_kind() -> None:
    hashes = [
        document(f"/apis/autoscaling/{version}")["resources"][0]["storageVersionHash"] for version in ("v1", "v2")
    ]
    assert hashes[0] == hashes[1] == "qwQve8ut294="


def test_aggregated_discovery_has_everything_at_once() -> None:
    groups = document("/apis", discovery.AGGREGATED + ",application/json")["items"]
    assert [group["metadata"]["name"] for group in groups] == ["apps", "autoscaling", "example.com"]
    deployments = groups[0]["versions"][0]["resources"][0]
    assert names(deployments["subresources"], "subresource") == ["scale", "status"]
    assert groups[2]["versions"][0]["resources"][0]["scope"] == "Cluster"
    found = DISCOVERY.respond("/apis", discovery.AGGREGATED)
    assert found is not None
    assert found[1] == discovery.AGGREGATED


def test_a_form_that_is_not_offered_is_not_acceptable() -> None:
    for path, accept in (("/apis/apps/v1", discovery.AGGREGATED), ("/api", discovery.AGGREGATED.replace("v2", "v9"))):
        with pytest.raises(ApiError) as caught:
            DISCOVERY.respond(path, accept)
        assert caught.value.code == 406


@pytest.mark.parametrize("path", ["/apis/nope", "/apis/apps/v9", "/api/v2", "/other", "/apis/apps/v1/x"])
def test_there_is_no_document_elsewhere(path: str) -> None:
    assert DISCOVERY.respond(path, "") is None


def test_versions_rank_as_kubernetes_ranks_them() -> None:
    versions = ["foo10", "v1alpha2", "v10", "v2beta1", "v1", "v11alpha2", "v2", "v3beta1", "foo1", "v11beta2"]
    ranked = ["v10", "v2", "v1", "v11beta2", "v3beta1", "v2beta1", "v11alpha2", "v1alpha2", "foo1", "foo10"]
    assert sorted(versions, key=discovery.version_rank) == ranked


# OpenAPI


@pytest.fixture(scope="module")
def api() -> OpenApi:
    return OpenApi(SERVED, SCHEMAS)


def fetched(api: OpenApi, path: str, accept: str = "") -> Any:
    answer = api.respond(path, accept)
    assert answer is not None
    assert dict(answer.headers)["ETag"]
    return orjson.loads(answer.body)


def test_the_index_names_each_version_with_a_hash(api: OpenApi) -> None:
    paths = fetched(api, "/openapi/v3")["paths"]
    assert sorted(paths) == [
        "api/v1",
        "apis/apps/v1",
        "apis/autoscaling/v1",
        "apis/autoscaling/v2",
        "apis/example.com/v1alpha1",
    ]
    assert paths["apis/apps/v1"]["serverRelativeURL"].startswith("/openapi/v3/apis/apps/v1?hash=")


def test_a_document_by_its_hash_never_changes_and_an_old_hash_leads_to_the_present_one(api: OpenApi) -> None:
    url = fetched(api, "/openapi/v3")["paths"]["apis/apps/v1"]["serverRelativeURL"]
    path, _, present = url.partition("?hash=")
    answer = api.respond(path, "", present)
    assert answer is not None
    assert dict(answer.headers)["ETag"] == f'"{present}"'
    assert dict(answer.headers)["Cache-Control"] == "public, immutable"
    outdated = api.respond(path, "", "OLD")
    assert outdated is not None
    assert (outdated.status, dict(outdated.headers)["Location"]) == (301, url)


def test_kubectl_finds_what_patch_accepts(api: OpenApi) -> None:
    paths = fetched(api, "/openapi/v3/apis/apps/v1")["paths"]
    operation = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert operation["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert {"dryRun", "fieldValidation"} <= {parameter["name"] for parameter in operation["parameters"]}


@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3/apis/apps/v1"])
def test_what_a_path_leaves_open_is_a_parameter(api: OpenApi, path: str) -> None:
    paths = fetched(api, path)["paths"]
    for name, item in paths.items():
        declared = [parameter["name"] for parameter in item["parameters"] if parameter["in"] == "path"]
        assert declared == re.findall(r"{(\w+)}", name)


def test_components_are_complete_and_have_merge_keys(api: OpenApi) -> None:
    body = orjson.dumps(fetched(api, "/openapi/v3/apis/apps/v1"))
    schemas = orjson.loads(body)["components"]["schemas"]
    references = {part.split(b'"')[0].decode() for part in body.split(b"#/components/schemas/")[1:]}
    assert references <= set(schemas)
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"
    assert schemas["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]["default"] == {}
    assert b'"go":' not in body


def test_version_2_comes_as_json_and_as_protobuf(api: OpenApi) -> None:
    document = fetched(api, "/openapi/v2")
    assert document["swagger"] == "2.0"
    assert "io.k8s.api.core.v1.Pod" in document["definitions"]
    answer = api.respond("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    assert answer is not None
    assert answer.content_type == openapi.V2_PROTOBUF
    assert answer.body.startswith(b"\x0a\x032.0")


def test_there_is_no_other_openapi_document(api: OpenApi) -> None:
    assert api.respond("/openapi/v3/apis/nope/v1") is None
    assert api.respond("/openapi/v4") is None


def test_a_registered_custom_resource_is_documented() -> None:
    schemas = Schemas.load()
    spec = {"type": "object", "description": "the spec", "properties": {"size": {"type": "integer"}}}
    schemas.register(
        "com.example.Toy", {"type": "object", "properties": {"spec": spec}}, "example.com", "v1alpha1", "Toy"
    )
    document = fetched(OpenApi(SERVED, schemas), "/openapi/v3/apis/example.com/v1alpha1")
    toy = document["components"]["schemas"]["com.example.Toy"]
    assert toy["properties"]["spec"]["properties"]["size"] == {"type": "integer"}
    assert toy["properties"]["spec"]["description"] == "the spec"

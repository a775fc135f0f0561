"""The served OpenAPI documents are what validators and generators of clients can read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import orjson
import pytest

from podling import kinds
from podling.api.openapi import OpenApi
from podling.api.schema import Schemas
from support.clients import python_client

VALIDATE = """
import json, sys
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator
document = json.load(sys.stdin)
check = OpenAPIV2SpecValidator if "swagger" in document else OpenAPIV30SpecValidator
# A struct in a list has the default {}, in Kubernetes' own documents too, whether it may be empty or not.
problems = [e for e in check(document).iter_errors() if e.absolute_path or "is a required property" not in e.message]
sys.exit("\\n".join(f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in problems[:10]) or 0)
"""
DOCUMENTS = OpenApi(kinds.builtin(), Schemas.load())
QUICK = ("apis/apps/v1", "apis/rbac.authorization.k8s.io/v1")


def document(path: str) -> bytes:
    answer = DOCUMENTS.respond(f"/openapi/{path}", "application/json")
    assert answer is not None
    return answer.body


def _paths() -> list[object]:
    versions = sorted(orjson.loads(document("v3"))["paths"])
    marks = {f"v3/{version}": () if version in QUICK else pytest.mark.slow for version in versions}
    return [pytest.param(path, marks=mark) for path, mark in {**marks, "v2": pytest.mark.slow}.items()]


@pytest.mark.parametrize("path", _paths())
def test_a_document_is_valid(path: str, tmp_path: Path) -> None:
    client = python_client("openapi-spec-validator==0.9.*")
    command = [str(client.command[0]), "-c", VALIDATE]
    done = subprocess.run(command, input=document(path), capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()


def test_operations_are_called_as_clients_know_them() -> None:
    swagger = orjson.loads(document("v2"))["paths"]
    pods = swagger["/api/v1/namespaces/{namespace}/pods"]
    assert (pods["get"]["operationId"], pods["get"]["tags"]) == ("listCoreV1NamespacedPod", ["core_v1"])
    assert pods["delete"]["operationId"] == "deleteCoreV1CollectionNamespacedPod"
    assert swagger["/api/v1/pods"]["get"]["operationId"] == "listCoreV1PodForAllNamespaces"
    scale = swagger["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"]
    assert scale["operationId"] == "replaceAppsV1NamespacedDeploymentScale"
    assert scale["parameters"][-1]["schema"] == {"$ref": "#/definitions/io.k8s.api.autoscaling.v1.Scale"}
    roles = swagger["/apis/rbac.authorization.k8s.io/v1/clusterroles"]["post"]
    assert (roles["operationId"], roles["tags"]) == ("createRbacAuthorizationV1ClusterRole", ["rbacAuthorization_v1"])

"""Who owns which field of built-in kinds: where versions differ, and where a write cannot change what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from apicore import APPLY, MERGE, World, run

from podling.kinds import builtin

HPA = "namespaces/default/horizontalpodautoscalers"


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    """By `manager apiVersion subresource`."""
    entries = obj["metadata"].get("managedFields", [])
    return {f"{e['manager']} {e['apiVersion']} {e.get('subresource', '')}".strip(): e["fieldsV1"] for e in entries}


def with_all_kinds(tmp_path: Path, scenario: Any) -> None:
    async def inside(world: World) -> None:
        world.server.add_resources(*builtin())
        await scenario(world)

    run(tmp_path, inside)


def autoscaler(version: str, **spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    return {
        "apiVersion": f"autoscaling/{version}",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": target, **spec},
    }


def utilization(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}


def test_a_field_that_another_version_names_otherwise_changes_hands(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        old, new = f"/apis/autoscaling/v1/{HPA}/h", f"/apis/autoscaling/v2/{HPA}/h"
        first = autoscaler("v1", targetCPUUtilizationPercentage=50)
        created = await world.request("PATCH", f"{old}?fieldManager=one", first, Content_Type=APPLY)
        assert created.status == 201, created.json
        second = autoscaler("v2", **utilization(80))
        refused = await world.request("PATCH", f"{new}?fieldManager=two", second, Content_Type=APPLY)
        cause = refused.json["details"]["causes"][0]
        assert (cause["message"], cause["field"]) == ('conflict with "one"', ".spec.targetCPUUtilizationPercentage")
        forced = await world.request("PATCH", f"{new}?fieldManager=two&force=true", second, Content_Type=APPLY)
        assert "f:targetCPUUtilizationPercentage" not in owners(forced.json)["one autoscaling/v1"]["f:spec"]
        patched = await world.request(
            "PATCH", f"{old}?fieldManager=three", {"spec": {"targetCPUUtilizationPercentage": 60}}, Content_Type=MERGE
        )
        assert owners(patched.json)["three autoscaling/v1"] == {"f:spec": {"f:targetCPUUtilizationPercentage": {}}}
        assert "f:metrics" not in owners(patched.json)["two autoscaling/v2"]["f:spec"]

    with_all_kinds(tmp_path, scenario)


CONDITION = {"type": "X", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        (
            "/apis/apps/v1/namespaces/default/deployments",
            {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
            ["labels"],
        ),
        (
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
            {"spec": {"priorityLevelConfiguration": {"name": "p"}}},
            ["labels", "annotations"],
        ),
        ("/apis/policy/v1/namespaces/default/poddisruptionbudgets", {"spec": {}}, []),
    ],
)  # fmt: skip
def test_a_write_of_the_status_owns_and_changes_only_what_it_can(
    tmp_path: Path, path: str, body: dict[str, Any], kept: list[str]
) -> None:
    async def scenario(world: World) -> None:
        old = {"labels": {"of": "the-object"}, "annotations": {"of": "the-object"}}
        created = await world.request("POST", path, {"metadata": {"name": "x", **old}, **body})
        assert created.status == 201, created.json
        new = {"labels": {"of": "the-status"}, "annotations": {"of": "the-status"}}
        change = {"metadata": new, "status": {"conditions": [CONDITION]}}
        answer = await world.request("PATCH", f"{path}/x/status?fieldManager=m", change, Content_Type=MERGE)
        assert answer.status == 200, answer.json
        metadata = answer.json["metadata"]
        owned = next(e["fieldsV1"] for e in metadata["managedFields"] if e.get("subresource") == "status")
        changed = {name: {"f:of": {}} for name in new if name not in kept}
        assert {name[2:]: fields for name, fields in owned.get("f:metadata", {}).items()} == changed
        assert all(metadata[name] == (old if name in kept else new)[name] for name in new)
        assert "f:conditions" in owned["f:status"]

    with_all_kinds(tmp_path, scenario)

"""What a cluster says of its own settings: ranges and addresses of services, flow schemas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podling.controllers import bootstrap, flowschemas, serviceranges
from podling.controllers.actions import Action, Create, Delete, Patch, Requeue
from podling.controllers.runtime import ObjectKey
from podling.controllers.serviceranges import Addresses, Ranges
from podling.store.types import Object

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
WEB = ObjectKey("default", "web")


def cidr(name: str, *cidrs: str, deleted: bool = False, **metadata: Any) -> Object:
    metadata = {"name": name, "uid": "u", "finalizers": [FINALIZER], **metadata}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-02T03:04:00Z"
    return {"metadata": metadata, "spec": {"cidrs": list(cidrs)}, "status": {}}


def told(actions: list[Action]) -> Object:
    (action,) = actions
    assert isinstance(action, Patch)
    (condition,) = action.patch["status"]["conditions"]  # type: ignore[index]
    return condition


def test_a_range_is_ready_and_kept() -> None:
    made = cidr("r", "10.0.0.0/24", finalizers=[])
    kept, ready = serviceranges.decide_range(Ranges(range=made, others=(), addresses=()), NOW)
    assert isinstance(kept, Patch)
    assert kept.patch == {"metadata": {"finalizers": [FINALIZER]}}
    assert (told([ready])["status"], told([ready])["message"]) == ("True", "Kubernetes Service CIDR is ready")


@pytest.mark.parametrize(
    ("others", "held"),
    [
        ([], True),
        ([cidr("other", "10.1.0.0/24")], True),
        ([cidr("whole", "10.0.0.0/16")], False),
        ([cidr("half", "10.0.0.0/25")], False),
    ],
)
def test_a_range_with_addresses_stays_unless_another_has_them_too(others: list[Object], held: bool) -> None:
    found = Ranges(range=cidr("r", "10.0.0.0/24", deleted=True), others=others, addresses=["10.0.0.1"])
    actions = serviceranges.decide_range(found, NOW)
    if held:
        assert (told(actions)["status"], told(actions)["reason"]) == ("False", "Terminating")
    else:
        assert actions == [Requeue(why="addresses may still be given out of it", seconds=5.0)]


def test_a_range_that_nothing_holds_goes_after_a_while() -> None:
    found = Ranges(range=cidr("r", "10.0.0.0/24", deleted=True), others=(), addresses=["10.1.0.1"])
    (action,) = serviceranges.decide_range(found, NOW + timedelta(seconds=5))
    assert isinstance(action, Patch)
    assert action.patch == {"metadata": {"finalizers": []}}


def test_every_address_of_a_service_is_an_object() -> None:
    (made,) = serviceranges.decide_addresses(Addresses(service=WEB, wanted=["10.0.0.7"], present=[]), NOW)
    assert isinstance(made, Create)
    assert made.object["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert made.object["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "web"}
    there = {**made.object, "metadata": {**made.object["metadata"], "uid": "u"}}
    assert serviceranges.decide_addresses(Addresses(service=WEB, wanted=["10.0.0.7"], present=[there]), NOW) == []
    by_hand = {"metadata": {"name": "10.0.0.8", "uid": "v"}, "spec": there["spec"]}
    (gone,) = serviceranges.decide_addresses(Addresses(service=WEB, wanted=[], present=[there, by_hand]), NOW)
    assert isinstance(gone, Delete)
    assert gone.name == "10.0.0.7"


@pytest.mark.parametrize(("has_level", "status", "reason"), [(True, "False", "Found"), (False, "True", "NotFound")])
def test_a_flow_schema_says_whether_its_level_is_there(has_level: bool, status: str, reason: str) -> None:
    flow = {**bootstrap.flow_schemas()[0], "status": {}}
    flow["metadata"] = {**flow["metadata"], "uid": "u"}
    condition = told(flowschemas.decide(flowschemas.Snapshot(flow=flow, has_level=has_level), NOW))
    assert (condition["type"], condition["status"], condition["reason"]) == ("Dangling", status, reason)
    assert 'named "exempt"' in condition["message"]
    told_already = {**flow, "status": {"conditions": [condition]}}
    assert flowschemas.decide(flowschemas.Snapshot(flow=told_already, has_level=has_level), NOW) == []


def test_only_mandatory_flow_schemas_come_back() -> None:
    (again,) = flowschemas.decide(flowschemas.Snapshot(flow=None, mandatory=bootstrap.flow_schemas()[0]), NOW)
    assert isinstance(again, Create)
    assert again.object["metadata"]["name"] == "exempt"
    assert flowschemas.decide(flowschemas.Snapshot(flow=None), NOW) == []

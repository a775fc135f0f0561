"""To which flow schema a request belongs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from podling.api.requests import Attributes
from podling.api.resources import User
from podling.auth.flows import LEVELS, SCHEMAS, Flows
from podling.controllers.bootstrap import flow_schemas
from podling.store.types import Change, ChangeType, Entry, Key, Object, compact_json

ANYBODY = ("system:authenticated",)
ADMIN, JANE = User("admin", ("system:masters",)), User("jane", ANYBODY)
NODE = User("system:node:a", ("system:nodes", *ANYBODY))
SYSTEM, OTHER = (
    User(f"system:serviceaccount:{namespace}:x", ("system:serviceaccounts", *ANYBODY))
    for namespace in ("kube-system", "default")
)
PODS = Attributes("list", "", "", "v1", "pods")


class World:
    """A reader of the schemas of a new cluster, each with its name as uid."""

    def __init__(self) -> None:
        self.schemas = [
            {**flow, "metadata": {"name": n, "uid": n}} for flow in flow_schemas() if (n := flow["metadata"]["name"])
        ]
        names = {flow["spec"]["priorityLevelConfiguration"]["name"] for flow in self.schemas}
        self.levels = [{"metadata": {"name": name, "uid": f"level-{name}"}} for name in sorted(names)]

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        raise NotImplementedError

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return {SCHEMAS: self.schemas, LEVELS: self.levels}[resource]


def change(kind: ChangeType, new: Object, old: Object | None) -> Change:
    def entry(obj: Any) -> Entry:
        return Entry(Key(SCHEMAS, "", "x"), 1, compact_json(obj), obj)

    return Change(kind, entry(new), entry(old) if old else None)


@pytest.mark.parametrize(
    ("user", "asked", "schema"),
    [
        (ADMIN, PODS, "exempt"),
        (JANE, Attributes("get", path="/healthz"), "probes"),
        (JANE, Attributes("get", path="/healthz/etcd"), "global-default"),
        (NODE, Attributes("update", "", "", "v1", "nodes", "status", "", "a"), "system-node-high"),
        (NODE, PODS, "system-nodes"),
        (SYSTEM, PODS, "kube-system-service-accounts"),
        (OTHER, PODS, "service-accounts"),
        (User("jane", ("nobody",)), PODS, ""),
        (ADMIN, Attributes("create", "", "", "v1", "pods", "exec", "default", "p"), ""),
    ],
)
def test_the_first_schema_that_matches_is_told(user: User, asked: Attributes, schema: str) -> None:
    found = dict(Flows(World())(user, asked))
    assert found.get("X-Kubernetes-PF-FlowSchema-UID", "") == schema


def test_what_was_remembered_is_forgotten_when_a_schema_changes_but_not_for_its_status() -> None:
    world = World()
    flows = Flows(world)
    assert dict(flows(JANE, PODS))["X-Kubernetes-PF-PriorityLevel-UID"] == "level-global-default"
    world.levels = [level for level in world.levels if level["metadata"]["name"] != "global-default"]
    told = {**world.schemas[0], "status": {"conditions": []}}
    flows.changed([change(ChangeType.MODIFIED, told, world.schemas[0])])
    assert dict(flows(JANE, PODS))["X-Kubernetes-PF-PriorityLevel-UID"] == "level-global-default"
    flows.changed([change(ChangeType.DELETED, told, told)])
    assert dict(flows(JANE, PODS))["X-Kubernetes-PF-PriorityLevel-UID"] == "level-catch-all"

"""A kubelet reads what the pods on its node need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from podling.api.requests import Attributes, Decision
from podling.api.resources import User
from podling.auth import bootstrap
from podling.auth.nodes import ROLE, NodeAuthorizer
from podling.store.types import Object

N1 = User("system:node:n1", ("system:nodes", "system:authenticated"))
N2 = User("system:node:n2", N1.groups)
RULES = bootstrap.rules_of(ROLE)

POD: Object = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "nodeName": "n1",
        "serviceAccountName": "web",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [
            {
                "name": "app",
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "a"}}}],
                "envFrom": [{"configMapRef": {"name": "settings"}}],
            }
        ],
        "volumes": [
            {"name": "s", "secret": {"secretName": "files"}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "ca"}}, {"secret": {"name": "more"}}]}},
        ],
    },
}


@dataclass
class Cluster:
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict[tuple[str, str, str], Object])

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [o for (r, n, _), o in self.objects.items() if r == resource and namespace in (None, n)]


@pytest.fixture
def authorize() -> NodeAuthorizer:
    volume = {"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "shop", "name": "data"}}}
    cluster = Cluster({("pods", "shop", "web"): POD, ("persistentvolumes", "", "pv"): volume})
    return NodeAuthorizer(cluster, RULES, lambda _user, _asked: Decision(False))


def asks(verb: str, resource: str, name: str, namespace: str = "shop", group: str = "") -> Attributes:
    plural, _, subresource = resource.partition("/")
    return Attributes(verb, "", group, "v1", plural, subresource, namespace, name)


@pytest.mark.parametrize(
    "asked",
    [
        *(asks("get", "secrets", name) for name in ("pull", "env", "files", "more")),
        *(asks("watch", "configmaps", name) for name in ("settings", "ca")),
        asks("get", "persistentvolumeclaims", "data"),
        asks("get", "persistentvolumes", "pv", namespace=""),
        asks("create", "serviceaccounts/token", "web"),
    ],
    ids=lambda a: f"{a.verb} {a.resource} {a.name}",
)
def test_what_a_pod_names_its_own_node_reads_and_no_other(authorize: NodeAuthorizer, asked: Attributes) -> None:
    assert authorize(N1, asked).allowed
    assert authorize(N2, asked) == Decision(False, "no relationship found between node 'n2' and this object")


def test_nothing_of_the_kind_is_read_by_the_dozen(authorize: NodeAuthorizer) -> None:
    assert not authorize(N1, asks("get", "secrets", "other")).allowed
    assert not authorize(N1, asks("list", "secrets", "")).allowed
    assert not authorize(N1, asks("update", "secrets", "files")).allowed
    assert not authorize(N1, asks("get", "secrets", "files", namespace="bank")).allowed


def test_a_kubelet_has_its_own_lease_and_status(authorize: NodeAuthorizer) -> None:
    lease = {"namespace": "kube-node-lease", "group": "coordination.k8s.io"}
    assert authorize(N1, asks("update", "leases", "n1", **lease)).allowed
    assert not authorize(N1, asks("update", "leases", "n2", **lease)).allowed
    assert authorize(N1, asks("patch", "nodes/status", "n1", namespace="")).allowed
    assert not authorize(N1, asks("delete", "deployments", "x", group="apps")).allowed


def test_others_are_asked_about_elsewhere(authorize: NodeAuthorizer) -> None:
    assert authorize(User("alice", ("dev",)), asks("get", "secrets", "files")) == Decision(False)


def test_what_roles_allow_beyond_that_a_kubelet_may_do_too() -> None:
    authorize = NodeAuthorizer(Cluster(), RULES, lambda _user, _asked: Decision(True, "RBAC"))
    assert authorize(N1, asks("get", "secrets", "other")) == Decision(True, "RBAC")

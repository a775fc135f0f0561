"""A kubelet reads what the pods on its node need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from podling.api.requests import Attributes, Decision
from podling.api.resources import User
from podling.api.selectors import FieldTerm
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
        "resourceClaims": [
            {"name": "a", "resourceClaimName": "named"},
            {"name": "b", "resourceClaimTemplateName": "t"},
            {"name": "c", "resourceClaimTemplateName": "t"},
        ],
    },
    "status": {
        "resourceClaimStatuses": [{"name": "b", "resourceClaimName": "made"}, {"name": "c"}],
        "extendedResourceClaimStatus": {"resourceClaimName": "extended"},
    },
}


@dataclass
class Cluster:
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict[tuple[str, str, str], Object])

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [o for (r, n, _), o in self.objects.items() if r == resource and namespace in (None, n)]


VOLUME: Object = {
    "metadata": {"name": "pv"},
    "spec": {
        "claimRef": {"namespace": "shop", "name": "data"},
        "csi": {"nodeStageSecretRef": {"name": "stage"}, "controllerPublishSecretRef": {"name": "controller"}},
    },
}
SLICE: Object = {"metadata": {"name": "slice"}, "spec": {"nodeName": "n1"}}
MIRROR: Object = {
    "metadata": {"name": "mirror", "namespace": "shop", "annotations": {"kubernetes.io/config.mirror": "x"}},
    "spec": {"nodeName": "n1", "volumes": [{"name": "s", "secret": {"secretName": "stolen"}}]},
}


@pytest.fixture
def authorize() -> NodeAuthorizer:
    cluster = Cluster(
        {
            ("pods", "shop", "web"): POD,
            ("pods", "shop", "mirror"): MIRROR,
            ("persistentvolumes", "", "pv"): VOLUME,
            ("resourceslices.resource.k8s.io", "", "slice"): SLICE,
        }
    )
    return NodeAuthorizer(cluster, RULES, lambda _user, _asked: Decision(False))


def asks(verb: str, resource: str, name: str, namespace: str = "shop", group: str = "", at: str = "") -> Attributes:
    """`at`: restricted to what is on this node."""
    plural, _, subresource = resource.partition("/")
    terms = (FieldTerm("spec.nodeName", at, equal=True),) if at else ()
    return Attributes(verb, "", group, "v1", plural, subresource, namespace, name, terms)


@pytest.mark.parametrize(
    "asked",
    [
        *(asks("get", "secrets", name) for name in ("pull", "env", "files", "more", "stage")),
        *(asks("watch", "configmaps", name) for name in ("settings", "ca")),
        asks("get", "persistentvolumeclaims", "data"),
        asks("get", "persistentvolumes", "pv", namespace=""),
        asks("create", "serviceaccounts/token", "web"),
        asks("get", "serviceaccounts", "web"),
        asks("patch", "persistentvolumeclaims/status", "data"),
        *(asks("get", "resourceclaims", name, group="resource.k8s.io") for name in ("named", "made", "extended")),
        asks("update", "resourceslices", "slice", namespace="", group="resource.k8s.io"),
        *(asks(verb, "pods", "web") for verb in ("get", "list", "watch")),
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
    assert not authorize(N1, asks("get", "secrets", "controller")).allowed


def test_a_kubelet_gives_itself_nothing_by_a_pod_of_its_own(authorize: NodeAuthorizer) -> None:
    assert not authorize(N1, asks("get", "secrets", "stolen")).allowed
    assert authorize(N1, asks("get", "pods", "mirror")).allowed


LEASES = {"namespace": "kube-node-lease", "group": "coordination.k8s.io"}
SLICES = {"namespace": "", "group": "resource.k8s.io"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (asks("create", "secrets", "files"), "can only read resources of this type"),
        (asks("get", "secrets/status", "files"), "cannot read subresource"),
        (asks("list", "configmaps", "", namespace=""), "can only read namespaced object of this type"),
        (asks("list", "configmaps", ""), "No Object name found"),
        (asks("list", "persistentvolumeclaims", "data"), "can only get individual resources of this type"),
        (asks("get", "persistentvolumes/status", "pv", namespace=""), "cannot get subresource"),
        (asks("get", "persistentvolumeclaims/status", "data"), "can only get/update/patch this type"),
        (asks("list", "serviceaccounts", ""), "can only create tokens for individual service accounts"),
        (asks("create", "serviceaccounts", "web"), "can only create token subresource of serviceaccount"),
        (asks("list", "leases", "", **LEASES), "can only get, create, update, patch, or delete a node lease"),
        (
            asks("get", "leases", "n1", namespace="shop", group="coordination.k8s.io"),
            'can only access leases in the "kube-node-lease" system namespace',
        ),
        (
            asks("get", "leases", "n2", **LEASES),
            "can only access node lease with the same name as the requesting node",
        ),
        (
            asks("list", "csinodes", "", namespace="", group="storage.k8s.io"),
            "can only get, create, update, patch, or delete a CSINode",
        ),
        (
            asks("get", "csinodes/status", "n1", namespace="", group="storage.k8s.io"),
            "cannot authorize CSINode subresources",
        ),
        (
            asks("get", "csinodes", "n2", namespace="", group="storage.k8s.io"),
            "can only access CSINode with the same name as the requesting node",
        ),
        (asks("get", "resourceslices/x", "slice", **SLICES), "cannot authorize ResourceSlice subresources"),
        (
            asks("deletecollection", "resourceslices", "", **SLICES),
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        (asks("list", "nodes", "", namespace=""), "node 'n1' cannot read all nodes, only its own Node object"),
        (asks("get", "nodes", "n2", namespace=""), "node 'n1' cannot read 'n2', only its own Node object"),
        (asks("watch", "pods", ""), "can only list/watch pods with spec.nodeName field selector"),
        (asks("watch", "pods", "", at="n2"), "can only list/watch pods with spec.nodeName field selector"),
        (asks("get", "pods/log", "web"), ""),
        (asks("delete", "nodes", "n1", namespace=""), ""),
    ],
    ids=lambda value: f"{value.verb} {value.resource} {value.name}" if isinstance(value, Attributes) else "",
)
def test_what_a_kubelet_may_not_is_said_in_words(authorize: NodeAuthorizer, asked: Attributes, why: str) -> None:
    assert authorize(N1, asked) == Decision(False, why)


@pytest.mark.parametrize(
    "asked",
    [
        asks("create", "leases", "", **LEASES),
        asks("create", "csinodes", "", namespace="", group="storage.k8s.io"),
        asks("create", "resourceslices", "", **SLICES),
        asks("watch", "resourceslices", "", at="n1", **SLICES),
        asks("list", "pods", "", namespace="", at="n1"),
        asks("create", "pods", ""),
        asks("delete", "pods", "web"),
        asks("update", "pods/status", "web"),
        asks("create", "pods/eviction", "web"),
        asks("get", "nodes", "n1", namespace=""),
        asks("watch", "nodes", "n1", namespace=""),
        asks("create", "nodes", "", namespace=""),
        asks("list", "services", "", namespace=""),
    ],
    ids=lambda a: f"{a.verb} {a.resource} {a.name}",
)
def test_what_every_kubelet_may(authorize: NodeAuthorizer, asked: Attributes) -> None:
    assert authorize(N1, asked).allowed


def test_a_kubelet_without_a_name_is_no_node(authorize: NodeAuthorizer) -> None:
    nobody = User("system:node:", ("system:nodes",))
    assert authorize(nobody, asks("get", "nodes", "n1")) == Decision(False, 'unknown node for user "system:node:"')


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

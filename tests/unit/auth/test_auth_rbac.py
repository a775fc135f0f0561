"""What roles and bindings allow, and what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from podling.api.requests import Attributes
from podling.api.resources import User
from podling.auth.rbac import Rbac, not_covered
from podling.store.types import Change, ChangeType, Entry, Key, Object

ALICE = User("alice", ("dev", "system:authenticated"))
CART = User("system:serviceaccount:shop:cart", ("system:serviceaccounts", "system:authenticated"))


class Roles:
    """A reader of roles and bindings."""

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        kind = {"rolebindings": "RoleBinding", "clusterrolebindings": "ClusterRoleBinding"}[resource.split(".")[0]]
        return [o for o in self.objects if o["kind"] == kind]

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        kind = {"roles": "Role", "clusterroles": "ClusterRole"}[resource.split(".")[0]]
        found = (o for o in self.objects if o["kind"] == kind and o["metadata"]["name"] == name)
        return next((o for o in found if o["metadata"].get("namespace", "") == namespace), None)


def rule(verbs: str, resources: str = "", groups: str = "", **more: Any) -> Object:
    return {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": groups.split(","), **more}


def role(name: str, *rules: Object, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": metadata, "rules": list(rules)}


def binding(name: str, to: str, kind: str, subject: Object, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"kind": kind, "name": to},
        "subjects": [subject],
    }


def stored(obj: Object) -> Entry:
    metadata = obj["metadata"]
    resource = f"{obj['kind'].lower()}s.rbac.authorization.k8s.io"
    return Entry(Key(resource, metadata.get("namespace", ""), metadata["name"]), 1, b"", obj)


def asks(verb: str, resource: str, namespace: str = "", name: str = "", group: str = "") -> Attributes:
    plural, _, subresource = resource.partition("/")
    return Attributes(verb, "", group, "v1", plural, subresource, namespace, name)


def test_nothing_is_allowed_by_default_and_everything_to_masters() -> None:
    rbac = Rbac(Roles())
    assert not rbac(ALICE, asks("get", "pods", "shop")).allowed
    assert rbac(User("root", ("system:masters",)), asks("delete", "nodes")).allowed


def test_a_role_counts_in_its_own_namespace_only() -> None:
    rbac = Rbac(
        Roles(
            role("reader", rule("get list", "pods"), namespace="shop"),
            binding("b", "reader", "Role", {"kind": "User", "name": "alice"}, namespace="shop"),
        )
    )
    decision = rbac(ALICE, asks("get", "pods", "shop"))
    assert decision.allowed
    assert decision.reason == 'RBAC: allowed by RoleBinding "b/shop" of Role "reader" to User "alice"'
    assert not rbac(ALICE, asks("get", "pods", "bank")).allowed
    assert not rbac(ALICE, asks("get", "pods")).allowed
    assert not rbac(ALICE, asks("delete", "pods", "shop")).allowed


def test_a_cluster_role_bound_in_a_namespace_counts_there() -> None:
    rbac = Rbac(
        Roles(
            role("view", rule("get", "pods")),
            binding("b", "view", "ClusterRole", {"kind": "Group", "name": "dev"}, namespace="shop"),
        )
    )
    assert rbac(ALICE, asks("get", "pods", "shop")).allowed
    assert not rbac(ALICE, asks("get", "pods", "bank")).allowed


def test_a_service_account_without_a_namespace_is_that_of_the_binding() -> None:
    rbac = Rbac(
        Roles(
            role("view", rule("get", "pods")),
            binding("b", "view", "ClusterRole", {"kind": "ServiceAccount", "name": "cart"}, namespace="shop"),
        )
    )
    decision = rbac(CART, asks("get", "pods", "shop"))
    assert decision.reason.endswith('to ServiceAccount "cart/shop"')


@pytest.mark.parametrize(
    ("granted", "asked", "allowed"),
    [
        (rule("*", "*", "*"), asks("patch", "deployments", "x", group="apps"), True),
        (rule("get", "pods"), asks("get", "pods/log", "x"), False),
        (rule("get", "pods/log"), asks("get", "pods/log", "x"), True),
        (rule("update", "*/scale", "apps"), asks("update", "deployments/scale", "x", group="apps"), True),
        (rule("update", "*/scale", "apps"), asks("update", "deployments", "x", group="apps"), False),
        (rule("get", "pods"), asks("get", "pods", "x", group="metrics.k8s.io"), False),
        (rule("get", "secrets", resourceNames=["a"]), asks("get", "secrets", "x", "a"), True),
        (rule("get", "secrets", resourceNames=["a"]), asks("get", "secrets", "x", "b"), False),
        (rule("list", "secrets", resourceNames=["a"]), asks("list", "secrets", "x"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/metrics/*"]}, Attributes("get", "/healthz"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/metrics/*"]}, Attributes("get", "/metrics/x"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}, Attributes("post", "/healthz"), False),
    ],
)
def test_what_a_rule_covers(granted: Object, asked: Attributes, allowed: bool) -> None:
    subject = {"kind": "User", "name": "alice"}
    rbac = Rbac(Roles(role("r", granted), binding("b", "r", "ClusterRole", subject)))
    assert rbac(ALICE, asked).allowed is allowed


def test_a_changed_binding_counts_at_once() -> None:
    rbac = Rbac(Roles(role("r", rule("get", "pods"))))
    assert not rbac(ALICE, asks("get", "pods")).allowed
    given = binding("b", "r", "ClusterRole", {"kind": "User", "name": "alice"})
    rbac.changed([Change(ChangeType.ADDED, stored(given), None)])
    assert rbac(ALICE, asks("get", "pods")).allowed
    other = {**given, "subjects": [{"kind": "Group", "name": "dev"}, {"kind": "User", "name": "bob"}]}
    rbac.changed([Change(ChangeType.MODIFIED, stored(other), stored(given))])
    assert 'to Group "dev"' in rbac(ALICE, asks("get", "pods")).reason
    rbac.changed([Change(ChangeType.DELETED, stored(other), stored(other))])
    assert not rbac(ALICE, asks("get", "pods")).allowed


def test_a_changed_role_counts_at_once_in_its_namespace() -> None:
    roles = Roles(
        role("r", rule("get", "pods"), namespace="shop"),
        binding("b", "r", "Role", {"kind": "User", "name": "alice"}, namespace="shop"),
    )
    rbac = Rbac(roles)
    assert rbac(ALICE, asks("get", "pods", "shop")).allowed
    roles.objects[0] = changed = role("r", rule("list", "pods"), namespace="shop")
    rbac.changed([Change(ChangeType.MODIFIED, stored(changed), None)])
    assert not rbac(ALICE, asks("get", "pods", "shop")).allowed
    assert rbac(ALICE, asks("list", "pods", "shop")).allowed


def test_nobody_gives_away_more_than_they_have() -> None:
    have = [rule("get list", "pods services"), rule("get", "secrets", resourceNames=["a"])]
    assert not_covered(have, [rule("get", "pods"), rule("get", "secrets", resourceNames=["a"])]) == []
    missing = not_covered(have, [rule("get delete", "pods"), rule("get", "secrets")])
    assert missing == [
        {"verbs": ["delete"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]},
    ]
    assert not_covered([rule("*", "*", "*")], [rule("get", "pods/log", "x")]) == []


def test_a_binding_to_a_role_that_is_missing_is_told_in_the_refusal() -> None:
    rbac = Rbac(
        Roles(
            binding("b", "ghost", "Role", {"kind": "User", "name": "alice"}, namespace="shop"),
            binding("c", "lost", "ClusterRole", {"kind": "Group", "name": "dev"}),
        )
    )
    decision = rbac(ALICE, asks("get", "pods", "shop"))
    assert not decision.allowed
    assert decision.reason == (
        'RBAC: [clusterrole.rbac.authorization.k8s.io "lost" not found, '
        'role.rbac.authorization.k8s.io "ghost" not found]'
    )
    single = rbac(ALICE, asks("get", "pods", "bank")).reason
    assert single == 'RBAC: clusterrole.rbac.authorization.k8s.io "lost" not found'

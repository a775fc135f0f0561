"""Nobody gives away rights that they do not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from podling import kinds
from podling.api import meta
from podling.api.errors import ApiError
from podling.api.resources import Resource, User, Write
from podling.auth.escalation import EscalationCheck
from podling.auth.rbac import Rbac
from podling.store.types import Object

GROUP = "rbac.authorization.k8s.io"
ANN = User("ann", ("dev", "system:authenticated"))
GET_PODS: Object = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
RESOURCES: dict[str, Resource] = {r.plural: r for r in kinds.builtin() if r.group == GROUP}


@dataclass
class Cluster:
    """A reader of what is stored; `ann` has the cluster role `own`."""

    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict[tuple[str, str, str], Object])

    def add(self, plural: str, obj: Object) -> Object:
        self.objects[f"{plural}.{GROUP}", meta.namespace(obj), meta.name(obj)] = obj
        return obj

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [o for (r, n, _), o in self.objects.items() if r == resource and namespace in (None, n)]

    def check(self, plural: str, new: Object, old: Object | None = None, user: User = ANN) -> None:
        write = Write(
            resource=RESOURCES[plural],
            operation="CREATE" if old is None else "UPDATE",
            new=new,
            old=old,
            user=user,
            reader=self,
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )
        EscalationCheck(Rbac(self))(write)

    def refusal(self, plural: str, new: Object, old: Object | None = None) -> str:
        with pytest.raises(ApiError) as refused:
            self.check(plural, new, old)
        return refused.value.message


def role(name: str, *rules: Object, namespace: str = "", **fields: Any) -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {"metadata": {"name": name, **place}, "rules": list(rules), **fields}


def binding(name: str, kind: str, to: str, namespace: str = "") -> Object:
    place = {"namespace": namespace} if namespace else {}
    reference = {"apiGroup": GROUP, "kind": kind, "name": to}
    subject = {"kind": "User", "apiGroup": GROUP, "name": "ann"}
    return {"metadata": {"name": name, **place}, "roleRef": reference, "subjects": [subject]}


def cluster_with(*rules: Object) -> Cluster:
    cluster = Cluster()
    cluster.add("clusterroles", role("own", *rules))
    cluster.add("clusterrolebindings", binding("own", "ClusterRole", "own"))
    return cluster


BEGIN = 'user "ann" (groups=["dev" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:'


def test_what_one_has_one_may_give() -> None:
    cluster_with(GET_PODS).check("roles", role("r", GET_PODS, namespace="shop"))


def test_what_is_missing_is_listed_by_resource() -> None:
    wanted: Object = {"verbs": ["get", "list", "watch"], "apiGroups": ["", "apps"], "resources": ["pods"]}
    named: Object = {"verbs": ["update"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"]}
    message = cluster_with(GET_PODS).refusal("roles", role("r", wanted, named, namespace="shop"))
    assert message == "\n".join(
        (
            f'roles.{GROUP} "r" is forbidden: {BEGIN}',
            '{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}',
            '{APIGroups:[""], Resources:["secrets"], ResourceNames:["a"], Verbs:["update"]}',
            '{APIGroups:[""], Resources:["secrets"], ResourceNames:["b"], Verbs:["update"]}',
            '{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "list" "watch"]}',
        )
    )


def test_paths_are_listed_one_by_one() -> None:
    wanted: Object = {"verbs": ["get", "post"], "nonResourceURLs": ["/x"]}
    message = cluster_with().refusal("clusterroles", role("r", wanted))
    assert message.splitlines()[1:] == [
        '{NonResourceURLs:["/x"], Verbs:["get"]}',
        '{NonResourceURLs:["/x"], Verbs:["post"]}',
    ]


def test_what_is_wanted_twice_is_missing_twice() -> None:
    message = cluster_with().refusal("roles", role("r", GET_PODS, GET_PODS, namespace="shop"))
    assert message.endswith('\n{APIGroups:[""], Resources:["pods"], Verbs:["get" "get"]}')


def test_roles_that_could_not_be_found_are_told_of() -> None:
    cluster = cluster_with()
    cluster.add("clusterrolebindings", binding("vain", "ClusterRole", "gone"))
    message = cluster.refusal("roles", role("r", GET_PODS, namespace="shop"))
    assert message.endswith(f'; resolution errors: [roles.{GROUP} "gone" not found]')


def test_a_role_made_of_others_could_be_given_anything() -> None:
    selectors = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    made = role("r", aggregationRule=selectors)
    why = "must have cluster-admin privileges to use the aggregationRule"
    assert cluster_with(GET_PODS).refusal("clusterroles", made) == f'clusterroles.{GROUP} "r" is forbidden: {why}'
    assert cluster_with(GET_PODS).refusal("clusterroles", role("r"), old=made).endswith(why)
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]}
    cluster_with(*everything).check("clusterroles", made)


def test_a_change_of_something_else_needs_the_rights_too() -> None:
    """Only what the garbage collector writes does not."""
    secrets: Object = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}
    old = role("r", secrets, namespace="shop")
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert BEGIN in cluster_with().refusal("roles", labelled, old)
    released = {**old, "metadata": {**old["metadata"], "finalizers": ["a.io/b"]}}
    cluster_with().check("roles", released, old)


def test_the_verb_escalate_allows_all_of_it() -> None:
    may: Object = {"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"]}
    cluster_with(may).check("roles", role("r", GET_PODS, namespace="shop"))
    # A new role has no name yet where the right is looked up
    one = {**may, "resourceNames": ["r"]}
    assert BEGIN in cluster_with(one).refusal("roles", role("r", GET_PODS, namespace="shop"))
    old = role("r", namespace="shop")
    cluster_with(one).check("roles", role("r", GET_PODS, namespace="shop"), old)


def test_the_verb_bind_allows_one_role_to_be_given() -> None:
    may: Object = {"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["view"]}
    cluster = cluster_with(may)
    for name in ("view", "edit"):
        cluster.add("clusterroles", role(name, GET_PODS))
    cluster.check("rolebindings", binding("b", "ClusterRole", "view", "shop"))
    assert BEGIN in cluster.refusal("rolebindings", binding("b", "ClusterRole", "edit", "shop"))


def test_a_role_that_is_not_there_is_given_to_nobody() -> None:
    message = cluster_with(GET_PODS).refusal("rolebindings", binding("b", "Role", "gone", "shop"))
    assert message == f'rolebindings.{GROUP} "gone" not found'


def test_a_superuser_is_free_of_it() -> None:
    superuser = User("root", ("system:masters",))
    cluster_with().check("clusterrolebindings", binding("b", "ClusterRole", "gone"), user=superuser)

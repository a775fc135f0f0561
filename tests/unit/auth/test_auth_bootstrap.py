"""The policy that every cluster begins with."""

from __future__ import annotations

from podling import kinds
from podling.api.resources import Resource
from podling.auth import bootstrap
from podling.auth.reconciliation import reconciled
from podling.store.types import Object

POLICY = list(bootstrap.objects())


def roles() -> dict[str, Object]:
    return {o["metadata"]["name"]: o for resource, o in POLICY if resource.startswith("clusterroles.")}


def test_every_rule_says_what_may_be_done_with_what() -> None:
    for _, obj in POLICY:
        for rule in obj.get("rules", ()):
            assert rule["verbs"]
            assert rule.get("nonResourceURLs") or (rule["apiGroups"] and rule["resources"]), obj["metadata"]["name"]


def test_every_role_and_binding_is_valid_and_named_once() -> None:
    served: dict[str, Resource] = {r.group_resource: r for r in kinds.builtin()}
    places = [(resource, o["metadata"].get("namespace"), o["metadata"]["name"]) for resource, o in POLICY]
    assert len(places) == len(set(places))
    assert {resource for resource, _ in POLICY} <= served.keys()


def test_every_binding_gives_a_role_that_is_there() -> None:
    known = {(o["metadata"].get("namespace", ""), o["metadata"]["name"]) for _, o in POLICY if "rules" in o}
    for _, obj in POLICY:
        if "roleRef" in obj:
            place = "" if obj["roleRef"]["kind"] == "ClusterRole" else obj["metadata"]["namespace"]
            assert (place, obj["roleRef"]["name"]) in known


def test_admin_edit_and_view_are_aggregated() -> None:
    for name in ("admin", "edit", "view"):
        selector = roles()[name]["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"]
        assert any(selector.items() <= r["metadata"]["labels"].items() for r in roles().values())


def test_the_superuser_s_role_covers_everything() -> None:
    assert roles()["cluster-admin"]["rules"] == [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ]


def test_every_list_of_a_rule_is_in_order() -> None:
    for _, obj in POLICY:
        for rule in obj.get("rules", ()):
            assert all(values == sorted(values) for values in rule.values()), obj["metadata"]["name"]


# What becomes of it at the next start


def role(*rules: Object, **metadata: Object) -> Object:
    return {"metadata": {"name": "r", "labels": {"a": "b"}, "annotations": {}, **metadata}, "rules": [*rules]}


READ: Object = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}
WRITE: Object = {"verbs": ["update"], "apiGroups": [""], "resources": ["pods"]}


def test_a_rule_that_was_taken_away_comes_back_and_others_stay() -> None:
    assert reconciled(role(READ, WRITE), role(READ)) is None
    mended = reconciled(role({**READ, "verbs": ["list"]}, WRITE), role(READ))
    assert mended is not None
    missing = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    assert mended["rules"] == [{**READ, "verbs": ["list"]}, WRITE, missing]


def test_labels_come_back_as_they_were_changed() -> None:
    mended = reconciled(role(labels={"own": "x"}), role(labels={"own": "y", "a": "b"}))
    assert mended is not None
    assert mended["metadata"]["labels"] == {"own": "x", "a": "b"}


def test_whoever_wants_a_role_of_their_own_says_so() -> None:
    own = role(annotations={"rbac.authorization.kubernetes.io/autoupdate": "false"})
    assert reconciled(own, role(READ)) is None


def test_a_selector_that_was_taken_away_comes_back() -> None:
    def selecting(*labels: str) -> Object:
        return role() | {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {x: ""}} for x in labels]}}

    assert reconciled(selecting("b"), selecting("a")) == selecting("b", "a")
    assert reconciled(selecting("b"), role()) == role()


def binding(to: str, *users: str) -> Object:
    metadata: Object = {"name": "b", "labels": {}, "annotations": {}}
    return {"metadata": metadata, "roleRef": {"name": to}, "subjects": [{"kind": "User", "name": u} for u in users]}


def test_a_subject_that_was_taken_away_comes_back() -> None:
    assert reconciled(binding("r", "ann"), binding("r", "bob")) == binding("r", "ann", "bob")
    assert reconciled(binding("r", "ann", "bob"), binding("r", "bob")) is None


def test_a_binding_of_another_role_is_made_anew() -> None:
    assert reconciled(binding("other", "ann"), binding("r", "bob")) == binding("r", "bob")

"""The policy that every cluster begins with."""

from __future__ import annotations

from podling import kinds
from podling.api.resources import Resource
from podling.auth import bootstrap
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

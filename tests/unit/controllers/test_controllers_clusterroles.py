"""Roles that are made of others."""

from __future__ import annotations

from podling.controllers.clusterroleaggregation import aggregated
from podling.store.types import Object


def role(name: str, label: str, *verbs: str) -> Object:
    rules = [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]} for verb in verbs]
    return {"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules}


def test_rules_come_selector_by_selector_then_role_by_role_and_once() -> None:
    roles = [role("c", "late", "delete"), role("b", "early", "get", "list"), role("a", "late", "list", "watch")]
    selectors = [{"matchLabels": {label: "true"}} for label in ("early", "late")]
    whole: Object = {**role("whole", "early", "patch"), "aggregationRule": {"clusterRoleSelectors": selectors}}
    verbs = [rule["verbs"][0] for rule in aggregated(whole, [whole, *roles])]
    assert verbs == ["get", "list", "watch", "delete"]

"""ClusterRole: what may be done in the whole cluster, or in any namespace."""

from __future__ import annotations

from podling.api.errors import FieldError, required
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import created_columns, created_row
from podling.kinds.rbac import rules
from podling.kinds.validation import fields, names
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, names.segment_name)
    errors += rules.rules(write.new.get("rules"), "rules", namespaced=False)
    return errors + _aggregation(write.new.get("aggregationRule"))


def _aggregation(rule: Object | None) -> list[FieldError]:
    if rule is None:
        return []
    path = "aggregationRule.clusterRoleSelectors"
    if not rule.get("clusterRoleSelectors"):
        return [required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")]
    return [e for at, s in fields.each(path, rule["clusterRoleSelectors"]) for e in fields.label_selector(at, s)]


def resource() -> Resource:
    return Resource(
        group=rules.GROUP,
        version="v1",
        kind="ClusterRole",
        plural="clusterroles",
        singular="clusterrole",
        namespaced=False,
        schema="io.k8s.api.rbac.v1.ClusterRole",
        strategy=Strategy(prepare=rules.no_empty_rules, validate=validate, generation=None),
        columns=created_columns(),
        row=created_row,
    )

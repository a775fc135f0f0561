"""ClusterRole: what may be done in the whole cluster, or in any namespace."""

from __future__ import annotations

from podling.api.errors import FieldError, invalid_value, required
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import created_columns, created_row
from podling.kinds.rbac import rules
from podling.kinds.validation import fields, meta, names
from podling.store.types import Object


def validate(write: Write) -> list[FieldError]:
    errors = meta.whole(write, names.segment_name)
    errors += rules.rules(write.new.get("rules"), "rules", namespaced=False)
    errors += _aggregation(write.new.get("aggregationRule"))
    return rules.checked_again(write, errors)


def _aggregation(rule: Object | None) -> list[FieldError]:
    if rule is None:
        return []
    path = "aggregationRule.clusterRoleSelectors"
    if not rule.get("clusterRoleSelectors"):
        return [required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")]
    errors: list[FieldError] = []
    for at, selector in fields.each(path, rule["clusterRoleSelectors"]):
        wrong = fields.label_selector(at, selector)
        # Kubernetes shows what it has made of the selector, which is nothing.
        errors += [*wrong, invalid_value(at, None, "invalid label selector.")] if wrong else []
    return errors


def resource() -> Resource:
    return Resource(
        group=rules.GROUP,
        version="v1",
        kind="ClusterRole",
        plural="clusterroles",
        singular="clusterrole",
        namespaced=False,
        schema="io.k8s.api.rbac.v1.ClusterRole",
        strategy=Strategy(create_on_update=True, prepare=rules.no_empty_rules, validate=validate, generation=None),
        columns=created_columns(),
        row=created_row,
    )

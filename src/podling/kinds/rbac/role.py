"""Role: what may be done in a namespace."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import created_columns, created_row
from podling.kinds.rbac import rules
from podling.kinds.validation import meta, names


def validate(write: Write) -> list[FieldError]:
    errors = meta.whole(write, names.segment_name)
    return rules.checked_again(write, errors + rules.rules(write.new.get("rules"), "rules", namespaced=True))


def resource() -> Resource:
    return Resource(
        group=rules.GROUP,
        version="v1",
        kind="Role",
        plural="roles",
        singular="role",
        namespaced=True,
        schema="io.k8s.api.rbac.v1.Role",
        strategy=Strategy(create_on_update=True, prepare=rules.no_empty_rules, validate=validate, generation=None),
        columns=created_columns(),
        row=created_row,
    )

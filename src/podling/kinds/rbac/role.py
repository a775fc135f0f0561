"""Role: what may be done in a namespace."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import created_columns, created_row
from podling.kinds.rbac import rules
from podling.kinds.validation import names
from podling.kinds.validation.meta import object_meta


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, names.segment_name)
    return errors + rules.rules(write.new.get("rules"), "rules", namespaced=True)


def resource() -> Resource:
    return Resource(
        group=rules.GROUP,
        version="v1",
        kind="Role",
        plural="roles",
        singular="role",
        namespaced=True,
        schema="io.k8s.api.rbac.v1.Role",
        strategy=Strategy(prepare=rules.no_empty_rules, validate=validate, generation=None),
        columns=created_columns(),
        row=created_row,
    )

"""ValidatingAdmissionPolicy: rules in CEL that every matching write has to satisfy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from podling.api.errors import FieldError, duplicate, required
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.admissionregistration import expressions, policies
from podling.kinds.core.workload import keep_status
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.types import Type


def default(obj: Object) -> None:
    policies.default_policy(obj)
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.subresource == "status":
        return errors
    spec = part(write.new, "spec")
    errors += policies.common(spec, "spec")
    types = expressions.variable_types(params=spec.get("paramKind") is not None, variables={})
    errors += policies.variables(spec.get("variables"), "spec.variables", types)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        detail = "validations or auditAnnotations must contain at least one item"
        return [*errors, required("spec.validations", detail), required("spec.auditAnnotations", detail)]
    for at, item in each("spec.validations", spec.get("validations")):
        errors += policies.validation(item, at, types)
    return errors + _audit(spec, text(part(write.new, "metadata"), "name"), types)


def _audit(spec: Object, policy: str, types: Mapping[str, Type]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, annotation in each("spec.auditAnnotations", spec.get("auditAnnotations")):
        key = text(annotation, "key")
        errors += fields.check(f"{at}.key", f"{policy}/{key}", names.qualified_name)
        if key in seen:
            errors.append(duplicate(f"{at}.key", key))
        seen.add(key)
        if not text(annotation, "valueExpression").strip():
            errors.append(required(f"{at}.valueExpression", "valueExpression is not specified"))
        else:
            given = annotation["valueExpression"]
            errors += expressions.check(f"{at}.valueExpression", given, types, "string", "null_type")[0]
    return errors


def resource() -> Resource:
    return Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        kind="ValidatingAdmissionPolicy",
        plural="validatingadmissionpolicies",
        singular="validatingadmissionpolicy",
        namespaced=False,
        schema="io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        categories=("api-extensions",),
        status=True,
        strategy=Strategy(unconditional_update=False, default=default, prepare=keep_status, validate=validate),
        columns=policies.policy_columns("Validations", "Validations indicates the number of validation"),
        row=policies.policy_row("validations"),
    )

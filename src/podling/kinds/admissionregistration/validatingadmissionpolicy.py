"""ValidatingAdmissionPolicy: rules in CEL that every matching write has to satisfy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from podling.api.errors import FieldError, duplicate, invalid_value, required
from podling.api.resources import STATUS_ALONE, Resource, Strategy, Write
from podling.kinds.admissionregistration import expressions, policies
from podling.kinds.core.workload import keep_status
from podling.kinds.validation import fields, names
from podling.kinds.validation.conditions import conditions
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.types import Type

_MOST_ANNOTATIONS: Final = 20
_LONGEST_VALUE: Final = 5 * 1024


def default(obj: Object) -> None:
    policies.default_policy(obj)
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, any_finalizer=True)
    if write.subresource == "status":
        return errors + _status(part(write.new, "status"))
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
    annotations = entries(spec, "auditAnnotations")
    if len(annotations) > _MOST_ANNOTATIONS:
        detail = f"must not have more than {_MOST_ANNOTATIONS} auditAnnotations"
        errors.append(invalid_value("spec.auditAnnotations", annotations, detail))
    for at, annotation in each("spec.auditAnnotations", annotations):
        key = text(annotation, "key")
        errors += fields.check(f"{at}.key", f"{policy}/{key}", names.qualified_name)
        given = text(annotation, "valueExpression")
        if not given.strip():
            errors.append(required(f"{at}.valueExpression", "valueExpression is not specified"))
        elif len(given.strip().encode()) > _LONGEST_VALUE:
            errors.append(required(f"{at}.valueExpression", f"must not exceed {_LONGEST_VALUE} bytes in length"))
        else:
            errors += expressions.check(f"{at}.valueExpression", given, types, "string", "null_type")[0]
        if key in seen:
            errors.append(duplicate(f"{at}.key", key))
        seen.add(key)
    return errors


def _status(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    warnings = entries(part(status, "typeChecking"), "expressionWarnings")
    for at, warning in each("status.typeChecking.expressionWarnings", warnings):
        errors += [required(f"{at}.{key}") for key in ("warning", "fieldRef") if not text(warning, key).strip()]
    return errors + conditions("status.conditions", status.get("conditions"))


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
        strategy=Strategy(
            unconditional_update=False, default=default, prepare=keep_status, validate=validate, resets=STATUS_ALONE
        ),
        columns=policies.policy_columns("Validations", "Validations indicates the number of validation"),
        row=policies.policy_row("validations"),
    )

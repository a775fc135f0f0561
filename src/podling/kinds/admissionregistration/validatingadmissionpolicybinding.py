"""ValidatingAdmissionPolicyBinding: where a policy holds, with what parameters, and what a refusal leads to."""

from __future__ import annotations

from typing import Final

from podling.api.errors import FieldError, duplicate, invalid_value, required
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.admissionregistration import policies, webhooks
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta

_ACTIONS: Final = ("Audit", "Deny", "Warn")


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, any_finalizer=True)
    spec = part(write.new, "spec")
    errors += fields.check_required("spec.policyName", text(spec, "policyName"), names.dns1123_subdomain)
    errors += webhooks.parameter_reference(spec.get("paramRef"), "spec.paramRef")
    errors += webhooks.match_resources(spec.get("matchResources"), webhooks.BINDING_MATCH)
    return errors + _actions(entries(spec, "validationActions"))


def _actions(actions: list[str]) -> list[FieldError]:
    path = "spec.validationActions"
    if not actions:
        return [required(path, "at least one validation action is required")]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, action in each(path, actions):
        errors += fields.one_of(at, action, _ACTIONS)
        if action in seen:
            errors.append(duplicate(at, action))
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        detail = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            "response and headers serves no purpose)"
        )
        errors.append(invalid_value(path, actions, detail))
    return errors


def resource() -> Resource:
    return Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        kind="ValidatingAdmissionPolicyBinding",
        plural="validatingadmissionpolicybindings",
        singular="validatingadmissionpolicybinding",
        namespaced=False,
        schema="io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        categories=("api-extensions",),
        strategy=Strategy(unconditional_update=False, default=policies.default_binding, validate=validate),
        columns=policies.binding_columns(),
        row=policies.binding_row,
    )

"""MutatingAdmissionPolicyBinding: where a mutating policy holds, and with what parameters."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.admissionregistration import policies, webhooks
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, any_finalizer=True)
    spec = part(write.new, "spec")
    errors += fields.check_required("spec.policyName", text(spec, "policyName"), names.dns1123_subdomain)
    errors += webhooks.parameter_reference(spec.get("paramRef"), "spec.paramRef")
    return errors + webhooks.match_resources(spec.get("matchResources"), webhooks.BINDING_MATCH)


def resource() -> Resource:
    return Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        kind="MutatingAdmissionPolicyBinding",
        plural="mutatingadmissionpolicybindings",
        singular="mutatingadmissionpolicybinding",
        namespaced=False,
        schema="io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
        categories=("api-extensions",),
        strategy=Strategy(unconditional_update=False, default=policies.default_binding, validate=validate),
        columns=policies.binding_columns(),
        row=policies.binding_row,
    )

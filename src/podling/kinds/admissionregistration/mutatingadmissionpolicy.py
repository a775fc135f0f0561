"""MutatingAdmissionPolicy: changes in CEL that every matching write is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from podling.api.errors import FieldError, required
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.admissionregistration import expressions, policies
from podling.kinds.core.poddefaults import fill
from podling.kinds.validation import fields
from podling.kinds.validation.fields import each, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.types import Type


def default(obj: Object) -> None:
    policies.default_policy(obj)
    fill(obj["spec"], "reinvocationPolicy", "Never")


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write, any_finalizer=True)
    spec = part(write.new, "spec")
    errors += policies.common(spec, "spec")
    types = expressions.variable_types(params=spec.get("paramKind") is not None, variables={})
    errors += policies.variables(spec.get("variables"), "spec.variables", types)
    if not spec.get("mutations"):
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for at, mutation in each("spec.mutations", spec.get("mutations")):
        errors += _mutation(mutation, at, types)
    policy = text(spec, "reinvocationPolicy")
    return errors + fields.one_of_required("spec.reinvocationPolicy", policy, ("IfNeeded", "Never"))


GIVES: Final = {"ApplyConfiguration": ("applyConfiguration", "Object"), "JSONPatch": ("jsonPatch", "list(JSONPatch)")}
"""Where the expression of each kind of mutation is, and what it has to give."""


def _mutation(mutation: Object, path: str, types: Mapping[str, Type]) -> list[FieldError]:
    kind = text(mutation, "patchType")
    errors = fields.one_of_required(f"{path}.patchType", kind, tuple(GIVES))
    if kind not in GIVES:
        return errors
    key, wanted = GIVES[kind]
    expression = text(part(mutation, key), "expression")
    if not expression.strip():
        errors.append(required(f"{path}.{key}.expression", "expression is not specified"))
        return errors
    return errors + expressions.check(f"{path}.{key}.expression", expression, types, wanted, makes=True)[0]


def resource() -> Resource:
    return Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        kind="MutatingAdmissionPolicy",
        plural="mutatingadmissionpolicies",
        singular="mutatingadmissionpolicy",
        namespaced=False,
        schema="io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        categories=("api-extensions",),
        strategy=Strategy(unconditional_update=False, default=default, validate=validate),
        columns=policies.policy_columns("Mutations", "Mutation indicates the number of mutations"),
        row=policies.policy_row("mutations"),
    )

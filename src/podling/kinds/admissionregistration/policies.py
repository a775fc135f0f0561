"""Admission policies and their bindings: what validating and mutating ones have in common.

Expressions are compiled to see whether they can be; the admission that evaluates them does it again, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from podling.api.errors import FieldError, duplicate, invalid_value, required
from podling.api.resources import Column
from podling.kinds.admissionregistration import expressions, webhooks
from podling.kinds.core.poddefaults import fill
from podling.kinds.printing import UNSET, age, age_column, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.types import Type

_REASONS: Final = ("Forbidden", "Invalid", "RequestEntityTooLarge")


def default_policy(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    fill(spec, "failurePolicy", "Fail")
    webhooks.default_match(spec.get("matchConstraints"))


def default_binding(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    webhooks.default_parameters(spec.get("paramRef"))
    webhooks.default_match(spec.get("matchResources"))


def common(spec: Object, path: str) -> list[FieldError]:
    """The rules for `matchConstraints`, `failurePolicy`, `paramKind` and the conditions."""
    errors: list[FieldError] = []
    policy = spec.get("failurePolicy")
    if policy is None:
        errors.append(required(f"{path}.failurePolicy"))
    else:
        errors += fields.one_of(f"{path}.failurePolicy", policy, webhooks.FAILURE_POLICIES)
    errors += webhooks.parameter_kind(spec.get("paramKind"), f"{path}.paramKind")
    match: Object | None = spec.get("matchConstraints")
    if match is None:
        errors.append(required(f"{path}.matchConstraints"))
    else:
        errors += webhooks.match_resources(match, f"{path}.matchConstraints")
        if not match.get("resourceRules"):
            errors.append(required(f"{path}.matchConstraints.resourceRules"))
    return errors + webhooks.match_conditions(
        spec.get("matchConditions"), f"{path}.matchConditions", params=spec.get("paramKind") is not None
    )


def variables(items: Sequence[Object] | None, path: str, types: dict[str, Type]) -> list[FieldError]:
    """The problems of variables; those that compile are added to `types`."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, variable in each(path, items):
        named = text(variable, "name")
        if not named.strip():
            errors.append(required(f"{at}.name", "name is not specified"))
        elif not webhooks.is_cel_identifier(named):
            errors.append(invalid_value(f"{at}.name", named, "must be a valid CEL identifier"))
        elif named in seen:
            errors.append(duplicate(f"{at}.name", named))
        seen.add(named)
        if not text(variable, "expression").strip():
            errors.append(required(f"{at}.expression", "expression is not specified"))
            continue
        problems, given = expressions.check(f"{at}.expression", variable["expression"], types)
        errors += problems
        if given is not None and webhooks.is_cel_identifier(named):
            types["variables"] = _with_variable(types["variables"], named, given)
    return errors


def _with_variable(known: Type, name: str, given: Type) -> Type:
    from podling.cel.types import object_of

    return object_of("kubernetes.variables", {**known.fields, name: given})


def validation(item: Object, path: str, types: Mapping[str, Type]) -> list[FieldError]:
    errors: list[FieldError] = []
    if not text(item, "expression").strip():
        errors.append(required(f"{path}.expression", "expression is not specified"))
    else:
        errors += expressions.check(f"{path}.expression", item["expression"], types, "bool")[0]
    given = text(item, "messageExpression")
    if given and not given.strip():
        errors.append(invalid_value(f"{path}.messageExpression", given, "must be non-empty if specified"))
    elif given:
        errors += expressions.check(
            f"{path}.messageExpression", given, expressions.without_authorizer(types), "string"
        )[0]
    message = text(item, "message")
    if message and not message.strip():
        errors.append(invalid_value(f"{path}.message", message, "message must be non-empty if specified"))
    elif set(message.strip()) & {"\n", "\r"}:
        errors.append(invalid_value(f"{path}.message", message, "message must not contain line breaks"))
    if (reason := item.get("reason")) is not None:
        errors += fields.one_of(f"{path}.reason", reason, _REASONS)
    return errors


def policy_columns(what: str, description: str) -> tuple[Column, ...]:
    return (
        name_column(),
        Column(what, "integer", description=f"{description} rules defined in this configuration"),
        Column("ParamKind", description="ParamKind specifies the kind of resources used to parameterize this policy"),
        age_column(),
    )


def policy_row(key: str) -> Any:
    def row(obj: Object, now: datetime) -> list[Any]:
        spec = part(obj, "spec")
        kind = part(spec, "paramKind")
        shown = f"{text(kind, 'apiVersion')}/{text(kind, 'kind')}" if kind else UNSET
        return [name(obj), len(entries(spec, key)), shown, age(obj, now)]

    return row


def binding_columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column(
            "PolicyName", description="PolicyName indicates the policy definition which the policy binding binded to"
        ),
        Column("ParamRef", description="ParamRef indicates the param resource which sets the configuration param"),
        age_column(),
    )


def binding_row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    reference = part(spec, "paramRef")
    shown = UNSET
    if reference:
        if text(reference, "name"):
            prefix = f"{reference['namespace']}/" if reference.get("namespace") else "*/"
            shown = prefix + text(reference, "name")
        elif reference.get("selector") is not None:
            shown = _go_selector(reference["selector"])
    return [name(obj), text(spec, "policyName"), shown, age(obj, now)]


def _go_selector(selector: Object) -> str:
    """A label selector as its Go type prints itself."""
    labels = "".join(f"{key}: {value}," for key, value in sorted(part(selector, "matchLabels").items()))
    expressions = "".join(
        "LabelSelectorRequirement{"
        f"Key:{text(e, 'key')},Operator:{text(e, 'operator')},Values:[{' '.join(entries(e, 'values'))}],}},"
        for e in entries(selector, "matchExpressions")
    )
    shown = f"map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},"
    return f"&LabelSelector{{MatchLabels:{shown}}}"

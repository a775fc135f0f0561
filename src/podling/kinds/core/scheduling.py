"""Validation of what a pod says about where it may run: affinity, tolerations, spreading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def affinity(value: Object | None, path: str) -> list[FieldError]:
    if not value:
        return []
    errors: list[FieldError] = []
    if value.get("nodeAffinity") is not None:
        errors += _node_affinity(value["nodeAffinity"], f"{path}.nodeAffinity")
    for key in ("podAffinity", "podAntiAffinity"):
        if value.get(key) is not None:
            errors += _pod_affinity(value[key], f"{path}.{key}")
    return errors


def _node_affinity(value: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if value.get(_REQUIRED) is not None:
        errors += node_selector(value[_REQUIRED], f"{path}.{_REQUIRED}")
    for at, term in each(f"{path}.{_PREFERRED}", value.get(_PREFERRED)):
        errors += _weight(term, at)
        errors += node_selector_term(part(term, "preference"), f"{at}.preference", check_values=False)
    return errors


def _weight(term: Object, path: str) -> list[FieldError]:
    weight = term.get("weight") or 0
    return [] if 1 <= weight <= 100 else [invalid_value(f"{path}.weight", weight, "must be in the range 1-100")]


def node_selector(selector: Object, path: str) -> list[FieldError]:
    terms = selector.get("nodeSelectorTerms")
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    return [e for at, term in each(f"{path}.nodeSelectorTerms", terms) for e in node_selector_term(term, at)]


def node_selector_term(term: Object, path: str, *, check_values: bool = True) -> list[FieldError]:
    """A term; of one that is only preferred the values may be such that no label can have them."""
    errors: list[FieldError] = []
    for at, expression in each(f"{path}.matchExpressions", term.get("matchExpressions")):
        errors += _node_requirement(expression, at, check_values)
    for at, expression in each(f"{path}.matchFields", term.get("matchFields")):
        errors += _node_field(expression, at)
    return errors


def _node_requirement(expression: Object, path: str, check_values: bool) -> list[FieldError]:
    operator, values = text(expression, "operator"), entries(expression, "values")
    errors: list[FieldError] = []
    match operator:
        case "In" | "NotIn":
            if not values:
                errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        case "Exists" | "DoesNotExist":
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden_field(f"{path}.values", detail))
        case "Gt" | "Lt":
            if len(values) != 1:
                detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                errors.append(required(f"{path}.values", detail))
        case _:
            errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    errors += fields.check(f"{path}.key", text(expression, "key"), names.qualified_name)
    for at, value in each(f"{path}.values", values if check_values else ()):
        errors += fields.check(at, value, names.label_value)
    return errors


def _node_field(expression: Object, path: str) -> list[FieldError]:
    operator, values = text(expression, "operator"), entries(expression, "values")
    errors: list[FieldError] = []
    if operator not in ("In", "NotIn"):
        errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", detail))
    key = text(expression, "key")
    if key != "metadata.name":
        return [*errors, invalid_value(f"{path}.key", key, "not a valid field selector key")]
    for at, value in each(f"{path}.values", values):
        errors += fields.check(at, value, names.dns1123_subdomain)
    return errors


def _pod_affinity(value: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, term in each(f"{path}.{_REQUIRED}", value.get(_REQUIRED)):
        errors += _pod_affinity_term(term, at)
    for at, weighted in each(f"{path}.{_PREFERRED}", value.get(_PREFERRED)):
        errors += _weight(weighted, at)
        errors += _pod_affinity_term(part(weighted, "podAffinityTerm"), f"{at}.podAffinityTerm")
    return errors


def _pod_affinity_term(term: Object, path: str) -> list[FieldError]:
    errors = fields.label_selector(f"{path}.labelSelector", term.get("labelSelector"))
    errors += fields.label_selector(f"{path}.namespaceSelector", term.get("namespaceSelector"))
    for _, namespace in each(path, term.get("namespaces")):
        errors += fields.check(f"{path}.namespace", namespace, names.dns1123_label)
    errors += _match_label_keys(term, path)
    key = text(term, "topologyKey")
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    return errors + fields.check(f"{path}.topologyKey", key, names.qualified_name)


def _match_label_keys(term: Object, path: str) -> list[FieldError]:
    """Keys whose values the pod's own labels give. They stand in one of the two lists, and not in the selector."""
    selector: Object | None = term.get("labelSelector")
    keys: Sequence[str] = entries(term, "matchLabelKeys")
    others: Sequence[str] = entries(term, "mismatchLabelKeys")
    errors: list[FieldError] = []
    for name, values in (("matchLabelKeys", keys), ("mismatchLabelKeys", others)):
        if values and selector is None:
            errors.append(forbidden_field(f"{path}.{name}", "must not be specified when labelSelector is not set"))
            continue
        for at, key in each(f"{path}.{name}", values):
            errors += fields.check(at, key, names.qualified_name)
    errors += _twice_selected(selector or {}, keys, path)
    for at, key in each(f"{path}.matchLabelKeys", keys):
        if key in others:
            errors.append(invalid_value(at, key, "exists in both matchLabelKeys and mismatchLabelKeys"))
    return errors


def _twice_selected(selector: Object, keys: Sequence[str], path: str) -> list[FieldError]:
    """The API server has made an expression of each key already, so one that the selector names itself is there
    twice. Kubernetes leaves the list's name out of the path."""
    at = {key: index for index, key in enumerate(keys)}
    seen = set(part(selector, "matchLabels"))
    errors: list[FieldError] = []
    for expression in entries(selector, "matchExpressions"):
        key = text(expression, "key")
        if key in at and key in seen:
            detail = "exists in both matchLabelKeys and labelSelector"
            errors.append(invalid_value(f"{path}[{at[key]}]", key, detail))
        seen.add(key)
    return errors


def tolerations(items: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, toleration in each(path, items):
        errors += _toleration(toleration, at)
    return errors


def _toleration(toleration: Object, path: str) -> list[FieldError]:
    key, operator = text(toleration, "key"), text(toleration, "operator")
    value, effect = text(toleration, "value"), text(toleration, "effect")
    errors: list[FieldError] = []
    if key:
        errors += fields.check(f"{path}.key", key, names.qualified_name)
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid_value(f"{path}.operator", operator, detail))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid_value(f"{path}.effect", effect, detail))
    errors += _toleration_operator(operator, value, path)
    if effect:
        errors += effect_supported(effect, f"{path}.effect")
    return errors


def _toleration_operator(operator: str, value: str, path: str) -> list[FieldError]:
    match operator:
        case "" | "Equal":
            wrong = ";".join(names.label_value(value))
            return [invalid_value(f"{path}.operator", value, wrong)] if wrong else []
        case "Exists":
            detail = "value must be empty when `operator` is 'Exists'"
            return [invalid_value(f"{path}.operator", value, detail)] if value else []
        case "Lt" | "Gt":
            # Known, and yet not supported: their feature is off.
            return [not_supported(f"{path}.operator", operator, ("Equal", "Exists", "Lt", "Gt"))]
        case _:
            return [not_supported(f"{path}.operator", operator, ("Equal", "Exists"))]


def effect_supported(effect: str, path: str) -> list[FieldError]:
    return [] if effect in _EFFECTS else [not_supported(path, effect, _EFFECTS)]


_UNSATISFIABLE: Final = ("DoNotSchedule", "ScheduleAnyway")


def topology_spread(items: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    pairs = [(text(c, "topologyKey"), text(c, "whenUnsatisfiable")) for c in items or ()]
    for index, (at, constraint) in enumerate(each(path, items)):
        errors += _constraint(constraint, at)
        if pairs[index] in pairs[index + 1 :]:
            shown = f"{{{pairs[index][0]}, {pairs[index][1]}}}"
            errors.append(duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", shown))
        errors += _constraint_details(constraint, at)
    return errors


def _constraint(constraint: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    skew = constraint.get("maxSkew") or 0
    if skew <= 0:
        errors.append(invalid_value(f"{path}.maxSkew", skew, "must be greater than zero"))
    if not constraint.get("topologyKey"):
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    if text(constraint, "whenUnsatisfiable") not in _UNSATISFIABLE:
        errors.append(not_supported(f"{path}.whenUnsatisfiable", text(constraint, "whenUnsatisfiable"), _UNSATISFIABLE))
    return errors


def _constraint_details(constraint: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if (domains := constraint.get("minDomains")) is not None:
        if domains <= 0:
            errors.append(invalid_value(f"{path}.minDomains", domains, "must be greater than zero"))
        if (unsatisfiable := text(constraint, "whenUnsatisfiable")) != "DoNotSchedule":
            detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {unsatisfiable}"
            errors.append(invalid_value(f"{path}.minDomains", domains, detail))
    for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if (policy := constraint.get(key)) is not None and policy not in ("Honor", "Ignore"):
            errors.append(not_supported(f"{path}.{key}", policy, ("Honor", "Ignore")))
    errors += _match_label_keys(constraint, path)
    return errors + fields.label_selector(f"{path}.labelSelector", constraint.get("labelSelector"))


def host_aliases(items: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, alias in each(path, items):
        errors += fields.check(f"{at}.ip", text(alias, "ip"), names.ip)
        for host_at, host in each(f"{at}.hostnames", alias.get("hostnames")):
            errors += fields.check(host_at, host, names.dns1123_subdomain)
    return errors


_MAX_NAMESERVERS: Final = 3
_MAX_SEARCHES: Final = 32
_MAX_SEARCH_CHARS: Final = 2048


def dns_config(spec: Object, path: str) -> list[FieldError]:
    config: Object | None = spec.get("dnsConfig")
    none = spec.get("dnsPolicy") == "None"
    if config is None:
        return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")] if none else []
    servers = entries(config, "nameservers")
    if none and not servers:
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        return [required(f"{path}.nameservers", detail)]
    errors: list[FieldError] = []
    if len(servers) > _MAX_NAMESERVERS:
        detail = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errors.append(invalid_value(f"{path}.nameservers", servers, detail))
    for at, server in each(f"{path}.nameservers", servers):
        errors += fields.check(at, server, names.ip)
    errors += _searches(entries(config, "searches"), f"{path}.searches")
    for at, option in each(f"{path}.options", config.get("options")):
        if not option.get("name"):
            errors.append(required(at, "must not be empty"))
    return errors


def _searches(searches: Sequence[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(searches) > _MAX_SEARCHES:
        errors.append(invalid_value(path, searches, f"must not have more than {_MAX_SEARCHES} search paths"))
    if len(" ".join(searches)) > _MAX_SEARCH_CHARS:
        detail = f"must not have more than {_MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        errors.append(invalid_value(path, searches, detail))
    for at, search in each(path, searches):
        if search != ".":
            errors += fields.check(at, search.removesuffix("."), names.dns_search)
    return errors


def gates(items: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, gate in each(path, items):
        name = text(gate, "name")
        errors += fields.check(at, name, names.qualified_name)
        if name in seen:
            errors.append(duplicate(at, name))
        seen.add(name)
    return errors


def readiness_gates(items: Sequence[Object] | None, path: str) -> list[FieldError]:
    return [
        e
        for at, gate in each(path, items)
        for e in fields.check(f"{at}.conditionType", text(gate, "conditionType"), names.qualified_name)
    ]


def taints(items: Sequence[Object] | None, path: str) -> list[FieldError]:
    """The taints of a node."""
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for at, taint in each(path, items):
        key, value, effect = text(taint, "key"), text(taint, "value"), text(taint, "effect")
        errors += fields.check(f"{at}.key", key, names.qualified_name)
        if wrong := ";".join(names.label_value(value)):
            errors.append(invalid_value(f"{at}.value", value, wrong))
        errors += effect_supported(effect, f"{at}.effect") if effect else [required(f"{at}.effect")]
        if (key, effect) in seen:
            errors.append(duplicate(at, _taint_shown(taint), "taints must be unique by key and effect pair"))
        seen.add((key, effect))
    return errors


def _taint_shown(taint: Object) -> dict[str, Any]:
    return {
        "Key": text(taint, "key"),
        "Value": text(taint, "value"),
        "Effect": text(taint, "effect"),
        "TimeAdded": taint.get("timeAdded"),
    }

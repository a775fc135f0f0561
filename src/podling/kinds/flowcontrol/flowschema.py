"""FlowSchema: which requests share a priority level. Stored for clients that manage it; nothing is queued by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from podling.api.resources import STATUS_ALONE, Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import common, whole
from podling.store.types import Object

_EXEMPT: Final = "exempt"
_MAX_PRECEDENCE: Final = 10_000
_METHODS: Final = ("ByNamespace", "ByUser")
_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS: Final = {"serviceAccount": "ServiceAccount", "user": "User", "group": "Group"}


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    status = conditions(part(write.new, "status"))
    if write.subresource == "status":
        return common(write) + status
    spec = part(write.new, "spec")
    return common(write) + whole(write) + _spec(spec, name(write.new)) + status


def _spec(spec: Object, schema: str) -> list[FieldError]:
    errors = _precedence(spec.get("matchingPrecedence") or 0, schema)
    method: Object | None = spec.get("distinguisherMethod")
    if method is not None and text(method, "type") not in _METHODS:
        shown = {"Type": text(method, "type")}
        errors.append(not_supported("spec.distinguisherMethod.type", shown, _METHODS))
    level, at = text(part(spec, "priorityLevelConfiguration"), "name"), "spec.priorityLevelConfiguration.name"
    if level:
        errors += fields.check(at, level, names.dns1123_subdomain)
    else:
        errors.append(required(at, "must reference a priority level"))
    for at, rule in each("spec.rules", spec.get("rules")):
        errors += _rule(rule, at)
    return errors


def _precedence(value: int, schema: str) -> list[FieldError]:
    path = "spec.matchingPrecedence"
    errors: list[FieldError] = []
    if value <= 0:
        errors.append(invalid_value(path, value, "must be a positive value"))
    if value > _MAX_PRECEDENCE:
        errors.append(invalid_value(path, value, f"must not be greater than {_MAX_PRECEDENCE}"))
    if value == 1 and schema != _EXEMPT:
        errors.append(invalid_value(path, value, f"only the schema named '{_EXEMPT}' may have matchingPrecedence 1"))
    return errors


def _rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, subject in each(f"{path}.subjects", rule.get("subjects")):
        errors += _subject(subject, at)
    if not rule.get("subjects"):
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        errors.append(required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for at, resources in each(f"{path}.resourceRules", rule.get("resourceRules")):
        errors += _resource_rule(resources, at)
    for at, urls in each(f"{path}.nonResourceRules", rule.get("nonResourceRules")):
        errors += _url_rule(urls, at)
    return errors


def _subject(subject: Object, path: str) -> list[FieldError]:
    kind = text(subject, "kind")
    if kind not in _SUBJECTS.values():
        return [not_supported(f"{path}.kind", kind, tuple(sorted(_SUBJECTS.values())))]
    (key,) = (key for key, value in _SUBJECTS.items() if value == kind)
    errors = _named_subject(subject.get(key), kind, key, f"{path}.{key}")
    return errors + [
        forbidden_field(f"{path}.{other}", f"{other} is forbidden when subject kind is not '{wanted}'")
        for other, wanted in _SUBJECTS.items()
        if other != key and subject.get(other) is not None
    ]


def _named_subject(value: Object | None, kind: str, key: str, path: str) -> list[FieldError]:
    if value is None:
        return [required(path, f"{key} is required when subject kind is '{kind}'")]
    named = text(value, "name")
    errors = [] if named else [required(f"{path}.name")]
    if kind != "ServiceAccount":
        return errors
    if named and named != "*":
        errors += fields.check(f"{path}.name", named, names.dns1123_subdomain)
    if namespace := text(value, "namespace"):
        return errors + fields.check(f"{path}.namespace", namespace, names.dns1123_label)
    return [*errors, required(f"{path}.namespace", "must specify namespace for service account")]


def _verbs(verbs: list[str], path: str) -> list[FieldError]:
    if not verbs:
        return [required(path, "verbs must contain at least one value")]
    if "*" in verbs:
        return _alone(verbs, path, "verbs")
    return [] if set(verbs) <= set(_VERBS) else [not_supported(path, verbs, _VERBS)]


def _alone(values: list[str], path: str, what: str) -> list[FieldError]:
    """A wildcard stands for all, so nothing else stands beside it."""
    if len(values) < 2 or "*" not in values:
        return []
    return [invalid_value(path, values, f"if '*' is present, must not specify other {what}")]


def _resource_rule(rule: Object, path: str) -> list[FieldError]:
    errors = _verbs(entries(rule, "verbs"), f"{path}.verbs")
    for key, one, many in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        values: list[str] = entries(rule, key)
        if values:
            errors += _alone(values, f"{path}.{key}", many)
        else:
            errors.append(required(f"{path}.{key}", f"resource rules must supply at least one {one}"))
    namespaces: list[str] = entries(rule, "namespaces")
    if not namespaces and not rule.get("clusterScope"):
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        return [*errors, required(f"{path}.namespaces", detail)]
    if "*" in namespaces:
        return errors + _alone(namespaces, f"{path}.namespaces", "namespaces")
    for at, namespace in each(f"{path}.namespaces", namespaces):
        intro = "each member of this list must be '*' or a DNS-1123 label; "
        errors += fields.says(at, namespace, [intro + wrong for wrong in names.dns1123_label(namespace)])
    return errors


def _url_rule(rule: Object, path: str) -> list[FieldError]:
    errors = _verbs(entries(rule, "verbs"), f"{path}.verbs")
    urls: list[str] = entries(rule, "nonResourceURLs")
    if not urls:
        detail = "nonResourceURLs must contain at least one value"
        return [*errors, required(f"{path}.nonResourceURLs", detail)]
    if "*" in urls:
        return errors + _alone(urls, f"{path}.nonResourceURLs", "non-resource URLs")
    return errors + [e for at, url in each(f"{path}.nonResourceURLs", urls) for e in fields.says(at, url, _url(url))]


def _url(url: str) -> list[str]:
    if not url:
        return ["must not be empty"]
    if url == "/":
        return []
    if not url.startswith("/"):
        return ["must start with slash"]
    if " " in url:
        return ["must not contain white-space"]
    if "//" in url:
        return ["must not contain double slash"]
    if "*" in url.removesuffix("/*"):
        return ["wildcard can only do suffix matching"]
    return []


def conditions(status: Object) -> list[FieldError]:
    """The conditions of a schema or of a level."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, condition in each("status.conditions", status.get("conditions")):
        kind = text(condition, "type")
        if kind in seen:
            errors.append(duplicate(f"{at}.type", kind))
        seen.add(kind)
        if not kind:
            errors.append(required(f"{at}.type", "must not be empty"))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("PriorityLevel", description=doc("flowcontrol.v1.PriorityLevelConfigurationReference.name")),
        Column("MatchingPrecedence", description=doc("flowcontrol.v1.FlowSchemaSpec.matchingPrecedence")),
        Column("DistinguisherMethod", description=doc("flowcontrol.v1.FlowSchemaSpec.distinguisherMethod")),
        age_column(),
        Column("MissingPL", description="references a broken or non-existent PriorityLevelConfiguration"),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    dangling = [c for c in entries(part(obj, "status"), "conditions") if c.get("type") == "Dangling"]
    return [
        name(obj),
        text(part(spec, "priorityLevelConfiguration"), "name"),
        spec.get("matchingPrecedence", 0),
        text(part(spec, "distinguisherMethod"), "type") or NONE,
        age(obj, now),
        text(dangling[0], "status") if dangling else "?",
    ]


def resource() -> Resource:
    return Resource(
        group="flowcontrol.apiserver.k8s.io",
        version="v1",
        kind="FlowSchema",
        plural="flowschemas",
        singular="flowschema",
        namespaced=False,
        schema="io.k8s.api.flowcontrol.v1.FlowSchema",
        status=True,
        strategy=Strategy(default=default, prepare=keep_status, validate=validate, resets=STATUS_ALONE),
        columns=_columns(),
        row=row,
    )

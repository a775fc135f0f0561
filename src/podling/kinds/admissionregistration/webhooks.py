"""Webhook configurations and policies: what a request is matched by, and whom the API server calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required
from podling.api.resources import Column, Write
from podling.kinds.admissionregistration import expressions
from podling.kinds.core.poddefaults import fill
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_VERSIONS: Final = ("v1", "v1beta1")
FAILURE_POLICIES: Final = ("Fail", "Ignore")
_MATCH_POLICIES: Final = ("Equivalent", "Exact")
_SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
_REINVOCATION: Final = ("IfNeeded", "Never")
_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES: Final = ("*", "Cluster", "Namespaced")
_URL: Final = "; desired format: https://host[/path]"
_DEFAULT_TIMEOUT: Final = 10
_MAX_TIMEOUT: Final = 30
_MAX_CONDITIONS: Final = 64


def default(obj: Object) -> None:
    """Defaults of a validating configuration."""
    for hook in entries(obj, "webhooks"):
        _default_hook(hook)


def default_mutating(obj: Object) -> None:
    default(obj)
    for hook in entries(obj, "webhooks"):
        fill(hook, "reinvocationPolicy", "Never")


def _default_hook(hook: Object) -> None:
    fill(hook, "failurePolicy", "Fail")
    fill(hook, "matchPolicy", "Equivalent")
    for key in ("namespaceSelector", "objectSelector"):
        if hook.get(key) is None:
            hook[key] = {}
    if hook.get("timeoutSeconds") is None:
        hook["timeoutSeconds"] = _DEFAULT_TIMEOUT
    service: Object | None = part(hook, "clientConfig").get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443
    default_rules(hook.get("rules"))


def default_rules(rules: Sequence[Object] | None) -> None:
    for rule in rules or ():
        fill(rule, "scope", "*")


def default_match(match: Object | None) -> None:
    """Defaults of a policy's `matchConstraints` or a binding's `matchResources`."""
    if match is None:
        return
    fill(match, "matchPolicy", "Equivalent")
    for key in ("namespaceSelector", "objectSelector"):
        if match.get(key) is None:
            match[key] = {}
    for key in ("resourceRules", "excludeResourceRules"):
        default_rules(match.get(key))


def default_parameters(reference: Object | None) -> None:
    if reference is not None and reference.get("parameterNotFoundAction") is None:
        reference["parameterNotFoundAction"] = "Deny"


def validate(write: Write) -> list[FieldError]:
    return object_meta(write) + _hooks(write.new, mutating=False)


def validate_mutating(write: Write) -> list[FieldError]:
    return object_meta(write) + _hooks(write.new, mutating=True)


def _hooks(obj: Object, *, mutating: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, hook in each("webhooks", obj.get("webhooks")):
        errors += _hook(hook, at)
        if mutating and (policy := hook.get("reinvocationPolicy")) is not None:
            errors += fields.one_of(f"{at}.reinvocationPolicy", policy, _REINVOCATION)
        errors += _review_versions(entries(hook, "admissionReviewVersions"), f"{at}.admissionReviewVersions")
        named = text(hook, "name")
        if named and named in seen:
            errors.append(duplicate(f"{at}.name", named))
        seen.add(named)
    return errors


def _hook(hook: Object, path: str) -> list[FieldError]:
    errors = fields.check_required(f"{path}.name", text(hook, "name"), names.fully_qualified_domain)
    errors += match_rules(hook.get("rules"), f"{path}.rules")
    errors += fields.one_of(f"{path}.failurePolicy", hook.get("failurePolicy") or "Fail", FAILURE_POLICIES)
    errors += fields.one_of(f"{path}.matchPolicy", hook.get("matchPolicy") or "Equivalent", _MATCH_POLICIES)
    side_effects = hook.get("sideEffects")
    if side_effects is None:
        errors.append(required(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}"))
    else:
        errors += fields.one_of(f"{path}.sideEffects", side_effects, _SIDE_EFFECTS)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _MAX_TIMEOUT:
        detail = f"the timeout value must be between 1 and {_MAX_TIMEOUT} seconds"
        errors.append(invalid_value(f"{path}.timeoutSeconds", seconds, detail))
    for key in ("namespaceSelector", "objectSelector"):
        errors += fields.label_selector(f"{path}.{key}", hook.get(key))
    errors += client_config(part(hook, "clientConfig"), f"{path}.clientConfig")
    return errors + match_conditions(hook.get("matchConditions"), f"{path}.matchConditions")


def _review_versions(versions: Sequence[str], path: str) -> list[FieldError]:
    if not versions:
        return [required(path, f"must specify one of {', '.join(_VERSIONS)}")]
    errors: list[FieldError] = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            errors.append(invalid_value(f"{path}[{index}]", version, "duplicate version"))
            continue
        errors += fields.check(f"{path}[{index}]", version, names.dns1035_label)
    if not errors and not set(versions) & set(_VERSIONS):
        errors.append(invalid_value(path, versions, f"must include at least one of {', '.join(_VERSIONS)}"))
    return errors


def client_config(config: Object, path: str) -> list[FieldError]:
    """Where a webhook is called: a URL or a service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    return _url(url, f"{path}.url") if url is not None else _service(service or {}, f"{path}.service")


def _url(url: str, path: str) -> list[FieldError]:
    parts = urlsplit(url)
    if parts.scheme != "https":
        detail = f"'https' is the only allowed URL scheme{_URL}"
        return [invalid_value(path, parts.scheme, detail)]
    errors: list[FieldError] = []
    if not parts.netloc:
        errors.append(invalid_value(path, parts.netloc, f"host must be specified{_URL}"))
    if parts.username is not None:
        errors.append(invalid_value(path, parts.username, f"user information is not permitted in the URL{_URL}"))
    if parts.fragment:
        errors.append(invalid_value(path, parts.fragment, f"fragments are not permitted in the URL{_URL}"))
    if parts.query:
        errors.append(invalid_value(path, parts.query, f"query parameters are not permitted in the URL{_URL}"))
    return errors


def _service(service: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("name", "namespace"):
        if not service.get(key):
            errors.append(required(f"{path}.{key}", f"service {key} is required"))
    port = service.get("port", 443)
    if names.port_number(port):
        errors.append(invalid_value(f"{path}.port", port, f"port is not valid: {names.port_number(port)[0]}"))
    target = service.get("path")
    if target is not None:
        errors += _service_path(target, f"{path}.path")
    return errors


def _service_path(target: str, path: str) -> list[FieldError]:
    if target == "/" or not target:
        return []
    if target == "//":
        return [invalid_value(path, target, "segment[0] may not be empty")]
    errors: list[FieldError] = []
    if not target.startswith("/"):
        errors.append(invalid_value(path, target, "must start with a '/'"))
    steps = target[1:].removesuffix("/").split("/")
    for index, step in enumerate(steps):
        if not step:
            errors.append(invalid_value(path, target, f"segment[{index}] may not be empty"))
            continue
        errors += [invalid_value(path, target, f"segment[{index}]: {says}") for says in names.dns1123_subdomain(step)]
    return errors


# What requests are matched by


def match_rules(rules: Sequence[Object] | None, path: str, *, whole: bool = True) -> list[FieldError]:
    return [e for at, rule in each(path, rules) for e in _match_rule(rule, at, whole)]


def _match_rule(rule: Object, path: str, whole: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    operations: list[str] = entries(rule, "operations")
    if not operations:
        errors.append(required(f"{path}.operations"))
    errors += _wildcard_alone(operations, f"{path}.operations")
    for at, operation in each(f"{path}.operations", operations):
        errors += fields.one_of(at, operation, _OPERATIONS)
    for key in ("apiGroups", "apiVersions"):
        values: list[str] = entries(rule, key)
        if not values:
            errors.append(required(f"{path}.{key}"))
        errors += _wildcard_alone(values, f"{path}.{key}")
        if key == "apiVersions":
            errors += [required(at) for at, value in each(f"{path}.{key}", values) if not value]
    errors += _resources(entries(rule, "resources"), f"{path}.resources", whole)
    if (scope := rule.get("scope")) is not None:
        errors += fields.one_of(f"{path}.scope", scope, _SCOPES)
    return errors


def _wildcard_alone(values: Sequence[str], path: str) -> list[FieldError]:
    if len(values) > 1 and "*" in values:
        detail = (
            "if '*' is present, must not specify other "
            + {
                "operations": "operations",
                "apiGroups": "API groups",
                "apiVersions": "API versions",
            }[path.rpartition(".")[2]]
        )
        return [invalid_value(path, values, detail)]
    return []


def _resources(resources: Sequence[str], path: str, whole: bool) -> list[FieldError]:
    if not resources:
        return [required(path)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, value in each(path, resources):
        if not value:
            errors.append(required(at))
            continue
        if value in seen:
            errors.append(duplicate(at, value))
        seen.add(value)
        base, _, sub = value.partition("/")
        if sub and sub != "*" and f"{base}/*" in resources:
            errors.append(invalid_value(at, value, f"if '{base}/*' is present, must not specify {value}"))
    if whole and len(resources) > 1 and "*/*" in resources:
        errors.append(invalid_value(path, resources, "if '*/*' is present, must not specify other resources"))
    return errors


def match_conditions(conditions: Sequence[Object] | None, path: str, *, params: bool = False) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(conditions or ()) > _MAX_CONDITIONS:
        message = f"Too many: {len(conditions or ())}: must have at most {_MAX_CONDITIONS} items"
        errors.append(FieldError("FieldValueTooMany", path, message))
    seen: set[str] = set()
    for at, condition in each(path, conditions):
        if not text(condition, "expression").strip():
            errors.append(required(f"{at}.expression"))
        else:
            types = expressions.variable_types(params=params)
            errors += expressions.check(f"{at}.expression", condition["expression"], types, "bool")[0]
        named = text(condition, "name")
        if not named:
            errors.append(required(f"{at}.name"))
        else:
            errors += fields.check(f"{at}.name", named, names.qualified_name)
            if named in seen:
                errors.append(duplicate(f"{at}.name", named))
        seen.add(named)
    return errors


def match_resources(match: Object | None, path: str) -> list[FieldError]:
    if match is None:
        return []
    errors: list[FieldError] = []
    policy = match.get("matchPolicy")
    if policy is None:
        errors.append(required(f"{path}.matchPolicy"))
    else:
        errors += fields.one_of(f"{path}.matchPolicy", policy, _MATCH_POLICIES)
    for key in ("namespaceSelector", "objectSelector"):
        if match.get(key) is None:
            errors.append(required(f"{path}.{key}"))
        else:
            errors += fields.label_selector(f"{path}.{key}", match[key])
    for key in ("resourceRules", "excludeResourceRules"):
        errors += match_rules(match.get(key), f"{path}.{key}")
    return errors


def parameter_reference(reference: Object | None, path: str) -> list[FieldError]:
    if reference is None:
        return []
    named, selector = text(reference, "name"), reference.get("selector")
    errors: list[FieldError] = []
    if named:
        errors += fields.check(f"{path}.name", named, names.path_segment)
        if selector is not None:
            errors.append(forbidden_field(f"{path}.name", "name and selector are mutually exclusive"))
    elif selector is not None:
        errors += fields.label_selector(f"{path}.selector", selector)
    else:
        errors.append(required(path, "one of name or selector must be specified"))
    action = reference.get("parameterNotFoundAction")
    if action is None:
        errors.append(required(f"{path}.parameterNotFoundAction"))
    else:
        errors += fields.one_of(f"{path}.parameterNotFoundAction", action, ("Allow", "Deny"))
    return errors


_IDENTIFIER: Final = "[_a-zA-Z][_a-zA-Z0-9]*"
_RESERVED: Final = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import"}
    | {"let", "loop", "package", "namespace", "return", "var", "void", "while"}
)


def is_cel_identifier(word: str) -> bool:
    return re.fullmatch(_IDENTIFIER, word, re.ASCII) is not None and word not in _RESERVED


def parameter_kind(kind: Object | None, path: str) -> list[FieldError]:
    if kind is None:
        return []
    errors: list[FieldError] = []
    version = text(kind, "apiVersion")
    if not version:
        errors.append(required(f"{path}.apiVersion"))
    elif version.count("/") > 1:
        detail = f"unexpected GroupVersion string: {version}"
        errors.append(invalid_value(f"{path}.apiVersion", version, detail))
    if not text(kind, "kind"):
        errors.append(required(f"{path}.kind"))
    else:
        errors += fields.says(f"{path}.kind", kind["kind"], names.dns1035_label(kind["kind"].lower()))
    return errors


def columns() -> tuple[Column, ...]:
    description = "Webhooks indicates the number of webhooks registered in this configuration"
    return (name_column(), Column("Webhooks", "integer", description=description), age_column())


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), len(entries(obj, "webhooks")), age(obj, now)]


def generation(old: Object, new: Object) -> bool:
    return entries(old, "webhooks") != entries(new, "webhooks")

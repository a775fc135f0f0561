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
BINDING_MATCH: Final = "spec.matchResources"
"""Where a binding says what it is for, as the messages of Kubernetes misspell it."""


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
    return object_meta(write, any_finalizer=True) + _hooks(write.new, mutating=False)


def validate_mutating(write: Write) -> list[FieldError]:
    return object_meta(write, any_finalizer=True) + _hooks(write.new, mutating=True)


def _hooks(obj: Object, *, mutating: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, hook in each("webhooks", obj.get("webhooks")):
        errors += _hook(hook, at, mutating=mutating)
        errors += _review_versions(entries(hook, "admissionReviewVersions"), f"{at}.admissionReviewVersions")
        named = text(hook, "name")
        if named and named in seen:
            errors.append(duplicate(f"{at}.name", named))
        seen.add(named)
    return errors


def _hook(hook: Object, path: str, *, mutating: bool) -> list[FieldError]:
    errors = fields.check_required(f"{path}.name", text(hook, "name"), names.fully_qualified_domain)
    for at, rule in each(f"{path}.rules", hook.get("rules")):
        errors += _match_rule(rule, at)
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
    if mutating and (policy := hook.get("reinvocationPolicy")) is not None:
        errors += fields.one_of(f"{path}.reinvocationPolicy", policy, _REINVOCATION)
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
    if not set(versions) & set(_VERSIONS):
        errors.append(invalid_value(path, versions, f"must include at least one of {', '.join(_VERSIONS)}"))
    return errors


def client_config(config: Object, path: str) -> list[FieldError]:
    """Where a webhook is called: a URL or a service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    return _url(url, f"{path}.url") if url is not None else _service(service or {}, f"{path}.service")


def _url(url: str, path: str) -> list[FieldError]:
    try:
        parts = urlsplit(url)
    except ValueError:
        # Go's parser says so of what Python's refuses too: brackets that do not close.
        return [required(path, f"url must be a valid URL: parse \"{url}\": missing ']' in host{_URL}")]
    errors: list[FieldError] = []
    if parts.scheme != "https":
        errors.append(invalid_value(path, parts.scheme, f"'https' is the only allowed URL scheme{_URL}"))
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        errors.append(invalid_value(path, host, f"host must be specified{_URL}"))
    if at:
        errors.append(invalid_value(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid_value(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid_value(path, parts.query, "query parameters are not permitted in the URL"))
    return errors


def _service(service: Object, path: str) -> list[FieldError]:
    # Kubernetes hands its check the two the wrong way round: a missing name is said of the namespace, and vice versa.
    errors = [
        required(f"{path}.{said}")
        for said, key in (("name", "namespace"), ("namespace", "name"))
        if not service.get(key)
    ]
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


def _resource_names(resource_names: Sequence[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, value in each(path, resource_names):
        errors += fields.check(at, value, names.path_segment)
        if value in seen:
            errors.append(duplicate(at, value))
        seen.add(value)
    return errors


def _match_rule(rule: Object, path: str) -> list[FieldError]:
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
    errors += _resources(entries(rule, "resources"), f"{path}.resources")
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


def _resources(resources: Sequence[str], path: str) -> list[FieldError]:
    """A wildcard only covers what comes after it; of plain resources the last one counts, as in Kubernetes."""
    if not resources:
        return [required(path)]
    errors: list[FieldError] = []
    every_sub: set[str] = set()
    every_base: set[str] = set()
    plain = False
    for at, value in each(path, resources):
        if not value:
            errors.append(required(at))
            continue
        base, slash, sub = value.partition("/")
        if not slash:
            plain = value != "*"
            continue
        if base in every_sub:
            errors.append(invalid_value(at, value, f"if '{base}/*' is present, must not specify {value}"))
        if sub in every_base:
            errors.append(invalid_value(at, value, f"if '*/{sub}' is present, must not specify {value}"))
        if sub == "*":
            every_sub.add(base)
        if base == "*":
            every_base.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        errors.append(invalid_value(path, resources, "if '*/*' is present, must not specify other resources"))
    if plain and "*" in resources:
        detail = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid_value(path, resources, detail))
    return errors


def match_conditions(conditions: Sequence[Object] | None, path: str, *, params: bool = False) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(conditions or ()) > _MAX_CONDITIONS:
        message = f"Too many: {len(conditions or ())}: must have at most {_MAX_CONDITIONS} items"
        errors.append(FieldError("FieldValueTooMany", path, message))
    seen: set[str] = set()
    for at, condition in each(path, conditions):
        expression = text(condition, "expression").strip()
        if not expression:
            errors.append(required(f"{at}.expression"))
        else:
            types = expressions.variable_types(params=params)
            errors += expressions.check(f"{at}.expression", expression, types, "bool")[0]
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
        for at, rule in each(f"{path}.{key}", match.get(key)):
            errors += _resource_names(entries(rule, "resourceNames"), f"{at}.resourceNames")
            errors += _match_rule(rule, at)
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
    if selector is not None:
        errors += fields.label_selector(f"{path}.selector", selector)
        if named:
            errors.append(forbidden_field(f"{path}.selector", "name and selector are mutually exclusive"))
    if not named and selector is None:
        errors.append(required(path, "one of name or selector must be specified"))
    action = reference.get("parameterNotFoundAction")
    return errors + fields.one_of_required(f"{path}.parameterNotFoundAction", action or "", ("Deny", "Allow"))


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
    else:
        errors += _group_version(version, f"{path}.apiVersion")
    if not text(kind, "kind"):
        errors.append(required(f"{path}.kind"))
    elif problems := names.dns1035_label(kind["kind"].lower()):
        detail = f"may have mixed case, but should otherwise match: {','.join(problems)}"
        errors.append(invalid_value(f"{path}.kind", kind["kind"], detail))
    return errors


def _group_version(given: str, path: str) -> list[FieldError]:
    if given.count("/") > 1:
        return [invalid_value(path, given, f"unexpected GroupVersion string: {given}")]
    group, _, version = given.rpartition("/")
    errors: list[FieldError] = []
    if group and (problems := names.dns1123_subdomain(group)):
        errors.append(invalid_value(path, group, ",".join(problems)))
    if not version:
        errors.append(invalid_value(path, given, "version must be specified"))
    elif problems := names.dns1035_label(version):
        errors.append(invalid_value(path, version, ",".join(problems)))
    return errors


def columns() -> tuple[Column, ...]:
    description = "Webhooks indicates the number of webhooks registered in this configuration"
    return (name_column(), Column("Webhooks", "integer", description=description), age_column())


def row(obj: Object, now: datetime) -> list[Any]:
    return [name(obj), len(entries(obj, "webhooks")), age(obj, now)]


def generation(old: Object, new: Object) -> bool:
    return entries(old, "webhooks") != entries(new, "webhooks")

"""ResourceQuota: how much a namespace may use."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, invalid_value, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import requirements
from podling.kinds.core.poddefaults import resource_list
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import age, age_column, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_OBJECTS: Final = (
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
)
_COMPUTE: Final = (
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
)
_POD_COMPUTE: Final = frozenset(
    ("pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
)
_SCOPES: Final = {
    "Terminating": _POD_COMPUTE,
    "NotTerminating": _POD_COMPUTE,
    "NotBestEffort": _POD_COMPUTE,
    "PriorityClass": _POD_COMPUTE,
    "CrossNamespacePodAffinity": _POD_COMPUTE,
    "BestEffort": frozenset(("pods",)),
    "VolumeAttributesClass": frozenset(("persistentvolumeclaims", "requests.storage")),
}
_OPPOSITES: Final = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if spec.get("hard"):
        resource_list(spec["hard"])
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.subresource == "status":
        for key in ("hard", "used"):
            errors += _amounts(part(write.new, "status").get(key), f"status.{key}")
        return errors
    spec = part(write.new, "spec")
    errors += _amounts(spec.get("hard"), "spec.hard")
    errors += _scopes(spec)
    errors += _scope_selector(spec)
    if write.old is not None:
        before = part(write.old, "spec")
        if set(entries(spec, "scopes")) != set(entries(before, "scopes")):
            errors.append(invalid_value("spec.scopes", spec.get("scopes"), fields.IMMUTABLE))
        if part(spec, "scopeSelector") != part(before, "scopeSelector"):
            errors.append(invalid_value("spec.scopeSelector", spec.get("scopeSelector"), fields.IMMUTABLE))
    return errors


def _amounts(hard: Object | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for resource_name, amount in (hard or {}).items():
        at = f"{path}[{resource_name}]"
        errors += _resource_name(resource_name, at)
        errors += _amount(resource_name, amount, at)
    return errors


def _resource_name(value: str, path: str) -> list[FieldError]:
    errors = fields.check(path, value, names.qualified_name)
    if errors or "/" in value:
        return errors
    standard = value in _OBJECTS or value in _COMPUTE or value == "storage"
    if not standard and not requirements.is_huge_page(value.removeprefix("requests.")):
        errors.append(invalid_value(path, value, "must be a standard resource type or fully qualified"))
    if (
        value not in _OBJECTS
        and value not in _COMPUTE
        and not requirements.is_huge_page(value.removeprefix("requests."))
    ):
        errors.append(invalid_value(path, value, "must be a standard resource for quota"))
    return errors


def _amount(resource_name: str, amount: Any, path: str) -> list[FieldError]:
    value = requirements.nanos(amount)
    shown = requirements.canonical(amount)
    errors = [invalid_value(path, shown, fields.NON_NEGATIVE)] if value < 0 else []
    counted = resource_name in _OBJECTS or requirements.is_extended(resource_name)
    if counted and value % requirements.quantity.NANO:
        errors.append(invalid_value(path, shown, "must be an integer"))
    return errors


def _scopes(spec: Object) -> list[FieldError]:
    scopes: list[str] = entries(spec, "scopes")
    errors: list[FieldError] = []
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid_value("spec.scopes", scopes, "unsupported scope"))
            continue
        for resource_name in entries(spec, "hard"):
            if _counted(resource_name) and resource_name not in _SCOPES[scope]:
                errors.append(invalid_value("spec.scopes", scopes, "unsupported scope applied to resource"))
    for pair in _OPPOSITES:
        if set(pair) <= set(scopes):
            errors.append(invalid_value("spec.scopes", scopes, "conflicting scopes"))
    return errors


def _counted(resource_name: str) -> bool:
    return resource_name in _OBJECTS or resource_name in _COMPUTE


def _scope_selector(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    path = "spec.scopeSelector.matchExpressions"
    for at, expression in each(path, part(spec, "scopeSelector").get("matchExpressions")):
        scope, operator = text(expression, "scopeName"), text(expression, "operator")
        values = entries(expression, "values")
        if scope not in _SCOPES:
            errors.append(invalid_value(f"{at}.scopeName", scope, "unsupported scope"))
        if scope in ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating") and operator != "Exists":
            detail = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "
            detail += "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
            detail += "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            errors.append(invalid_value(f"{at}.operator", operator, detail))
        match operator:
            case "In" | "NotIn":
                if not values:
                    detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                    errors.append(required(f"{at}.values", detail))
            case "Exists" | "DoesNotExist":
                if values:
                    detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                    errors.append(invalid_value(f"{at}.values", values, detail))
            case _:
                errors.append(invalid_value(f"{at}.operator", operator, "not a valid selector operator"))
    return errors


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column(
            "Request",
            description="Request represents a minimum amount of cpu/memory that a container may consume.",
        ),
        Column(
            "Limit",
            description="Limits control the maximum amount of cpu/memory that a container may use independent of "
            "contention on the node.",
        ),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    hard, used = part(obj, "status", "hard"), part(obj, "status", "used")
    shown = {key: f"{key}: {used.get(key, '0')}/{hard[key]}" for key in sorted(hard)}
    requests = [words for key, words in shown.items() if not key.startswith("limits.")]
    limits = [words for key, words in shown.items() if key.startswith("limits.")]
    return [name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ResourceQuota",
        plural="resourcequotas",
        singular="resourcequota",
        namespaced=True,
        schema="io.k8s.api.core.v1.ResourceQuota",
        short_names=("quota",),
        status=True,
        strategy=Strategy(
            default=default, prepare=keep_status, validate=validate, generation=None, returns_deleted=True
        ),
        columns=_columns(),
        row=row,
    )

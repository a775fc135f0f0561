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
from podling.kinds.validation import fields
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
_NAMELESS: Final = (
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
)
_MISAPPLIED: Final = "unsupported scope applied to resource"
_MUST_EXIST: Final = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)
_OPPOSITES: Final = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


def default(obj: Object) -> None:
    for amounts in (
        obj.setdefault("spec", {}).get("hard"),
        obj.setdefault("status", {}).get("hard"),
        obj["status"].get("used"),
    ):
        if amounts:
            resource_list(amounts)


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
    if write.old is not None and set(entries(spec, "scopes")) != set(entries(part(write.old, "spec"), "scopes")):
        errors.append(invalid_value("spec.scopes", spec.get("scopes"), fields.IMMUTABLE))
    return errors


def _amounts(hard: Object | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for limited, amount in (hard or {}).items():
        at = f"{path}[{limited}]"
        errors += requirements.standard_name(limited, at)
        if "/" not in limited and not _counted(limited):
            errors.append(invalid_value(at, limited, "must be a standard resource for quota"))
        errors += requirements.amount_value(limited, amount, at)
    return errors


def _counted(name: str) -> bool:
    return name in _OBJECTS or name in _COMPUTE or requirements.is_huge_page(name.removeprefix("requests."))


def _misapplied(scope: str, spec: Object) -> int:
    """How many of the limited resources the scope has nothing to say about."""
    fits = _SCOPES.get(scope)
    return 0 if fits is None else sum(_counted(name) and name not in fits for name in part(spec, "hard"))


def _scopes(spec: Object) -> list[FieldError]:
    path, scopes = "spec.scopes", entries(spec, "scopes")
    errors: list[FieldError] = []
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid_value(path, scopes, "unsupported scope"))
        errors += [invalid_value(path, scopes, _MISAPPLIED)] * _misapplied(scope, spec)
    return errors + _conflicts(path, scopes, spec)


def _scope_selector(spec: Object) -> list[FieldError]:
    """Which of the expressions is wrong, Kubernetes does not say."""
    path, expressions = "spec.scopeSelector.matchExpressions", part(spec, "scopeSelector").get("matchExpressions")
    errors: list[FieldError] = []
    scopes: list[str] = []
    for _, expression in each(path, expressions):
        scope = text(expression, "scopeName")
        scopes.append(scope)
        if scope not in _SCOPES:
            errors.append(invalid_value(f"{path}.scopeName", scope, "unsupported scope"))
        errors += [invalid_value(path, _shown(expressions), _MISAPPLIED)] * _misapplied(scope, spec)
        errors += _operator(expression, scope, path)
    return errors + _conflicts(path, scopes, spec)


def _conflicts(path: str, seen: list[str], spec: Object) -> list[FieldError]:
    """However the scopes are told, what is shown is `spec.scopes`."""
    pairs = [pair for pair in _OPPOSITES if set(pair) <= set(seen)]
    return [invalid_value(path, spec.get("scopes"), "conflicting scopes")] * len(pairs)


def _operator(expression: Object, scope: str, path: str) -> list[FieldError]:
    operator, values = text(expression, "operator"), entries(expression, "values")
    errors: list[FieldError] = []
    if scope in _NAMELESS and operator != "Exists":
        errors.append(invalid_value(f"{path}.operator", operator, _MUST_EXIST))
    match operator:
        case "In" | "NotIn":
            if not values:
                detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{path}.values", detail))
        case "Exists" | "DoesNotExist":
            if values:
                detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid_value(f"{path}.values", values, detail))
        case _:
            errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    return errors


def _shown(expressions: list[Object] | None) -> Object:
    """The selector as Kubernetes holds it inside."""
    keys = (("ScopeName", "scopeName"), ("Operator", "operator"))
    listed = [{**{k: text(e, key) for k, key in keys}, "Values": e.get("values")} for e in expressions or ()]
    return {"MatchExpressions": listed}


def warn(write: Write) -> None:
    """More requested than limited is odd, and allowed."""
    if write.old is not None:
        return
    hard = part(write.new, "spec", "hard")
    for kind in ("cpu", "memory", "storage", "ephemeral-storage"):
        limit, request = f"limits.{kind}", f"requests.{kind}"
        if request not in hard and kind in ("cpu", "memory"):
            request = kind
        if request in hard and limit in hard and requirements.nanos(hard[request]) > requirements.nanos(hard[limit]):
            asked, most = (requirements.canonical(hard[key]) for key in (request, limit))
            write.warnings.append(f"ResourceQuota {request} ({asked}) should be less than {limit} ({most})")


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
            default=default, prepare=keep_status, validate=validate, warn=warn, generation=None, returns_deleted=True
        ),
        columns=_columns(),
        row=row,
    )

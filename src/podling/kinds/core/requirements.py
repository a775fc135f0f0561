"""Validation of `resources`: limits and requests of containers, pods, claims and volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from podling.api import quantity
from podling.api.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_found_value,
    not_supported,
    required,
)
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, part, text
from podling.store.types import Object

_STANDARD: Final = frozenset(
    (
        "cpu",
        "memory",
        "ephemeral-storage",
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "services.loadbalancers",
        "services.nodeports",
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
    )
)
_CONTAINER: Final = ("cpu", "memory", "ephemeral-storage")
_HUGE_PAGES: Final = "hugepages-"
_POD_LEVEL: Final = ("cpu", _HUGE_PAGES, "memory")
NATIVE_DOMAIN: Final = "kubernetes.io/"


def nanos(amount: int | float | str) -> int:
    """The amount in billionths: what amounts are compared by."""
    return quantity.of(amount).nanos


def canonical(amount: int | float | str) -> str:
    return str(quantity.of(amount))


def is_huge_page(name: str) -> bool:
    return name.startswith(_HUGE_PAGES)


def is_native(name: str) -> bool:
    return "/" not in name or NATIVE_DOMAIN in name


def is_extended(name: str) -> bool:
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def resource_name(name: str, path: str) -> list[FieldError]:
    """A resource of a container."""
    errors = fields.check(path, name, names.qualified_name)
    if errors:
        return errors
    if "/" not in name:
        if name not in _CONTAINER and not is_huge_page(name):
            errors.append(invalid_value(path, name, "must be a standard resource for containers"))
        if name not in _STANDARD and not is_huge_page(name):
            errors.insert(0, invalid_value(path, name, "must be a standard resource type or fully qualified"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid_value(path, name, "doesn't follow extended resource name standard"))
    return errors


def amount_value(name: str, amount: int | float | str, path: str) -> list[FieldError]:
    """Not negative, and whole for what can only be counted."""
    value = nanos(amount)
    errors: list[FieldError] = []
    if value < 0:
        errors.append(invalid_value(path, canonical(amount), fields.NON_NEGATIVE))
    if is_extended(name) and value % quantity.NANO:
        errors.append(invalid_value(path, canonical(amount), "must be an integer"))
    return errors


def pod_resource_name(name: str, path: str) -> list[FieldError]:
    """A resource that a whole pod may ask for."""
    errors = fields.check(path, name, names.qualified_name)
    if errors or name in _POD_LEVEL or is_huge_page(name):
        return errors
    if "/" not in name and name not in _STANDARD:
        errors.append(invalid_value(path, name, "must be a standard resource type or fully qualified"))
    return errors or [not_supported(path, name, _POD_LEVEL)]


def requirements(
    resources: Object,
    path: str,
    claims: frozenset[str] = frozenset(),
    name_rule: Callable[[str, str], list[FieldError]] = resource_name,
) -> list[FieldError]:
    limits: Object = part(resources, "limits")
    requests: Object = part(resources, "requests")
    errors: list[FieldError] = []
    for name, amount in limits.items():
        at = f"{path}.limits[{name}]"
        errors += name_rule(name, at) + amount_value(name, amount, at) + _whole_pages(name, amount, at)
    for name, amount in requests.items():
        at = f"{path}.requests[{name}]"
        errors += name_rule(name, at) + amount_value(name, amount, at) + _whole_pages(name, amount, at)
        errors += _request_against_limit(name, amount, limits, path)
    errors += _huge_pages(limits, requests, path)
    return errors + _claims(resources, claims, f"{path}.claims")


def _request_against_limit(name: str, amount: int | float | str, limits: Object, path: str) -> list[FieldError]:
    """Nothing may ask for more than its limit; what cannot be overcommitted asks for exactly that."""
    limit = limits.get(name)
    overcommitted = not (is_extended(name) or is_huge_page(name))
    if limit is None:
        return (
            [] if overcommitted else [required(f"{path}.limits", "Limit must be set for non overcommitable resources")]
        )
    asked, shown = nanos(amount), canonical(amount)
    if not overcommitted and asked != nanos(limit):
        return [invalid_value(f"{path}.requests", shown, f"must be equal to {name} limit of {canonical(limit)}")]
    if asked > nanos(limit):
        detail = f"must be less than or equal to {name} limit of {canonical(limit)}"
        return [invalid_value(f"{path}.requests", shown, detail)]
    return []


def _whole_pages(name: str, amount: int | float | str, path: str) -> list[FieldError]:
    if not is_huge_page(name):
        return []
    try:
        page = quantity.of(name.removeprefix(_HUGE_PAGES))
    except quantity.QuantityError:
        page = quantity.Quantity(0)
    if page.nanos > 0 and page.nanos % quantity.NANO == 0 and quantity.of(amount).value % page.value == 0:
        return []
    shown = canonical(amount)
    return [invalid_value(path, shown, f"{shown} is not positive integer multiple of {name}")]


def _huge_pages(limits: Object, requests: Object, path: str) -> list[FieldError]:
    asked = {**limits, **requests}
    if any(is_huge_page(n) for n in asked) and not ({"cpu", "memory"} & asked.keys()):
        return [forbidden_field(path, "HugePages require cpu or memory")]
    return []


def _claims(resources: Object, known: frozenset[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for at, claim in each(path, resources.get("claims")):
        name, request = text(claim, "name"), text(claim, "request")
        if not name:
            errors.append(required(at))
        elif (name, request) in seen:
            errors.append(duplicate(at, {"Name": name, "Request": request}))
        elif name not in known:
            errors.append(not_found_value(f"{at}.name", name))
        seen.add((name, request))
    return errors

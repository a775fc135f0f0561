"""Validation of `resources`: limits and requests of containers, pods, claims and volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from podling.api import podresources, quantity
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
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_CONTAINER: Final = ("cpu", "memory", "ephemeral-storage")
_COUNTED: Final = frozenset(
    (
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.loadbalancers",
        "services.nodeports",
    )
)
"""Resources that come in whole numbers only."""
_STANDARD: Final = _COUNTED.union(
    _CONTAINER, ("storage", "requests.storage"), *((f"requests.{name}", f"limits.{name}") for name in _CONTAINER)
)
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


def overcommitted(name: str) -> bool:
    """Whether more of it may be promised than there is."""
    return is_native(name) and not is_huge_page(name)


def standard_name(name: str, path: str) -> list[FieldError]:
    """The name of any resource."""
    errors = fields.check(path, name, names.qualified_name)
    if errors or "/" in name or name in _STANDARD or is_huge_page(name) or is_huge_page(name.removeprefix("requests.")):
        return errors
    return [invalid_value(path, name, "must be a standard resource type or fully qualified")]


def resource_name(name: str, path: str) -> list[FieldError]:
    """A resource of a container."""
    errors = standard_name(name, path)
    if "/" not in name:
        if name not in _CONTAINER and not is_huge_page(name):
            errors.append(invalid_value(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid_value(path, name, "doesn't follow extended resource name standard"))
    return errors


def amount_value(name: str, amount: int | float | str, path: str) -> list[FieldError]:
    """Not negative, and whole for what can only be counted."""
    value = quantity.of(amount)
    errors: list[FieldError] = []
    if value.nanos < 0:
        errors.append(invalid_value(path, str(value), fields.NON_NEGATIVE))
    if (name in _COUNTED or is_extended(name)) and value.milli % 1000:
        errors.append(invalid_value(path, str(value), "must be an integer"))
    return errors


def pod_level(name: str) -> bool:
    return name in _POD_LEVEL or is_huge_page(name)


def pod_resource_name(name: str, path: str) -> list[FieldError]:
    """A resource that a whole pod may ask for."""
    return standard_name(name, path) or ([] if pod_level(name) else [not_supported(path, name, _POD_LEVEL)])


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
        errors += name_rule(name, at) + amount_value(name, amount, at)
        errors += _request_against_limit(name, amount, limits, path)
        errors += _whole_pages(name, amount, at)
    errors += _huge_pages(limits, requests, path)
    return errors + _claims(resources, claims, f"{path}.claims")


def _request_against_limit(name: str, amount: int | float | str, limits: Object, path: str) -> list[FieldError]:
    """Nothing may ask for more than its limit; what cannot be overcommitted asks for exactly that."""
    limit = limits.get(name)
    if limit is None:
        detail = "Limit must be set for non overcommitable resources"
        return [] if overcommitted(name) else [required(f"{path}.limits", detail)]
    asked, shown = nanos(amount), canonical(amount)
    if asked != nanos(limit) and not overcommitted(name):
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
    seen: set[str] = set()
    for at, claim in each(path, resources.get("claims")):
        name, request = text(claim, "name"), text(claim, "request")
        if not name:
            errors.append(required(at))
            continue
        errors += _claim_once(name, request, seen, at)
        if name not in known:
            listed = ": " + ", ".join(sorted(known)) if known else " which is empty"
            errors.append(not_found_value(at, name, f"must be one of the names in pod.spec.resourceClaims{listed}"))
    return errors


def _claim_once(name: str, request: str, seen: set[str], path: str) -> list[FieldError]:
    """A claim is used whole, or some of its requests are, each once."""
    if name in seen:
        return [duplicate(path, name)]
    errors: list[FieldError] = []
    key = f"{name}/{request}" if request else name
    if request:
        errors += fields.check(f"{path}.request", request, names.dns1123_label)
    if key in seen:
        errors.append(duplicate(path, key))
    elif not request:
        errors += [duplicate(path, name) for other in seen if other.partition("/")[0] == name]
    seen.add(key)
    return errors


# The whole pod


def of_containers(spec: Object, kind: str) -> dict[str, quantity.Quantity]:
    """What all containers of a pod together ask for, or are limited to, in the notation that is used first."""
    notations: dict[str, quantity.Format] = {}
    for key in ("containers", "initContainers"):
        for container in entries(spec, key):
            for name, amount in part(container, "resources", kind).items():
                notations.setdefault(name, quantity.of(amount).format)
    total = podresources.of_containers(spec, kind)
    return {name: quantity.Quantity(amount, notations[name]) for name, amount in total.items()}


def of_pod(spec: Object, claims: frozenset[str], path: str) -> list[FieldError]:
    """`spec.resources`: well formed, and enough for all containers."""
    resources: Object | None = spec.get("resources")
    if resources is None:
        return []
    at = f"{path}.resources"
    if text(part(spec, "os"), "name") == "windows":
        return [forbidden_field(at, "may not be set for a windows pod")]
    errors: list[FieldError] = []
    if resources.get("claims") is not None:
        errors.append(forbidden_field(f"{at}.claims", "claims may not be set for Resources at pod-level"))
    errors += requirements(resources, at, claims, pod_resource_name)
    return errors + _enough(spec, resources, at)


def _enough(spec: Object, resources: Object, path: str) -> list[FieldError]:
    limits, requests = part(resources, "limits"), part(resources, "requests")
    errors: list[FieldError] = []
    for name, total in of_containers(spec, "requests").items():
        if name in requests and total.nanos > nanos(requests[name]):
            detail = f"must be greater than or equal to aggregate container requests of {total}"
            errors.append(invalid_value(f"{path}.requests[{name}]", canonical(requests[name]), detail))
    for name, total in of_containers(spec, "limits").items():
        if is_huge_page(name) and name in limits and total.nanos > nanos(limits[name]):
            detail = f"must be greater than or equal to aggregate container limits of {total}"
            errors.append(invalid_value(f"{path}.limits[{name}]", canonical(limits[name]), detail))
    for at, container in each(f"{path}.containers", spec.get("containers")):
        for name, amount in part(container, "resources", "limits").items():
            if name in limits and nanos(amount) > nanos(limits[name]):
                detail = f"must be less than or equal to pod limits of {canonical(limits[name])}"
                errors.append(invalid_value(f"{at}[{name}].limits", canonical(amount), detail))
    return errors

"""Devices: what claims, classes and slices say of them, and how it is checked (`pkg/apis/resource/validation`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from podling.api.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_long,
    too_many,
)
from podling.kinds.core.volumes import csi_driver as driver_name
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.types import Type

Check = Callable[[Any, str], list[FieldError]]

MAX_REQUESTS: Final = 32
MAX_CONFIGS: Final = 32
_MAX_CONSTRAINTS: Final = 32
_MAX_SELECTORS: Final = 32
_MAX_ALTERNATIVES: Final = 8
_MAX_BINDING_CONDITIONS: Final = 4
_LONGEST_EXPRESSION: Final = 10 * 1024
_LONGEST_PARAMETERS: Final = 10 * 1024
_LONGEST_POOL: Final = 253
_LONGEST_ID: Final = 32
_MODES: Final = ("All", "ExactCount")
_EFFECTS: Final = ("NoExecute", "NoSchedule", "None")
_OPERATORS: Final = ("Equal", "Exists")
_DEAREST: Final = 1_000_000
_ONE_REQUEST: Final = "exactly one of `exactly` or `firstAvailable` is required"
_REFERENCE: Final = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)
_ADMIN_LABEL: Final = "resource.kubernetes.io/admin-access"


# Lists and maps


def items(values: Sequence[Any] | None, limit: int, check: Check, path: str) -> list[FieldError]:
    """A list that is not looked into when it is too long."""
    if limit >= 0 and len(values or ()) > limit:
        return [too_many(path, len(values or ()), limit)]
    return [error for at, value in each(path, values) for error in check(value, at)]


def unique(
    values: Sequence[Any] | None, limit: int, check: Check, path: str, key: Callable[[Any], Any] = lambda value: value
) -> list[FieldError]:
    """The same, for a list that is a set by `key`."""
    errors = items(values, limit, check, path)
    if limit >= 0 and len(values or ()) > limit:
        return errors
    seen: list[Any] = []
    for at, value in each(path, values):
        if key(value) in seen:
            errors.append(duplicate(at, key(value)))
        seen.append(key(value))
    return errors


def mapping(values: Mapping[str, Any] | None, limit: int, name: Check, check: Check, path: str) -> list[FieldError]:
    if limit >= 0 and len(values or ()) > limit:
        return [too_many(path, len(values or ()), limit)]
    errors: list[FieldError] = []
    for key, value in (values or {}).items():
        errors += name(key, f"{path}[{key}]") + check(value, f"{path}[{key}]")
    return errors


def named(item: Object) -> str:
    return text(item, "name")


# Names


def label(value: str, path: str) -> list[FieldError]:
    return fields.check(path, value, names.dns1123_label)


def subdomain(value: str, path: str) -> list[FieldError]:
    return fields.check(path, value, names.dns1123_subdomain)


def qualified(value: str, path: str) -> list[FieldError]:
    return fields.check(path, value, names.qualified_name)


def pool_name(value: str, path: str) -> list[FieldError]:
    if not value:
        return [required(path)]
    errors = [too_long(path, _LONGEST_POOL)] if len(value) > _LONGEST_POOL else []
    return errors + [error for step in value.split("/") for error in subdomain(step, path)]


def attribute_name(value: str, path: str) -> list[FieldError]:
    """`name` or `domain/name`."""
    domain, slash, rest = value.partition("/")
    if not slash:
        return _identifier(value, path)
    if "/" in rest:
        return []  # Kubernetes looks at names with one slash only
    errors = driver_name(domain, path) if domain else [invalid_value(path, "", "the domain must not be empty")]
    return errors + (_identifier(rest, path) if rest else [invalid_value(path, "", "the name must not be empty")])


def _full_attribute_name(value: str, path: str) -> list[FieldError]:
    errors = attribute_name(value, path)
    if "/" not in value:
        detail = "a fully qualified name must be a domain and a name separated by a slash"
        errors.append(invalid_value(path, value, detail))
    return errors


def _identifier(value: str, path: str) -> list[FieldError]:
    errors = [too_long(path, _LONGEST_ID)] if len(value) > _LONGEST_ID else []
    return errors + fields.check(path, value, names.c_identifier)


# Claims


def default(claim: Object) -> None:
    """Defaults of a claim's spec."""
    for request in entries(part(claim, "devices"), "requests"):
        wanted = [request["exactly"]] if request.get("exactly") is not None else []
        for one in [*wanted, *entries(request, "firstAvailable")]:
            if not one.get("allocationMode"):
                one["allocationMode"] = "ExactCount"
            if one["allocationMode"] == "ExactCount" and not one.get("count"):
                one["count"] = 1


def claim_spec(spec: Object, path: str) -> list[FieldError]:
    devices, at = part(spec, "devices"), f"{path}.devices"
    known = request_names(spec)
    errors = unique(devices.get("requests"), MAX_REQUESTS, _request, f"{at}.requests", named)
    errors += items(
        devices.get("constraints"), _MAX_CONSTRAINTS, lambda c, p: _constraint(c, p, known), f"{at}.constraints"
    )
    return errors + items(
        devices.get("config"), MAX_CONFIGS, lambda c, p: claim_configuration(c, p, known), f"{at}.config"
    )


def request_names(spec: Object) -> frozenset[str]:
    """What configurations and results may refer to: requests, and their alternatives as `request/alternative`."""
    found: set[str] = set()
    for request in entries(part(spec, "devices"), "requests"):
        found.add(named(request))
        found |= {f"{named(request)}/{named(one)}" for one in entries(request, "firstAvailable")}
    return frozenset(found)


def _request(request: Object, path: str) -> list[FieldError]:
    errors = label(named(request), f"{path}.name")
    exactly, alternatives = request.get("exactly"), entries(request, "firstAvailable")
    if exactly is None and not alternatives:
        return [*errors, required(path, _ONE_REQUEST)]
    if exactly is not None and alternatives:
        return [*errors, invalid_value(path, None, f"{_ONE_REQUEST}, but multiple fields are set")]
    if exactly is not None:
        return errors + _wanted(exactly, f"{path}.exactly")
    return errors + unique(alternatives, _MAX_ALTERNATIVES, _alternative, f"{path}.firstAvailable", named)


def _alternative(request: Object, path: str) -> list[FieldError]:
    return label(named(request), f"{path}.name") + _wanted(request, path)


def _wanted(request: Object, path: str) -> list[FieldError]:
    errors = fields.check_required(f"{path}.deviceClassName", text(request, "deviceClassName"), names.dns1123_subdomain)
    errors += selectors(request.get("selectors"), f"{path}.selectors")
    errors += _allocation(text(request, "allocationMode"), request.get("count") or 0, path)
    return errors + [
        error for at, one in each(f"{path}.tolerations", request.get("tolerations")) for error in _toleration(one, at)
    ]


def _allocation(mode: str, count: int, path: str) -> list[FieldError]:
    if mode not in _MODES:
        return [not_supported(f"{path}.allocationMode", mode, _MODES)]
    if mode == "All" and count:
        return [invalid_value(f"{path}.count", count, "must not be specified when allocationMode is 'All'")]
    if mode == "ExactCount" and count <= 0:
        return [invalid_value(f"{path}.count", count, "must be greater than zero")]
    return []


def selectors(values: Sequence[Object] | None, path: str) -> list[FieldError]:
    return items(values, _MAX_SELECTORS, _selector, path)


def _selector(selector: Object, path: str) -> list[FieldError]:
    if selector.get("cel") is None:
        return [required(f"{path}.cel")]
    return _expression(text(selector["cel"], "expression"), f"{path}.cel.expression")


def _expression(source: str, path: str) -> list[FieldError]:
    from podling.cel.compiler import compile_expression
    from podling.cel.syntax import CompileError

    if len(source.encode()) > _LONGEST_EXPRESSION:
        return [too_long(path, _LONGEST_EXPRESSION)]
    try:
        program = compile_expression(source, {"device": _device_type()})
    except CompileError as error:
        return [invalid_value(path, source, f"compilation failed: {error}")]
    if program.type.name not in ("bool", "dyn"):
        detail = f"must evaluate to bool or the unknown type, not {program.type}"
        return [invalid_value(path, source, detail)]
    return [forbidden_field(path, "too complex, exceeds cost limit")] if program.cost > _DEAREST else []


def _device_type() -> Type:
    from podling.cel import types

    by_domain = types.map_of(types.STRING, types.map_of(types.STRING, types.DYN))
    members = {
        "driver": types.STRING,
        "allowMultipleAllocations": types.BOOL,
        "attributes": by_domain,
        "capacity": by_domain,
    }
    return types.object_of("kubernetes.DRADevice", members)


def _toleration(toleration: Object, path: str) -> list[FieldError]:
    key, value, effect = (text(toleration, name) for name in ("key", "value", "effect"))
    errors = qualified(key, f"{path}.key") if key else []
    match text(toleration, "operator"):
        case "Exists":
            if value:
                errors.append(invalid_value(f"{path}.value", value, "must be empty for operator `Exists`"))
        case "Equal":
            errors += fields.check(f"{path}.value", value, names.label_value)
        case other:
            errors += fields.one_of_required(f"{path}.operator", other, _OPERATORS)
    return errors + (fields.one_of(f"{path}.effect", effect, _EFFECTS) if effect else [])


def taint(value: Object, path: str) -> list[FieldError]:
    errors = qualified(text(value, "key"), f"{path}.key")
    errors += fields.check(f"{path}.value", text(value, "value"), names.label_value)
    return errors + fields.one_of_required(f"{path}.effect", text(value, "effect"), _EFFECTS)


def _constraint(constraint: Object, path: str, known: frozenset[str]) -> list[FieldError]:
    errors = references(constraint.get("requests"), f"{path}.requests", known)
    for key in ("matchAttribute", "distinctAttribute"):
        if constraint.get(key) is not None:
            return errors + _full_attribute_name(constraint[key], f"{path}.{key}")
    detail = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, required(path, detail)]


def references(values: Sequence[str] | None, path: str, known: frozenset[str]) -> list[FieldError]:
    return unique(values, MAX_REQUESTS, lambda value, at: reference(value, at, known), path)


def reference(value: str, path: str, known: frozenset[str]) -> list[FieldError]:
    """The name of a request, or of one of its alternatives."""
    steps = value.split("/")
    if len(steps) > 2:
        return [invalid_value(path, value, _REFERENCE)]
    errors = [error for step in steps for error in label(step, path)]
    return errors if value in known else [*errors, invalid_value(path, value, _REFERENCE)]


def claim_configuration(config: Object, path: str, known: frozenset[str]) -> list[FieldError]:
    return references(config.get("requests"), f"{path}.requests", known) + configuration(config, path)


def configuration(config: Object, path: str) -> list[FieldError]:
    opaque: Object | None = config.get("opaque")
    if opaque is None:
        return [required(f"{path}.opaque")]
    errors = driver_name(text(opaque, "driver"), f"{path}.opaque.driver")
    return errors + parameters(opaque.get("parameters"), f"{path}.opaque.parameters")


def parameters(value: Any, path: str) -> list[FieldError]:
    """What a driver is told, in words of its own."""
    if value is None:
        return [required(path)]
    if len(orjson.dumps(value)) > _LONGEST_PARAMETERS:
        return [too_long(path, _LONGEST_PARAMETERS)]
    if isinstance(value, dict):
        return []
    return [invalid_value(path, "<value omitted>", "must be a valid JSON object")]


def admin_access(spec: Object, namespace: Object | None, path: str) -> list[FieldError]:
    """Devices that others use as well are given in namespaces that are marked for it."""
    if part(namespace or {}, "metadata", "labels").get(_ADMIN_LABEL) == "true":
        return []
    detail = f"admin access to devices requires the `{_ADMIN_LABEL}: true` label on the containing namespace"
    return [
        forbidden_field(f"{at}.exactly.adminAccess", detail)
        for at, request in each(f"{path}.devices.requests", part(spec, "devices").get("requests"))
        if part(request, "exactly").get("adminAccess")
    ][:1]


def binding_conditions(item: Object, path: str) -> list[FieldError]:
    """Conditions that a device waits for, and those that end the waiting: either both or none."""
    wanted, failing = entries(item, "bindingConditions"), entries(item, "bindingFailureConditions")
    at, failing_at = f"{path}.bindingConditions", f"{path}.bindingFailureConditions"
    errors = items(wanted, _MAX_BINDING_CONDITIONS, qualified, at)
    errors += items(failing, _MAX_BINDING_CONDITIONS, qualified, failing_at)
    errors += [duplicate(f"{at}[{i}]", one) for i, one in enumerate(wanted) if one in wanted[:i]]
    for index, one in enumerate(failing):
        if one in failing[:index]:
            errors.append(duplicate(f"{failing_at}[{index}]", one))
        if one in wanted:
            detail = "bindingFailureConditions must not overlap with bindingConditions"
            errors.append(invalid_value(f"{failing_at}[{index}]", one, detail))
    if failing and not wanted:
        detail = "bindingConditions are required to use bindingFailureConditions"
        errors.append(invalid_value(at, item.get("bindingConditions"), detail))
    if wanted and not failing:
        detail = "bindingFailureConditions are required to use bindingConditions"
        errors.append(invalid_value(failing_at, item.get("bindingFailureConditions"), detail))
    return errors

"""LimitRange: the least, the most and the usual that one container, pod or claim of a namespace may ask for."""

from __future__ import annotations

from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.core.poddefaults import resource_list
from podling.kinds.core.requirements import canonical, is_extended, is_huge_page, nanos
from podling.kinds.printing import created_columns, created_row
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_TYPES: Final = ("Pod", "Container", "PersistentVolumeClaim")
_BOUNDS: Final = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage", "storage")


def default(obj: Object) -> None:
    """What is not said follows from what is: limits from maxima, requests from limits or minima."""
    for item in obj.setdefault("spec", {}).get("limits") or ():
        for bound in _BOUNDS:
            if item.get(bound):
                resource_list(item[bound])
        if text(item, "type") != "Container":
            continue
        limits = {**part(item, "max"), **part(item, "default")}
        requests = {**part(item, "min"), **limits, **part(item, "defaultRequest")}
        for key, value in (("default", limits), ("defaultRequest", requests)):
            if value:
                item[key] = value


def prepare(write: Write) -> None:
    """No limits show as `null`, however they were left out: Kubernetes stores them so."""
    spec: Object = write.new.setdefault("spec", {})
    spec["limits"] = spec.get("limits") or None


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    seen: set[str] = set()
    for at, item in each("spec.limits", part(write.new, "spec").get("limits")):
        kind = text(item, "type")
        errors += _type(kind, f"{at}.type")
        if kind in seen:
            errors.append(duplicate(f"{at}.type", kind))
        seen.add(kind)
        errors += _item(item, kind, at)
    return errors


def _type(kind: str, path: str) -> list[FieldError]:
    errors = fields.check(path, kind, names.qualified_name)
    if errors or "/" in kind or kind in _TYPES:
        return errors
    return [invalid_value(path, kind, "must be a standard limit type or fully qualified")]


def _item(item: Object, kind: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    keys: dict[str, None] = {}
    for bound in _BOUNDS:
        for name in entries(item, bound):
            keys[name] = None
    if kind == "Pod":
        for bound in ("default", "defaultRequest"):
            if item.get(bound):
                errors.append(forbidden_field(f"{path}.{bound}", "may not be specified when `type` is 'Pod'"))
    else:
        errors += [
            e for b in ("default", "defaultRequest") for n in entries(item, b) for e in _name(n, f"{path}.{b}[{n}]")
        ]
    errors += [e for b in ("max", "min") for n in entries(item, b) for e in _name(n, f"{path}.{b}[{n}]")]
    if kind == "PersistentVolumeClaim" and not {"storage"} & {*entries(item, "min"), *entries(item, "max")}:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", detail))
    for name in keys:
        errors += _order(item, name, path, kind)
    return errors


def _name(name: str, path: str) -> list[FieldError]:
    errors = fields.check(path, name, names.qualified_name)
    if errors or "/" in name or name in _RESOURCES or is_huge_page(name):
        return errors
    return [invalid_value(path, name, "must be a standard resource type or fully qualified")]


def _order(item: Object, name: str, path: str, kind: str) -> list[FieldError]:
    """min <= request <= limit <= max, where each is given."""
    given: dict[str, Any] = {b: part(item, b)[name] for b in _BOUNDS if name in part(item, b)}
    value = {bound: nanos(amount) for bound, amount in given.items()}
    shown = {bound: canonical(amount) for bound, amount in given.items()}
    errors: list[FieldError] = []

    def wrong(bound: str, of: str, detail: str) -> None:
        errors.append(invalid_value(f"{path}.{bound}[{name}]", shown[of], detail))

    low, high = value.get("min"), value.get("max")
    request, limit = value.get("defaultRequest"), value.get("default")
    if low is not None and high is not None and low > high:
        wrong("min", "min", f"min value {shown['min']} is greater than max value {shown['max']}")
    if request is not None and low is not None and low > request:
        says = f"min value {shown['min']} is greater than default request value {shown['defaultRequest']}"
        wrong("defaultRequest", "defaultRequest", says)
    if request is not None and high is not None and request > high:
        says = f"default request value {shown['defaultRequest']} is greater than max value {shown['max']}"
        wrong("defaultRequest", "defaultRequest", says)
    if request is not None and limit is not None and request > limit:
        says = f"default request value {shown['defaultRequest']} is greater than default limit value {shown['default']}"
        wrong("defaultRequest", "defaultRequest", says)
    if limit is not None and low is not None and low > limit:
        wrong("default", "min", f"min value {shown['min']} is greater than default value {shown['default']}")
    if limit is not None and high is not None and limit > high:
        wrong("default", "max", f"default value {shown['default']} is greater than max value {shown['max']}")
    errors += _ratio(value, shown, name, path)
    if kind == "Container" and (is_extended(name) or is_huge_page(name)) and limit != request:
        most, usual = shown.get("default"), shown.get("defaultRequest")
        says = f"default value {most} must equal to defaultRequest value {usual} in {name}"
        errors.append(invalid_value(f"{path}.default[{name}]", most, says))
    return errors


def _ratio(value: dict[str, int], shown: dict[str, str], name: str, path: str) -> list[FieldError]:
    ratio = value.get("maxLimitRequestRatio")
    if ratio is None:
        return []
    at, text_ = f"{path}.maxLimitRequestRatio[{name}]", shown["maxLimitRequestRatio"]
    errors: list[FieldError] = []
    if ratio < 10**9:
        errors.append(invalid_value(at, text_, f"ratio {text_} is less than 1"))
    low, high = value.get("min"), value.get("max")
    if low and high is not None and ratio / 10**9 > high / low:
        errors.append(invalid_value(at, text_, f"ratio {text_} is greater than max/min = {high / low:f}"))
    return errors


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="LimitRange",
        plural="limitranges",
        singular="limitrange",
        namespaced=True,
        schema="io.k8s.api.core.v1.LimitRange",
        short_names=("limits",),
        strategy=Strategy(create_on_update=True, default=default, prepare=prepare, validate=validate, generation=None),
        columns=created_columns(),
        row=created_row,
    )

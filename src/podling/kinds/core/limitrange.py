"""LimitRange: the least, the most and the usual that one container, pod or claim of a namespace may ask for."""

from __future__ import annotations

import uuid
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.core.poddefaults import resource_list
from podling.kinds.core.requirements import canonical, nanos, overcommitted, resource_name, standard_name
from podling.kinds.printing import created_columns, created_row
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, part, text
from podling.kinds.validation.meta import common, whole
from podling.store.types import Object

_TYPES: Final = ("Pod", "Container", "PersistentVolumeClaim")
_BOUNDS: Final = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


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
    """No limits show as `null`, however they were left out: Kubernetes stores them so. Without a name, there is one."""
    if write.old is None and not text(write.new["metadata"], "name"):
        write.new["metadata"]["name"] = str(uuid.uuid4())
    spec: Object = write.new.setdefault("spec", {})
    spec["limits"] = spec.get("limits") or None


def validate(write: Write) -> list[FieldError]:
    errors = common(write) + whole(write)
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
    errors = _names(item, kind, path, "max", "min")
    usual = ("default", "defaultRequest")
    if kind == "Pod":
        for bound in usual:
            if item.get(bound):
                errors.append(forbidden_field(f"{path}.{bound}", "may not be specified when `type` is 'Pod'"))
    else:
        errors += _names(item, kind, path, *usual)
    if kind == "PersistentVolumeClaim" and not {"storage"} & {*part(item, "min"), *part(item, "max")}:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", detail))
    errors += _names(item, kind, path, "maxLimitRequestRatio")
    given = {b: part(item, b) for b in _BOUNDS if kind != "Pod" or b not in usual}
    for name in dict.fromkeys(name for amounts in given.values() for name in amounts):
        errors += _order({b: amounts[name] for b, amounts in given.items() if name in amounts}, name, path)
    return errors


def _names(item: Object, kind: str, path: str, *bounds: str) -> list[FieldError]:
    rule = resource_name if kind in ("Pod", "Container") else standard_name
    return [e for b in bounds for name in part(item, b) for e in rule(name, f"{path}.{b}[{name}]")]


def _order(given: dict[str, Any], name: str, path: str) -> list[FieldError]:
    """min <= request <= limit <= max, where each is given."""
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
    if not overcommitted(name) and None not in (limit, request) and limit != request:
        says = (
            f"default value {shown['default']} must equal to defaultRequest value {shown['defaultRequest']} in {name}"
        )
        wrong("defaultRequest", "defaultRequest", says)
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

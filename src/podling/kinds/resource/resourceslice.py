"""ResourceSlice: the devices of a node or a network, as their driver tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required, too_long
from podling.api.meta import timestamp
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import scheduling
from podling.kinds.core.requirements import canonical, nanos
from podling.kinds.printing import age, age_column, doc, name, name_column
from podling.kinds.resource import devices
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_MAX_DEVICES: Final = 128
_MAX_ADVANCED_DEVICES: Final = 64
_MAX_COUNTER_SETS: Final = 8
_MAX_COUNTERS: Final = 32
_MAX_CONSUMED: Final = 2
_MAX_ATTRIBUTES: Final = 32
_MAX_TAINTS: Final = 16
_MAX_VALUES: Final = 10
_LONGEST_VALUE: Final = 64
_PLACES: Final = ("nodeName", "nodeSelector", "allNodes")
_PER_DEVICE: Final = "perDeviceNodeSelection"
_NUMERIC: Final = r"(0|[1-9]\d*)"
_PRE: Final = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_BUILD: Final = "[0-9a-zA-Z-]+"
_VERSION: Final = rf"{_NUMERIC}\.{_NUMERIC}\.{_NUMERIC}(-{_PRE}(\.{_PRE})*)?(\+{_BUILD}(\.{_BUILD})*)?"
_KINDS: Final = ("bool", "int", "string", "version")


def prepare(write: Write) -> None:
    """A taint tells since when it holds."""
    for device in entries(part(write.new, "spec"), "devices"):
        for taint in entries(device, "taints"):
            if taint.get("timeAdded") is None:
                taint["timeAdded"] = timestamp(write.now)


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec, before = part(write.new, "spec"), part(write.old or {}, "spec")
    errors += devices.driver_name(text(spec, "driver"), "spec.driver")
    errors += _pool(part(spec, "pool"), "spec.pool")
    if write.old is not None:
        errors += fields.immutable("spec.pool.name", named_pool(spec), named_pool(before))
        for key in ("driver", "nodeName"):
            errors += fields.immutable(f"spec.{key}", spec.get(key), before.get(key))
    errors += _place(spec, "spec", (*_PLACES, _PER_DEVICE))
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        errors.append(invalid_value("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    listed = entries(spec, "devices")
    advanced = any(device.get("taints") or device.get("consumesCounters") for device in listed)
    errors += devices.unique(
        listed,
        _MAX_ADVANCED_DEVICES if advanced else _MAX_DEVICES,
        lambda device, at: _device(device, at, bool(spec.get(_PER_DEVICE))),
        "spec.devices",
        devices.named,
    )
    return errors + devices.unique(
        spec.get("sharedCounters"), _MAX_COUNTER_SETS, _counter_set, "spec.sharedCounters", devices.named
    )


def named_pool(spec: Object) -> str:
    return text(part(spec, "pool"), "name")


def _pool(pool: Object, path: str) -> list[FieldError]:
    errors = devices.pool_name(text(pool, "name"), f"{path}.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        errors.append(invalid_value(f"{path}.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        errors.append(invalid_value(f"{path}.generation", generation, "must be greater than or equal to zero"))
    return errors


def _place(spec: Object, path: str, keys: tuple[str, ...]) -> list[FieldError]:
    """Where the devices of a slice can be used: exactly one of `keys` says so."""
    given, errors = _given(spec, path, keys, empty="must be either unset or set to a non-empty string", single=True)
    detail = f"exactly one of {', '.join(f'`{key}`' for key in keys)} is required"
    if not given:
        errors.append(required(path, detail))
    elif len(given) > 1:
        shown = f"{{{', '.join(given)}}}"
        errors.append(invalid_value(path, shown, f"{detail}, but multiple fields are set"))
    return errors


def _given(
    obj: Object, path: str, keys: Iterable[str], *, empty: str, single: bool
) -> tuple[list[str], list[FieldError]]:
    """Those of `keys` that say something, and what is wrong with each. `single`: a node selector has one term."""
    given: list[str] = []
    errors: list[FieldError] = []
    for key in keys:
        value: Any = obj.get(key)
        at = f"{path}.{key}"
        if value is None:
            continue
        if value or key == "nodeSelector":
            given.append(f"`{key}`")
        elif key == "nodeName":
            errors.append(invalid_value(at, "", empty))
        else:
            errors.append(invalid_value(at, False, "must be either unset or set to true"))
        if key == "nodeName" and value:
            errors += fields.check(at, value, names.dns1123_subdomain)
        elif key == "nodeSelector":
            errors += _node_selector(value, at, single=single)
    return given, errors


def _node_selector(selector: Object, path: str, *, single: bool) -> list[FieldError]:
    errors = scheduling.node_selector(selector, path)
    if single and len(entries(selector, "nodeSelectorTerms")) != 1:
        detail = "must have exactly one node selector term"
        errors.append(invalid_value(f"{path}.nodeSelectorTerms", selector.get("nodeSelectorTerms"), detail))
    return errors


def _device(device: Object, path: str, chosen: bool) -> list[FieldError]:
    errors = devices.label(devices.named(device), f"{path}.name")
    attributes, capacity = part(device, "attributes"), part(device, "capacity")
    if (count := len(attributes) + len(capacity)) > _MAX_ATTRIBUTES:
        detail = f"the total number of attributes and capacities must not exceed {_MAX_ATTRIBUTES}"
        errors.append(invalid_value(path, count, detail))
    errors += devices.mapping(attributes, -1, devices.attribute_name, _attribute, f"{path}.attributes")
    check = _shared_capacity if device.get("allowMultipleAllocations") else _capacity
    errors += devices.mapping(capacity, -1, devices.attribute_name, check, f"{path}.capacity")
    errors += devices.items(device.get("taints"), _MAX_TAINTS, devices.taint, f"{path}.taints")
    errors += devices.unique(
        device.get("consumesCounters"),
        _MAX_CONSUMED,
        _consumption,
        f"{path}.consumesCounters",
        lambda one: text(one, "counterSet"),
    )
    errors += _own_place(device, path) if chosen else _no_place(device, path)
    return errors + devices.binding_conditions(device, path)


_WHEN_CHOSEN: Final = "is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"


def _own_place(device: Object, path: str) -> list[FieldError]:
    given, errors = _given(device, path, _PLACES, empty="must not be empty", single=False)
    detail = f"exactly one of `nodeName`, `nodeSelector`, or `allNodes` {_WHEN_CHOSEN}"
    if not given:
        errors.append(required(path, detail))
    elif len(given) > 1:
        errors.append(invalid_value(path, f"{{{', '.join(given)}}}", detail))
    return errors


def _no_place(device: Object, path: str) -> list[FieldError]:
    if all(device.get(key) is None for key in _PLACES):
        return []
    detail = (
        "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
        "ResourceSlice spec"
    )
    return [invalid_value(path, None, detail)]


def _attribute(attribute: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [key for key in _KINDS if attribute.get(key) is not None]
    for key in given:
        value: Any = attribute[key]
        if key == "version" and not re.fullmatch(_VERSION, value, re.ASCII):
            detail = "must be a string compatible with semver.org spec 2.0.0"
            errors.append(invalid_value(f"{path}.{key}", value, detail))
        if key in ("string", "version") and len(value.encode()) > _LONGEST_VALUE:
            errors.append(too_long(f"{path}.{key}", _LONGEST_VALUE))
    if len(given) != 1:
        shown = {f"{key.capitalize()}Value": attribute.get(key) for key in ("int", "bool", "string", "version")}
        errors.append(invalid_value(path, shown if given else "", "exactly one value must be specified"))
    return errors


def _capacity(capacity: Object, path: str) -> list[FieldError]:
    if capacity.get("requestPolicy") is None:
        return []
    return [forbidden_field(f"{path}.requestPolicy", "allowMultipleAllocations must be true")]


def _shared_capacity(capacity: Object, path: str) -> list[FieldError]:
    policy: Object | None = capacity.get("requestPolicy")
    if policy is None:
        return []
    at, most = f"{path}.requestPolicy", capacity.get("value", "0")
    values, span = entries(policy, "validValues"), policy.get("validRange")
    if values and span is not None:
        detail = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [forbidden_field(at, detail)]
    usual = policy.get("default")
    for key in (key for key, given in (("validValues", values), ("validRange", span is not None)) if given):
        if usual is None:
            return [required(f"{at}.default", f"required when {key} is defined")]
    if values:
        return _valid_values(values, usual, most, f"{at}.validValues")
    return _valid_range(span, usual, most, f"{at}.validRange") if span is not None else []


def _valid_values(values: list[Any], usual: Any, most: Any, path: str) -> list[FieldError]:
    detail = "values must be sorted in ascending order"
    errors = [
        invalid_value(f"{path}[{index + 1}]", canonical(after), detail)
        for index, (before, after) in enumerate(pairwise(values))
        if nanos(before) > nanos(after)
    ]

    def check(value: Any, at: str) -> list[FieldError]:
        if nanos(value) <= nanos(most):
            return []
        return [invalid_value(at, canonical(value), f"option is larger than capacity value: {canonical(most)}")]

    errors += devices.unique(values, _MAX_VALUES, check, path, lambda value: str(_whole(value)))
    if nanos(usual) not in map(nanos, values):
        detail = "default value is not valid according to the requestPolicy"
        errors.append(invalid_value(path, canonical(usual), detail))
    return errors


def _whole(amount: Any) -> int:
    """The amount as an integer, rounded up."""
    return -(-nanos(amount) // 10**9)


def _valid_range(span: Object, usual: Any, most: Any, path: str) -> list[FieldError]:
    least, top, step = (span.get(key) for key in ("min", "max", "step"))
    if least is None:
        return [required(f"{path}.min", "required when validRange is defined")]
    compared = [
        ("min", least, most, f"min is larger than capacity value: {canonical(most)}", least),
        ("min", least, usual, f"default is less than min: {canonical(least)}", usual),
    ]
    if top is not None:
        compared += [
            ("max", least, top, f"min is larger than max: {canonical(top)}", least),
            ("max", top, most, f"max is larger than capacity value: {canonical(most)}", top),
            ("max", usual, top, f"default is more than max: {canonical(top)}", usual),
        ]
    errors = [
        invalid_value(f"{path}.{key}", canonical(shown), detail)
        for key, smaller, larger, detail, shown in compared
        if nanos(smaller) > nanos(larger)
    ]
    return errors + (_steps(least, top, step, usual, most, f"{path}.step") if step is not None else [])


def _steps(least: Any, top: Any, step: Any, usual: Any, most: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    added = nanos(least) + nanos(step)
    if added > nanos(most):
        shown = canonical(added // 10**9)
        detail = f"one step {shown} is larger than capacity value: {canonical(most)}"
        errors.append(invalid_value(path, canonical(step), detail))
    detail = f"value is not a multiple of a given step ({canonical(step)}) from ({canonical(least)})"
    for value in (usual, top):
        if value is not None and _whole(step) and (_whole(value) - _whole(least)) % _whole(step):
            errors.append(invalid_value(path, canonical(value), detail))
    return errors


def _no_errors(_value: Any, _path: str) -> list[FieldError]:
    """Any amount is a counter."""
    return []


def _counters(counters: Object, path: str) -> list[FieldError]:
    if not counters:
        return [required(path)]
    return devices.mapping(counters, _MAX_COUNTERS, devices.label, _no_errors, path)


def _counter_set(counters: Object, path: str) -> list[FieldError]:
    errors = fields.check_required(f"{path}.name", devices.named(counters), names.dns1123_label)
    return errors + _counters(part(counters, "counters"), f"{path}.counters")


def _consumption(consumption: Object, path: str) -> list[FieldError]:
    errors = fields.check_required(f"{path}.counterSet", text(consumption, "counterSet"), names.dns1123_label)
    return errors + _counters(part(consumption, "counters"), f"{path}.counters")


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Node", description=doc("resource.v1.ResourceSliceSpec.nodeName")),
        Column("Driver", description=doc("resource.v1.ResourceSliceSpec.driver")),
        Column("Pool", description=doc("resource.v1.ResourcePool.name")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    return [name(obj), text(spec, "nodeName"), text(spec, "driver"), named_pool(spec), age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="ResourceSlice",
        plural="resourceslices",
        singular="resourceslice",
        namespaced=False,
        schema="io.k8s.api.resource.v1.ResourceSlice",
        strategy=Strategy(prepare=prepare, validate=validate),
        columns=_columns(),
        row=row,
        selectable={
            "spec.nodeName": lambda obj: text(part(obj, "spec"), "nodeName"),
            "spec.driver": lambda obj: text(part(obj, "spec"), "driver"),
        },
    )

"""DeviceClass: a sort of device that claims can ask for."""

from __future__ import annotations

from podling.api.errors import FieldError, invalid_value
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.core.requirements import is_extended
from podling.kinds.printing import age_columns, age_row
from podling.kinds.resource import devices
from podling.kinds.validation import meta
from podling.kinds.validation.fields import part
from podling.store.types import Object


def default(obj: Object) -> None:
    obj.setdefault("spec", {})


def validate(write: Write) -> list[FieldError]:
    errors = meta.common(write) + meta.whole(write) + meta.changed(write)
    spec = part(write.new, "spec")
    errors += devices.selectors(spec.get("selectors"), "spec.selectors")
    errors += devices.items(spec.get("config"), devices.MAX_CONFIGS, devices.configuration, "spec.config")
    extended = spec.get("extendedResourceName")
    if extended is not None and not is_extended(extended):
        errors.append(invalid_value("spec.extendedResourceName", extended, "must be a valid extended resource name"))
    return errors


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="DeviceClass",
        plural="deviceclasses",
        singular="deviceclass",
        namespaced=False,
        schema="io.k8s.api.resource.v1.DeviceClass",
        strategy=Strategy(default=default, validate=validate),
        columns=age_columns(),
        row=age_row,
    )

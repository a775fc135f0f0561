"""DeviceClass: a sort of device that claims can ask for."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import age_columns, age_row
from podling.kinds.validation.meta import object_meta


def validate(write: Write) -> list[FieldError]:
    return object_meta(write)


def resource() -> Resource:
    return Resource(
        group="resource.k8s.io",
        version="v1",
        kind="DeviceClass",
        plural="deviceclasses",
        singular="deviceclass",
        namespaced=False,
        schema="io.k8s.api.resource.v1.DeviceClass",
        strategy=Strategy(validate=validate),
        columns=age_columns(),
        row=age_row,
    )

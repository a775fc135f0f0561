"""ServiceAccount: who a pod is when it talks to the API."""

from __future__ import annotations

from podling.api.errors import FieldError
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.printing import age_columns, age_row
from podling.kinds.validation.meta import object_meta


def validate(write: Write) -> list[FieldError]:
    return object_meta(write)


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ServiceAccount",
        plural="serviceaccounts",
        singular="serviceaccount",
        namespaced=True,
        schema="io.k8s.api.core.v1.ServiceAccount",
        short_names=("sa",),
        subresources=("token",),
        strategy=Strategy(validate=validate, generation=None, returns_deleted=True),
        columns=age_columns(),
        row=age_row,
    )

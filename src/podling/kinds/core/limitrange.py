"""LimitRange."""

from __future__ import annotations

from podling.api.resources import Resource


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
    )

"""Service."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Service",
        plural="services",
        singular="service",
        namespaced=True,
        schema="io.k8s.api.core.v1.Service",
        short_names=("svc",),
        categories=("all",),
        status=True,
        subresources=("proxy",),
    )

"""Endpoints."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Endpoints",
        plural="endpoints",
        singular="endpoints",
        namespaced=True,
        schema="io.k8s.api.core.v1.Endpoints",
        short_names=("ep",),
    )

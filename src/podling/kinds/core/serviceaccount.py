"""ServiceAccount."""

from __future__ import annotations

from podling.api.resources import Resource


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
    )

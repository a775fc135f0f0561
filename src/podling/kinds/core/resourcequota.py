"""ResourceQuota."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ResourceQuota",
        plural="resourcequotas",
        singular="resourcequota",
        namespaced=True,
        schema="io.k8s.api.core.v1.ResourceQuota",
        short_names=("quota",),
        status=True,
    )

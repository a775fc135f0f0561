"""ConfigMap."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ConfigMap",
        plural="configmaps",
        singular="configmap",
        namespaced=True,
        schema="io.k8s.api.core.v1.ConfigMap",
        short_names=("cm",),
    )

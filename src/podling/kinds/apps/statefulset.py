"""StatefulSet."""

from __future__ import annotations

from podling.api.resources import Resource, ScalePaths


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="StatefulSet",
        plural="statefulsets",
        singular="statefulset",
        namespaced=True,
        schema="io.k8s.api.apps.v1.StatefulSet",
        short_names=("sts",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
    )

"""ReplicaSet."""

from __future__ import annotations

from podling.api.resources import Resource, ScalePaths


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="ReplicaSet",
        plural="replicasets",
        singular="replicaset",
        namespaced=True,
        schema="io.k8s.api.apps.v1.ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
    )

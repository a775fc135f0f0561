"""ReplicationController."""

from __future__ import annotations

from podling.api.resources import Resource, ScalePaths


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ReplicationController",
        plural="replicationcontrollers",
        singular="replicationcontroller",
        namespaced=True,
        schema="io.k8s.api.core.v1.ReplicationController",
        short_names=("rc",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
    )

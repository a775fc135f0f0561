"""Node."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Node",
        plural="nodes",
        singular="node",
        namespaced=False,
        schema="io.k8s.api.core.v1.Node",
        short_names=("no",),
        status=True,
        subresources=("proxy",),
    )

"""RuntimeClass."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="node.k8s.io",
        version="v1",
        kind="RuntimeClass",
        plural="runtimeclasses",
        singular="runtimeclass",
        namespaced=False,
        schema="io.k8s.api.node.v1.RuntimeClass",
    )

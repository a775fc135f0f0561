"""FlowSchema."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="flowcontrol.apiserver.k8s.io",
        version="v1",
        kind="FlowSchema",
        plural="flowschemas",
        singular="flowschema",
        namespaced=False,
        schema="io.k8s.api.flowcontrol.v1.FlowSchema",
        status=True,
    )

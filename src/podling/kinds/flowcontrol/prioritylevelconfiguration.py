"""PriorityLevelConfiguration."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="flowcontrol.apiserver.k8s.io",
        version="v1",
        kind="PriorityLevelConfiguration",
        plural="prioritylevelconfigurations",
        singular="prioritylevelconfiguration",
        namespaced=False,
        schema="io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        status=True,
    )

"""PriorityClass."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="scheduling.k8s.io",
        version="v1",
        kind="PriorityClass",
        plural="priorityclasses",
        singular="priorityclass",
        namespaced=False,
        schema="io.k8s.api.scheduling.v1.PriorityClass",
        short_names=("pc",),
    )

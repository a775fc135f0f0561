"""ComponentStatus."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="ComponentStatus",
        plural="componentstatuses",
        singular="componentstatus",
        namespaced=False,
        schema="io.k8s.api.core.v1.ComponentStatus",
        short_names=("cs",),
        verbs=frozenset({"get", "list"}),
    )

"""Namespace."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Namespace",
        plural="namespaces",
        singular="namespace",
        namespaced=False,
        schema="io.k8s.api.core.v1.Namespace",
        short_names=("ns",),
        verbs=frozenset({"create", "delete", "get", "list", "patch", "update", "watch"}),
        status=True,
        subresources=("finalize",),
    )

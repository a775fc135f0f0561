"""Binding."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Binding",
        plural="bindings",
        singular="binding",
        namespaced=True,
        schema="io.k8s.api.core.v1.Binding",
        verbs=frozenset({"create"}),
    )

"""Ingress."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="Ingress",
        plural="ingresses",
        singular="ingress",
        namespaced=True,
        schema="io.k8s.api.networking.v1.Ingress",
        short_names=("ing",),
        status=True,
    )

"""NetworkPolicy."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="NetworkPolicy",
        plural="networkpolicies",
        singular="networkpolicy",
        namespaced=True,
        schema="io.k8s.api.networking.v1.NetworkPolicy",
        short_names=("netpol",),
    )

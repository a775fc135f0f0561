"""IPAddress."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="networking.k8s.io",
        version="v1",
        kind="IPAddress",
        plural="ipaddresses",
        singular="ipaddress",
        namespaced=False,
        schema="io.k8s.api.networking.v1.IPAddress",
        short_names=("ip",),
    )

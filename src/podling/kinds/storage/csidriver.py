"""CSIDriver."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="storage.k8s.io",
        version="v1",
        kind="CSIDriver",
        plural="csidrivers",
        singular="csidriver",
        namespaced=False,
        schema="io.k8s.api.storage.v1.CSIDriver",
    )

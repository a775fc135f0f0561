"""PersistentVolumeClaim."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="PersistentVolumeClaim",
        plural="persistentvolumeclaims",
        singular="persistentvolumeclaim",
        namespaced=True,
        schema="io.k8s.api.core.v1.PersistentVolumeClaim",
        short_names=("pvc",),
        status=True,
    )

"""PersistentVolume."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="PersistentVolume",
        plural="persistentvolumes",
        singular="persistentvolume",
        namespaced=False,
        schema="io.k8s.api.core.v1.PersistentVolume",
        short_names=("pv",),
        status=True,
    )

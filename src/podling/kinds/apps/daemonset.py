"""DaemonSet."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="DaemonSet",
        plural="daemonsets",
        singular="daemonset",
        namespaced=True,
        schema="io.k8s.api.apps.v1.DaemonSet",
        short_names=("ds",),
        categories=("all",),
        status=True,
    )

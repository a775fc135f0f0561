"""Deployment."""

from __future__ import annotations

from podling.api.resources import Resource, ScalePaths


def resource() -> Resource:
    return Resource(
        group="apps",
        version="v1",
        kind="Deployment",
        plural="deployments",
        singular="deployment",
        namespaced=True,
        schema="io.k8s.api.apps.v1.Deployment",
        short_names=("deploy",),
        categories=("all",),
        status=True,
        scale=ScalePaths(),
    )

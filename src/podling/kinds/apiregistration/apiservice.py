"""APIService."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="apiregistration.k8s.io",
        version="v1",
        kind="APIService",
        plural="apiservices",
        singular="apiservice",
        namespaced=False,
        schema="io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        categories=("api-extensions",),
        status=True,
    )

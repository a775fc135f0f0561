"""Job."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="batch",
        version="v1",
        kind="Job",
        plural="jobs",
        singular="job",
        namespaced=True,
        schema="io.k8s.api.batch.v1.Job",
        categories=("all",),
        status=True,
    )

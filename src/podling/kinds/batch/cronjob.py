"""CronJob."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="batch",
        version="v1",
        kind="CronJob",
        plural="cronjobs",
        singular="cronjob",
        namespaced=True,
        schema="io.k8s.api.batch.v1.CronJob",
        short_names=("cj",),
        categories=("all",),
        status=True,
    )

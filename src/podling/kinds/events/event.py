"""Event."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="events.k8s.io",
        version="v1",
        kind="Event",
        plural="events",
        singular="event",
        namespaced=True,
        schema="io.k8s.api.events.v1.Event",
        short_names=("ev",),
        storage="events",
    )

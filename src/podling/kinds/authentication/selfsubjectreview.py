"""SelfSubjectReview."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="authentication.k8s.io",
        version="v1",
        kind="SelfSubjectReview",
        plural="selfsubjectreviews",
        singular="selfsubjectreview",
        namespaced=False,
        schema="io.k8s.api.authentication.v1.SelfSubjectReview",
        verbs=frozenset({"create"}),
    )

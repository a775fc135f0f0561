"""TokenReview."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="authentication.k8s.io",
        version="v1",
        kind="TokenReview",
        plural="tokenreviews",
        singular="tokenreview",
        namespaced=False,
        schema="io.k8s.api.authentication.v1.TokenReview",
        verbs=frozenset({"create"}),
    )

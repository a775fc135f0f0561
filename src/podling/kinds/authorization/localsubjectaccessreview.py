"""LocalSubjectAccessReview."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="authorization.k8s.io",
        version="v1",
        kind="LocalSubjectAccessReview",
        plural="localsubjectaccessreviews",
        singular="localsubjectaccessreview",
        namespaced=True,
        schema="io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        verbs=frozenset({"create"}),
    )

"""SubjectAccessReview."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="authorization.k8s.io",
        version="v1",
        kind="SubjectAccessReview",
        plural="subjectaccessreviews",
        singular="subjectaccessreview",
        namespaced=False,
        schema="io.k8s.api.authorization.v1.SubjectAccessReview",
        verbs=frozenset({"create"}),
    )

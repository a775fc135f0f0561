"""SelfSubjectRulesReview."""

from __future__ import annotations

from podling.api.resources import Resource


def resource() -> Resource:
    return Resource(
        group="authorization.k8s.io",
        version="v1",
        kind="SelfSubjectRulesReview",
        plural="selfsubjectrulesreviews",
        singular="selfsubjectrulesreview",
        namespaced=False,
        schema="io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        verbs=frozenset({"create"}),
    )

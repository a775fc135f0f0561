"""The kinds of authorization.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.authorization import (
    localsubjectaccessreview,
    selfsubjectaccessreview,
    selfsubjectrulesreview,
    subjectaccessreview,
)


def resources() -> tuple[Resource, ...]:
    return (
        localsubjectaccessreview.resource(),
        selfsubjectaccessreview.resource(),
        selfsubjectrulesreview.resource(),
        subjectaccessreview.resource(),
    )

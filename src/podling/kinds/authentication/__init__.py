"""The kinds of authentication.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.authentication import selfsubjectreview, tokenreview


def resources() -> tuple[Resource, ...]:
    return (
        selfsubjectreview.resource(),
        tokenreview.resource(),
    )

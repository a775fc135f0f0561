"""The kinds of apiregistration.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.apiregistration import apiservice


def resources() -> tuple[Resource, ...]:
    return (apiservice.resource(),)

"""The kinds of discovery.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.discovery import endpointslice


def resources() -> tuple[Resource, ...]:
    return (endpointslice.resource(),)

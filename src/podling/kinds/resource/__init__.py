"""The kinds of resource.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.resource import deviceclass, resourceclaim, resourceclaimtemplate, resourceslice


def resources() -> tuple[Resource, ...]:
    return (
        deviceclass.resource(),
        resourceclaim.resource(),
        resourceclaimtemplate.resource(),
        resourceslice.resource(),
    )

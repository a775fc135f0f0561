"""The kinds of coordination.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.coordination import lease


def resources() -> tuple[Resource, ...]:
    return (lease.resource(),)

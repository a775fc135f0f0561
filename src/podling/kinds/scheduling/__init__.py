"""The kinds of scheduling.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.scheduling import priorityclass


def resources() -> tuple[Resource, ...]:
    return (priorityclass.resource(),)

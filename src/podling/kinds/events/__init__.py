"""The kinds of events.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.events import event


def resources() -> tuple[Resource, ...]:
    return (event.resource(),)

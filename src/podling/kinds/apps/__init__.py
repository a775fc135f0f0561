"""The kinds of apps."""

from podling.api.resources import Resource
from podling.kinds.apps import controllerrevision, daemonset, deployment, replicaset, statefulset


def resources() -> tuple[Resource, ...]:
    return (
        controllerrevision.resource(),
        daemonset.resource(),
        deployment.resource(),
        replicaset.resource(),
        statefulset.resource(),
    )

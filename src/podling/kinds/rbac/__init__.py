"""The kinds of rbac.authorization.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.rbac import clusterrole, clusterrolebinding, role, rolebinding


def resources() -> tuple[Resource, ...]:
    return (
        clusterrolebinding.resource(),
        clusterrole.resource(),
        rolebinding.resource(),
        role.resource(),
    )

"""The kinds of networking.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.networking import ingress, ingressclass, ipaddress, networkpolicy, servicecidr


def resources() -> tuple[Resource, ...]:
    return (
        ingressclass.resource(),
        ingress.resource(),
        ipaddress.resource(),
        networkpolicy.resource(),
        servicecidr.resource(),
    )

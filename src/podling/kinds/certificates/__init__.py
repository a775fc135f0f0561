"""The kinds of certificates.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.certificates import certificatesigningrequest


def resources() -> tuple[Resource, ...]:
    return (certificatesigningrequest.resource(),)

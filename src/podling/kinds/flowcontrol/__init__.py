"""The kinds of flowcontrol.apiserver.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.flowcontrol import flowschema, prioritylevelconfiguration


def resources() -> tuple[Resource, ...]:
    return (
        flowschema.resource(),
        prioritylevelconfiguration.resource(),
    )

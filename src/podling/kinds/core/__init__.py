"""The kinds of the core group."""

from podling.api.resources import Resource
from podling.kinds.core import (
    binding,
    componentstatus,
    configmap,
    endpoints,
    event,
    limitrange,
    namespace,
    node,
    persistentvolume,
    persistentvolumeclaim,
    pod,
    podtemplate,
    replicationcontroller,
    resourcequota,
    secret,
    service,
    serviceaccount,
)


def resources() -> tuple[Resource, ...]:
    return (
        binding.resource(),
        componentstatus.resource(),
        configmap.resource(),
        endpoints.resource(),
        event.resource(),
        limitrange.resource(),
        namespace.resource(),
        node.resource(),
        persistentvolumeclaim.resource(),
        persistentvolume.resource(),
        pod.resource(),
        podtemplate.resource(),
        replicationcontroller.resource(),
        resourcequota.resource(),
        secret.resource(),
        serviceaccount.resource(),
        service.resource(),
    )

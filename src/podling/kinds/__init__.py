"""The built-in kinds: what is served, and how each kind behaves on its way to the store."""

from podling.api.resources import Resource
from podling.kinds import (
    admissionregistration,
    apiextensions,
    apiregistration,
    apps,
    authentication,
    authorization,
    autoscaling,
    batch,
    certificates,
    coordination,
    core,
    discovery,
    events,
    flowcontrol,
    networking,
    node,
    policy,
    rbac,
    resource,
    scheduling,
    storage,
)


def builtin() -> tuple[Resource, ...]:
    """Every built-in resource, its groups in the order in which discovery lists them.

    Made anew on each call, because some kinds hold state for the registry that serves them (the addresses that
    services have taken); two registries in one process share nothing.
    """
    groups = (
        core,
        apiregistration,
        apps,
        events,
        authentication,
        authorization,
        autoscaling,
        batch,
        certificates,
        networking,
        policy,
        rbac,
        storage,
        admissionregistration,
        apiextensions,
        scheduling,
        coordination,
        node,
        discovery,
        resource,
        flowcontrol,
    )
    return tuple(resource for group in groups for resource in group.resources())

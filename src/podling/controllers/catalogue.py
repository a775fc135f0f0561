"""All controllers of a cluster, as kube-controller-manager runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podling.api.client import Client, EventRecorder
from podling.clock import Clock, SystemClock
from podling.controllers import (
    clusterroleaggregation,
    cronjob,
    csrapproving,
    csrcleaner,
    csrsigning,
    daemonset,
    disruption,
    endpoints,
    endpointslice,
    endpointslicemirroring,
    ephemeralvolumes,
    eventexpiry,
    flowschemas,
    garbagecollector,
    namespace,
    nodelifecycle,
    podgc,
    provisioner,
    pvcprotection,
    replicaset,
    resourcequota,
    serviceaccount,
    serviceranges,
    statefulset,
    tainteviction,
    tokens,
    ttl,
    volumebinder,
)
from podling.controllers.deployment import controller as deployment
from podling.controllers.disk import Disk
from podling.controllers.hpa import controller as hpa
from podling.controllers.hpa.metrics import Metrics, NoMetrics
from podling.controllers.job import controller as job
from podling.controllers.runtime import Controller, Decisions, Manager, Stopwatch, standing_still
from podling.controllers.snapshots import binding, defaultclass, making, protection
from podling.controllers.vpa import controller as vpa
from podling.controllers.vpa.usage import Measure, NoMeasure
from podling.layout import NODE_GRACE


def all_controllers(
    *,
    root_ca: str,
    metrics: Metrics | None = None,
    usage: Measure | None = None,
    sign_token: tokens.Sign | None = None,
    signers: Mapping[str, csrsigning.Signer] | None = None,
    approve: csrapproving.Approve | None = None,
    node_grace: float = NODE_GRACE,
    disk: Disk | None = None,
) -> list[Controller]:
    """`root_ca` is the cluster's certificate authority in PEM; `metrics` what horizontal autoscalers ask,
    `usage` what vertical ones do.

    Without `sign_token` token secrets stay empty, without `signers` and `approve` certificate requests wait for others,
    without `disk` volumes are made by others only.
    """
    optional: list[Controller] = []
    if sign_token is not None:
        optional.append(tokens.controller(sign_token, root_ca))
    if signers:
        optional.append(csrsigning.controller(signers))
    if approve is not None:
        optional.append(csrapproving.controller(approve))
    if disk is not None:
        optional.extend(provisioner.controllers(disk))
        optional.append(making.controller(disk, provisioner.NAME))
        optional.append(defaultclass.controller(provisioner.NAME))
    return [
        *optional,
        namespace.controller(),
        serviceaccount.default_account(),
        serviceaccount.root_ca_publisher(root_ca),
        garbagecollector.controller(),
        deployment.controller(),
        replicaset.controller(replicaset.REPLICA_SET),
        replicaset.controller(replicaset.REPLICATION_CONTROLLER),
        statefulset.controller(),
        daemonset.controller(),
        job.controller(),
        cronjob.controller(),
        ttl.controller(),
        disruption.controller(),
        disruption.stale_conditions(),
        hpa.controller(metrics or NoMetrics()),
        vpa.controller(usage or NoMeasure()),
        resourcequota.controller(),
        ephemeralvolumes.controller(),
        volumebinder.claim_binder(),
        volumebinder.volume_phases(),
        binding.controller(),
        protection.controller(),
        pvcprotection.claim_protection(),
        pvcprotection.volume_protection(),
        pvcprotection.class_protection(),
        clusterroleaggregation.controller(),
        csrcleaner.controller(),
        endpointslice.controller(),
        endpoints.controller(),
        endpointslicemirroring.controller(),
        nodelifecycle.controller(node_grace),
        tainteviction.controller(),
        podgc.controller(),
        eventexpiry.controller(),
        flowschemas.controller(),
        flowschemas.levels(),
        serviceranges.ranges(),
        serviceranges.addresses(),
    ]


def start(
    *,
    clients: Callable[[str], Client],
    recorders: Callable[[str], EventRecorder],
    root_ca: str,
    metrics: Metrics | None = None,
    usage: Measure | None = None,
    sign_token: tokens.Sign | None = None,
    signers: Mapping[str, csrsigning.Signer] | None = None,
    approve: csrapproving.Approve | None = None,
    node_grace: float = NODE_GRACE,
    disk: Disk | None = None,
    clock: Clock | None = None,
    decisions: Decisions | None = None,
    stopwatch: Stopwatch = standing_still,
) -> Manager:
    """Starts every controller on the running event loop; `await manager.stop()` ends them.

    `clients` gives a client that writes as the named user; `recorders` an event recorder of the named component.
    """
    manager = Manager(
        all_controllers(
            root_ca=root_ca,
            metrics=metrics,
            usage=usage,
            sign_token=sign_token,
            signers=signers,
            approve=approve,
            disk=disk,
            node_grace=node_grace,
        ),
        clients=clients,
        recorders=recorders,
        clock=clock or SystemClock(),
        decisions=decisions,
        stopwatch=stopwatch,
    )
    manager.start()
    return manager

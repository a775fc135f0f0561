"""Who may play in a transcript, by the names that its first line uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fakecluster import FakeCluster
from meter import Meter

from podling.api.resources import Resource, ScalePaths, User, Write
from podling.controllers import (
    clusterroleaggregation,
    cronjob,
    daemonset,
    disruption,
    endpoints,
    endpointslice,
    endpointslicemirroring,
    ephemeralvolumes,
    garbagecollector,
    namespace,
    nodelifecycle,
    podgc,
    provisioner,
    pvcprotection,
    replicaset,
    resourcequota,
    serviceaccount,
    statefulset,
    tainteviction,
    ttl,
    volumebinder,
)
from podling.controllers.deployment import controller as deployment
from podling.controllers.hpa import controller as hpa
from podling.controllers.job import controller as job
from podling.controllers.runtime import Controller
from podling.controllers.snapshots import binding, making, protection
from podling.controllers.vpa import controller as vpa
from podling.controllers.vpa.admission import VpaAdmission
from podling.store.types import Object


def _served(
    kind: str, plural: str, group: str = "", *, namespaced: bool = True, scale: ScalePaths | None = None
) -> Resource:
    return Resource(
        group=group,
        version="v1",
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        namespaced=namespaced,
        schema=kind,
        scale=scale,
    )


SERVED = [
    _served("Pod", "pods"),
    _served("ConfigMap", "configmaps"),
    _served("Service", "services"),
    _served("ServiceAccount", "serviceaccounts"),
    _served("Deployment", "deployments", "apps", scale=ScalePaths()),
    _served("ReplicaSet", "replicasets", "apps", scale=ScalePaths()),
    _served("StatefulSet", "statefulsets", "apps", scale=ScalePaths()),
    _served("DaemonSet", "daemonsets", "apps"),
    _served("ControllerRevision", "controllerrevisions", "apps"),
    _served("Job", "jobs", "batch"),
    _served("PersistentVolumeClaim", "persistentvolumeclaims"),
    _served("VerticalPodAutoscaler", "verticalpodautoscalers", "autoscaling.k8s.io"),
    _served("VerticalPodAutoscalerCheckpoint", "verticalpodautoscalercheckpoints", "autoscaling.k8s.io"),
    _served("Node", "nodes", namespaced=False),
    _served("Namespace", "namespaces", namespaced=False),
    _served("VolumeSnapshot", "volumesnapshots", "snapshot.storage.k8s.io"),
    _served("VolumeSnapshotContent", "volumesnapshotcontents", "snapshot.storage.k8s.io", namespaced=False),
    _served("VolumeSnapshotClass", "volumesnapshotclasses", "snapshot.storage.k8s.io", namespaced=False),
]


class MemoryDisk:
    """A disk that is never full and never written to, with a snapshot that was there before."""

    async def make(self, volume: str) -> str:
        return f"/volumes/{volume}"

    async def clone(self, volume: str, source: str) -> str:
        return f"/volumes/{volume} like {source}"

    async def restore(self, volume: str, snapshot: str) -> str:
        return f"/volumes/{volume} from {snapshot}"

    async def remove(self, volume: str) -> None:
        pass

    async def snapshot(self, snapshot: str, volume: str) -> None:
        pass

    async def has_snapshot(self, snapshot: str) -> bool:
        return snapshot == "earlier"

    async def remove_snapshot(self, snapshot: str) -> None:
        pass


CAST: dict[str, Callable[[], Controller]] = {
    "deployment": deployment.controller,
    "replicaset": replicaset.controller,
    "replication": lambda: replicaset.controller(replicaset.REPLICATION_CONTROLLER),
    "endpointslice": endpointslice.controller,
    "endpoints": endpoints.controller,
    "mirroring": endpointslicemirroring.controller,
    "namespace": namespace.controller,
    "serviceaccount": serviceaccount.default_account,
    "rootca": lambda: serviceaccount.root_ca_publisher("PEM"),
    "garbage": garbagecollector.controller,
    "nodes": nodelifecycle.controller,
    "taints": tainteviction.controller,
    "podgc": podgc.controller,
    "statefulset": statefulset.controller,
    "job": job.controller,
    "cronjob": cronjob.controller,
    "ttl": ttl.controller,
    "disruption": disruption.controller,
    "doomed": disruption.stale_conditions,
    "quota": resourcequota.controller,
    "ephemeral": ephemeralvolumes.controller,
    "claims": volumebinder.claim_binder,
    "volumes": volumebinder.volume_phases,
    "provisioner": lambda: provisioner.claims(MemoryDisk()),
    "reclaimer": lambda: provisioner.volumes(MemoryDisk()),
    "snapshots": binding.controller,
    "snapshotter": lambda: making.controller(MemoryDisk(), provisioner.NAME),
    "sourceprotection": protection.controller,
    "claimprotection": pvcprotection.claim_protection,
    "volumeprotection": pvcprotection.volume_protection,
    "aggregation": clusterroleaggregation.controller,
    "daemonset": daemonset.controller,
}


def cast(names: Iterable[str], meter: Meter) -> list[Controller]:
    """Those who are named; autoscalers read `meter`."""
    present = {**CAST, "hpa": lambda: hpa.controller(meter), "vpa": lambda: vpa.controller(meter)}
    return [present[name]() for name in names]


def admission(cluster: FakeCluster) -> Callable[[str, Object], Object]:
    """New pods get what their vertical autoscaler recommends."""
    plugin = VpaAdmission(cluster)
    pods = next(resource for resource in SERVED if resource.plural == "pods")

    def admit(resource: str, obj: Object) -> Object:
        if resource != "pods":
            return obj
        user, now = User("test", ()), cluster.clock.now()
        write = Write(resource=pods, operation="CREATE", new=obj, old=None, user=user, reader=cluster, now=now)
        plugin(write)
        return write.new

    return admit

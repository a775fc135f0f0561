"""The Node object of a node of this machine and its lease: what the scheduler and `kubectl get nodes` see."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from podling.api import meta
from podling.api.client import Client, EventRecorder
from podling.api.errors import ApiError
from podling.node.amounts import whole
from podling.node.capacity import MEMORY_RESERVE
from podling.store.types import Object

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
LEASE_EVERY = 10.0
STATUS_EVERY = 300.0
NEWS_EVERY = 10.0
"""How often it is looked whether the status is as it was reported (the kubelet's nodeStatusUpdateFrequency)."""
POD_LIMIT = 110
KUBELET_PORT = 10250
DISK_SHARE = 0.9
"""Of the disk; the default threshold is `nodefs.available<10%`."""
IMAGES_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine is and has."""

    cpus: int
    memory: int
    """Bytes, as is `disk`."""
    disk: int
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str


def inspect_machine(directory: Path) -> Machine:
    """Of the machine that this process runs on; `directory` is where pods' files will lie."""
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        disk=shutil.disk_usage(directory).total,
        architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=_first_line("/etc/machine-id"),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
    )


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def capacity(machine: Machine, nodes: int = 1, given: Mapping[str, str] = {}) -> dict[str, str]:
    """Of one of so many nodes of the machine: an equal part, so that together they promise no more than there is.

    `given` is what the owner of the cluster wants a node to have instead.
    """
    millicores = machine.cpus * 1000 // nodes
    part = {
        "cpu": f"{millicores}m" if millicores % 1000 else str(millicores // 1000),
        "ephemeral-storage": f"{machine.disk // nodes // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "memory": f"{machine.memory // nodes // 1024}Ki",
        "pods": str(POD_LIMIT),
    }
    return {**part, **given}


def allocatable(capacity: Mapping[str, str]) -> dict[str, str]:
    """What of it is for pods."""
    disk, memory = whole(capacity["ephemeral-storage"]), whole(capacity["memory"])
    return {
        **capacity,
        "ephemeral-storage": str(int(disk * DISK_SHARE)),
        "memory": f"{max(0, memory - MEMORY_RESERVE) // 1024}Ki",
    }


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How the node calls itself."""

    name: str
    ip: str
    pod_cidr: str
    version: str
    """Of Kubernetes, as `kubeletVersion`."""
    runtime: str
    """`containerRuntimeVersion`: `podling://0.1.0`."""
    labels: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    taints: Sequence[Object] = ()


def node_object(settings: NodeSettings, machine: Machine) -> Object:
    """The object as it is registered, without status."""
    spec: Object = {"podCIDR": settings.pod_cidr, "podCIDRs": [settings.pod_cidr]}
    if settings.taints:
        spec["taints"] = list(settings.taints)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": settings.name,
            "labels": {**_standard_labels(settings.name, machine), **settings.labels},
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
    }


def _standard_labels(name: str, machine: Machine) -> dict[str, str]:
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }


_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


def node_status(
    node: Object,
    settings: NodeSettings,
    machine: Machine,
    capacity: Mapping[str, str],
    images: Sequence[Mapping[str, Any]],
    now: datetime,
) -> Object:
    """The status: pure. `images` are `{names, sizeBytes}`."""
    status: Object = {
        **meta.status(node),
        "capacity": dict(capacity),
        "allocatable": allocatable(capacity),
        "conditions": [_condition(node, entry, now) for entry in _CONDITIONS],
        "addresses": [
            {"type": "InternalIP", "address": settings.ip},
            {"type": "Hostname", "address": settings.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": _node_info(settings, machine),
    }
    if images:
        status["images"] = list(images)[:IMAGES_SHOWN]
    return status


def _condition(node: Object, entry: tuple[str, str, str, str], now: datetime) -> Object:
    type, value, reason, message = entry
    old = meta.condition(node, type)
    stays = old is not None and old.get("status") == value and old.get("lastTransitionTime")
    return {
        "type": type,
        "status": value,
        "lastHeartbeatTime": meta.timestamp(now),
        "lastTransitionTime": stays or meta.timestamp(now),
        "reason": reason,
        "message": message,
    }


def _node_info(settings: NodeSettings, machine: Machine) -> Object:
    """Nodes that are one machine pass for several: software knows machines apart by their id."""
    own = uuid5(NAMESPACE_DNS, f"{settings.name}.{machine.machine_id}")
    return {
        "machineID": own.hex,
        "systemUUID": str(own),
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel,
        "osImage": machine.os_image,
        "containerRuntimeVersion": settings.runtime,
        "kubeletVersion": settings.version,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    }


def lease_object(node: Object, now: datetime) -> Object:
    name = meta.name(node)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": LEASE_NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": meta.uid(node)}],
        },
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": meta.micro_timestamp(now),
        },
    }


class NodeReporter:
    """Registers the node, then keeps its status and its lease fresh."""

    def __init__(
        self,
        client: Client,
        recorder: EventRecorder,
        settings: NodeSettings,
        machine: Machine,
        capacity: Callable[[], Mapping[str, str]],
        images: Callable[[], Sequence[Mapping[str, Any]]],
        now: Callable[[], float],
        heartbeat: float = LEASE_EVERY,
    ) -> None:
        """`heartbeat`: seconds between renewals of the lease."""
        self._client = client
        self._recorder = recorder
        self._settings = settings
        self._machine = machine
        self._capacity = capacity
        self._images = images
        self._now = now
        self._heartbeat = heartbeat
        self._reported: Sequence[Mapping[str, Any]] = ()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when the node is registered and ready."""
        await self.register()
        await self._tell_start()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._repeat(self._heartbeat, self._renew_lease, at_once=True)),
            loop.create_task(self._repeat(STATUS_EVERY, self.report, at_once=False)),
            loop.create_task(self._repeat(NEWS_EVERY, self._report_news, at_once=False)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def register(self) -> None:
        """An existing object keeps what others gave it (cordon, labels, taints)."""
        wanted = node_object(self._settings, self._machine)
        present = self._client.get("nodes", "", self._settings.name)
        if present is None:
            await self._client.create("nodes", wanted)
        else:
            labels = {**meta.labels(present), **meta.metadata(wanted)["labels"]}
            if labels != meta.labels(present):
                await self._client.patch("nodes", "", self._settings.name, {"metadata": {"labels": labels}})
        await self.report()

    async def report(self) -> None:
        """Writes the status. A node that was deleted stays so until its kubelet is started again."""
        node = self._client.get("nodes", "", self._settings.name)
        if node is None:
            return
        self._reported = self._images()
        status = node_status(node, self._settings, self._machine, self._capacity(), self._reported, self._moment())
        await self._client.patch("nodes", "", self._settings.name, {"status": status}, subresource="status")

    async def _report_news(self) -> None:
        """Other images; or the node was given up meanwhile, as after the sleep of a laptop."""
        node = self._client.get("nodes", "", self._settings.name)
        if node is not None and (self._images() != self._reported or not meta.condition_is(node, "Ready")):
            await self.report()

    async def _tell_start(self) -> None:
        node = self._client.get("nodes", "", self._settings.name)
        if node is not None:
            self._recorder(node, "Normal", "Starting", "Starting kubelet.")
            self._recorder(node, "Normal", "NodeReady", f"Node {self._settings.name} status is now: NodeReady")

    async def _renew_lease(self) -> None:
        node = self._client.get("nodes", "", self._settings.name)
        if node is None:
            return
        wanted = lease_object(node, self._moment())
        present = self._client.get("leases.coordination.k8s.io", LEASE_NAMESPACE, self._settings.name)
        if present is None:
            await self._client.create("leases.coordination.k8s.io", wanted)
        else:
            renewed = {**present, "spec": {**meta.spec(present), **wanted["spec"]}}
            await self._client.update("leases.coordination.k8s.io", renewed)

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[None]], *, at_once: bool) -> None:
        if not at_once:
            await asyncio.sleep(seconds)
        while True:
            try:
                await work()
            except ApiError as error:
                log.warning("node %s: %s", self._settings.name, error)
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(seconds)

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

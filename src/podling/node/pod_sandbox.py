"""What a pod's containers share: its volumes, its address and its namespaces, from set-up to removal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from podling.api import meta
from podling.node import amounts
from podling.node.container import shares_process_namespace
from podling.node.local_pod import LocalPod
from podling.node.naming import host_name
from podling.node.state import Role, containers_of, part
from podling.node.surroundings import Surroundings
from podling.node.volumes import SetupError, Volumes
from podling.sandbox.client import SandboxError
from podling.sandbox.spec import Limits, PodSpec
from podling.store.types import Object, Uid

RETRY_FIRST = 0.5
RETRY_LAST = 122.0
"""Seconds between attempts to set up volumes and sandbox; doubled each time (kubelet's exponential back-off)."""
MOUNT_PATIENCE = 123.0
"""Seconds after which it is said that the pod's volumes are not there (kubelet's podAttachAndMountTimeout)."""


class PodSandbox:
    """`ready` while containers can be started in it."""

    def __init__(self, local: LocalPod, surroundings: Surroundings) -> None:
        self.ready = False
        self.limits = Limits()
        """Those of the pod's group, as far as this daemon has set them."""
        self.volumes = Volumes(surroundings.volumes_directory(local.uid), surroundings.client, surroundings.images)
        self._local = local
        self._with = surroundings
        self._stale = False
        self._try_now = asyncio.Event()

    # Setting up

    async def set_up(self, given_up: Callable[[], bool]) -> None:
        """Tried again until it succeeds or is given up, with longer and longer pauses."""
        pause, patience = RETRY_FIRST, self._with.clock.host() + MOUNT_PATIENCE
        while not given_up():
            try:
                await self._try_set_up()
                return
            except SetupError as error:
                self._local.tell("Warning", "FailedMount", str(error))
                if self._with.clock.host() >= patience:
                    patience = self._with.clock.host() + MOUNT_PATIENCE
                    self._local.tell("Warning", "FailedMount", _unmounted(error.volume))
            except (OSError, RuntimeError, SandboxError) as error:
                self._local.tell("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            self._try_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._try_now.wait()
            pause = min(pause * 2, RETRY_LAST)

    async def _try_set_up(self) -> None:
        local, network = self._local, self._with.network
        local.record.ip = self._with.host_ip if local.shares_network else network.allocate(local.uid)
        self._stale = False
        await self.volumes.set_up(local.context, self._with.clock.host())
        if any(slot.stale for slot in local.slots.values()):
            local.tell("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        local.record.sandbox = f"{local.uid}.{local.record.sandboxes}"
        local.record.sandboxes += 1
        local.save()
        spec = self._spec()
        self.limits = spec.get("limits", Limits())
        await self._with.sandbox.create_pod(spec)
        if not local.shares_network:
            await network.attach(local.record.ip, list(host_ports(local.pod, self._with.host_ip)))
        self.ready = True

    def _spec(self) -> PodSpec:
        pod, spec = self._local.pod, meta.spec(self._local.pod)
        result = PodSpec(
            id=self._local.record.sandbox,
            hostname=host_name(pod, self._with.node_name, self._with.network.cluster_domain),
            host_pid=bool(spec.get("hostPID")),
            host_ipc=bool(spec.get("hostIPC")),
            share_pid=shares_process_namespace(pod),
            cgroup=amounts.cgroup_path(pod),
            limits=amounts.pod_limits(self._local.granted),
        )
        if not self._local.shares_network:
            result["ip"] = self._local.record.ip
            result["gateway"] = self._with.network.gateway
        elif self._with.host_sandbox:
            result["network"] = self._with.host_sandbox
        sysctls = {entry["name"]: entry["value"] for entry in part(spec, "securityContext").get("sysctls") or ()}
        if sysctls:
            result["sysctls"] = sysctls
        return result

    # Volumes that show objects

    def outdated(self) -> None:
        """Something that volumes show may have changed: they are looked at again, at once while none are there."""
        self._stale = True
        self._try_now.set()

    async def refresh(self) -> None:
        """Writes again what has changed."""
        if not self._stale:
            return
        self._stale = False
        try:
            await self.volumes.set_up(self._local.context, self._with.clock.host())
        except SetupError as error:
            self._local.tell("Warning", "FailedMount", str(error))

    def next_renewal(self) -> float | None:
        """When a token is renewed: those live by the machine's time, as they are for programs that know no other."""
        moment = self.volumes.next_renewal()
        return None if moment is None else self._with.clock.of_host(moment)

    # End

    async def remove(self) -> None:
        """The volumes stay until `volumes.tear_down`."""
        local = self._local
        if local.record.sandbox:
            if not local.shares_network:
                await self._with.network.detach(local.record.ip)
            await self._with.sandbox.remove_pod(local.record.sandbox)
            local.record.sandbox = ""
        if not local.shares_network:
            self._with.network.release(local.uid)
        self.ready = False


def host_ports(pod: Object, host_ip: str) -> Iterator[tuple[str, int, int]]:
    """Protocol, port of the node, and the port of the pod that it leads to. Those of 127.0.0.1 lead from nowhere."""
    for container, role in containers_of(pod):
        for port in container.get("ports") or () if role in (Role.MAIN, Role.SIDECAR) else ():
            if port.get("hostPort") and port.get("hostIP") in (None, "", "0.0.0.0", host_ip):
                yield port.get("protocol", "TCP"), port["hostPort"], port["containerPort"]


def uid_of(sandbox: str) -> Uid:
    """The pod of a sandbox, by the sandbox's id."""
    return Uid(sandbox.rpartition(".")[0])


def _unmounted(volume: str) -> str:
    lists = f"unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[]"
    return f"Unable to attach or mount volumes: {lists}: context deadline exceeded"

"""Follows Services, EndpointSlices and Pods, and keeps the kernel, DNS and the host's ports as they say.

Changes are gathered until the loop has run everything that is ready, then made together: a rollout that changes a
hundred objects at once is one transaction in the kernel. The kernel is written here and now; the proxy process is told
by two tasks of its own, which send the newest state as fast as the proxy takes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from podling.api.client import Client, EventRecorder, Subscription
from podling.network.dns import ServiceNames
from podling.network.endpoints import PodStates, addresses, part, service_names, service_ports
from podling.network.hostports import HostPorts
from podling.network.layout import Layout
from podling.network.node_links import prepare_node
from podling.network.proxy_client import ProxyAway, ProxyClient
from podling.network.services import DataPlane, ServiceKey, ServicePort
from podling.network.slots import Backend
from podling.network.tables import Front
from podling.store.types import Change, ChangeType, Entry, Object

_log = logging.getLogger(__name__)

_SERVICE_LABEL = "kubernetes.io/service-name"
_COLLECT_AFTER = 2.0
_RETRY_AFTER = 1.0


class _PodState(StrEnum):
    LIVE = "live"
    LEAVING = "leaving"
    ENDED = "ended"


class Cluster:
    """What the watched objects say, by service (`namespace/name`). Methods return the services that they concern."""

    def __init__(self) -> None:
        self.services: dict[str, Object] = {}
        self.namespaces: set[str] = set()
        self._withdrawn: set[str] = set()
        self._slices: dict[str, dict[str, Object]] = {}
        self._addresses: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        self._pods: dict[str, tuple[str, _PodState]] = {}
        self._in_state: dict[_PodState, set[str]] = {state: set() for state in _PodState}
        """The addresses of pods by what has become of them."""

    def service_changed(self, change: Change) -> set[str]:
        key = f"{change.entry.key.namespace}/{change.entry.key.name}"
        if change.type is ChangeType.DELETED:
            self.services.pop(key, None)
        else:
            self.services[key] = change.entry.object
        return {key}

    def namespace_changed(self, change: Change) -> None:
        if change.type is ChangeType.DELETED:
            self.namespaces.discard(change.entry.key.name)
        else:
            self.namespaces.add(change.entry.key.name)

    def slice_changed(self, change: Change) -> set[str]:
        """A slice belongs to the service that its label names; the label may change."""
        before = _service_of(change.previous)
        after = _service_of(change.entry) if change.type is not ChangeType.DELETED else ""
        name = change.entry.key.name
        touched = {service for service in (before, after, _service_of(change.entry)) if service}
        for service in touched:
            slices = self._slices.setdefault(service, {})
            if service == after:
                slices[name] = change.entry.object
            else:
                slices.pop(name, None)
            self._note_users(service)
        return touched

    def _note_users(self, service: str) -> None:
        now = addresses(self.slices(service))
        before = self._addresses.pop(service, set[str]())
        for ip in before - now:
            self._users[ip].discard(service)
            if not self._users[ip]:
                del self._users[ip]
        for ip in now - before:
            self._users.setdefault(ip, set()).add(service)
        if now:
            self._addresses[service] = now
        if not self._slices[service]:
            del self._slices[service]

    def pod_changed(self, change: Change) -> set[str]:
        """Only the beginning and the end of a pod's leaving matter; the rest is in the slices.

        An address that a live pod reports is that pod's: what becomes of an earlier owner's object is of no account.
        """
        pod = change.entry.object
        ip: str = part(pod, "status").get("podIP") or ""
        if not ip or part(pod, "spec").get("hostNetwork"):
            return set()
        uid: str = pod["metadata"]["uid"]
        state = _state_of(pod, gone=change.type is ChangeType.DELETED)
        owner, before = self._pods.get(ip, (uid, _PodState.LIVE))
        if owner != uid and state is not _PodState.LIVE and before is not _PodState.ENDED:
            return set()
        self._in_state[before].discard(ip)
        self._pods[ip] = uid, state
        self._in_state[state].add(ip)
        return self.using(ip) if state is not before else set()

    def new_pod_at(self, ip: str) -> set[str]:
        """The address has a new owner: what was known of the old one is void."""
        self._withdrawn.discard(ip)
        known = self._pods.pop(ip, None)
        if known is not None:
            self._in_state[known[1]].discard(ip)
        return self.using(ip)

    def withdraw(self, ip: str) -> set[str]:
        self._withdrawn.add(ip)
        return self.using(ip)

    def admit(self, ip: str) -> set[str]:
        self._withdrawn.discard(ip)
        return self.using(ip)

    def using(self, ip: str) -> set[str]:
        """The services that have an endpoint with this address."""
        return set(self._users.get(ip, ()))

    def slices(self, service: str) -> list[Object]:
        return list(self._slices.get(service, {}).values())

    def pod_states(self) -> PodStates:
        leaving = self._in_state[_PodState.LEAVING] | self._withdrawn
        return PodStates(leaving=leaving, ended=self._in_state[_PodState.ENDED])


def _service_of(entry: Entry | None) -> str:
    name = part(entry.object["metadata"], "labels").get(_SERVICE_LABEL) if entry else None
    return f"{entry.key.namespace}/{name}" if entry and name else ""


def _state_of(pod: Object, *, gone: bool) -> _PodState:
    if gone or part(pod, "status").get("phase") in ("Succeeded", "Failed"):
        return _PodState.ENDED
    return _PodState.LEAVING if "deletionTimestamp" in pod["metadata"] else _PodState.LIVE


class ServiceProxy:
    """Services, DNS and host ports of one node. All methods belong to the event loop."""

    def __init__(
        self,
        client: Client,
        *,
        layout: Layout,
        record: EventRecorder,
        run_directory: Path,
        state_directory: Path,
        balances: bool = True,
    ) -> None:
        """`run_directory` holds the proxy's socket; `state_directory` is where host ports are remembered.

        `balances` says whether Services of type LoadBalancer get an address here.
        """
        self._client = client
        self._layout = layout
        self._cluster = Cluster()
        self._ports_of: dict[str, dict[ServiceKey, ServicePort]] = {}
        self._ports: dict[ServiceKey, ServicePort] = {}
        self._dirty: set[str] = set()
        self._scheduled: asyncio.Handle | None = None
        self._collection: asyncio.TimerHandle | None = None
        self._plane: DataPlane | None = None
        self._proxy = ProxyClient(run_directory)
        memory = state_directory / "host-ports.json"
        self._host_ports = HostPorts(client, self._proxy, record, memory, balances=balances)
        self._unnamed: set[str] = set()
        self._namespaces_told: set[str] = set()
        self._names_wanted = asyncio.Event()
        self._host_ports_wanted = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Takes over what the kernel holds from an earlier life, makes the difference, and follows the cluster."""
        prepare_node(self._layout)
        self._plane = DataPlane(self._layout)
        self._plane.load()
        for resource, handler in (
            ("namespaces", self._on_namespace),
            ("services", self._on_service),
            ("pods", self._on_pod),
            ("endpointslices.discovery.k8s.io", self._on_slice),
        ):
            self._subscriptions.append(self._client.subscribe(resource, handler))
        self._flush()
        work = (self._keep_connected, self._send_names, self._send_host_ports)
        self._tasks = [asyncio.create_task(_supervised(part)) for part in work]

    async def stop(self) -> None:
        """Leaves the kernel's tables and the proxy as they are: traffic flows on."""
        for subscription in self._subscriptions:
            subscription.close()
        for handle in (self._scheduled, self._collection):
            if handle is not None:
                handle.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._plane is not None:
            self._plane.close()

    # What the node says

    async def withdraw(self, ip: str) -> None:
        """Takes the address out of every service, now, and keeps it out until `admit`.

        When this returns no new connection through a service reaches it, unless nobody else serves: then it stays
        until another endpoint is ready or the pod has ended, as a terminating endpoint of Kubernetes does.
        """
        self._touch(self._cluster.withdraw(ip), now=True)

    async def admit(self, ip: str) -> None:
        """Lets the address back in, as far as EndpointSlices say that it is ready."""
        self._touch(self._cluster.admit(ip), now=True)

    async def attach(self, ip: str, host_ports: Mapping[Front, Backend] = {}) -> None:
        """A pod was made with this address, to which these ports of nodes lead."""
        self._kernel.attach(ip, host_ports)
        self._touch(self._cluster.new_pod_at(ip))

    async def detach(self, ip: str) -> None:
        """The pod with this address is gone."""
        self._kernel.detach(ip)

    def cut_off(self, cidrs: Iterable[str]) -> None:
        """Nothing reaches these nodes' pods any more, nor comes from them; those cut off before are reached again."""
        self._kernel.cut_off(cidrs)

    @property
    def _kernel(self) -> DataPlane:
        if self._plane is None:
            raise RuntimeError("the service proxy is not started")
        return self._plane

    # What the cluster says

    def _on_namespace(self, change: Change) -> None:
        self._cluster.namespace_changed(change)
        self._names_wanted.set()

    def _on_service(self, change: Change) -> None:
        self._touch(self._cluster.service_changed(change))
        self._host_ports_wanted.set()

    def _on_slice(self, change: Change) -> None:
        self._touch(self._cluster.slice_changed(change))

    def _on_pod(self, change: Change) -> None:
        self._touch(self._cluster.pod_changed(change))

    def _touch(self, services: Iterable[str], *, now: bool = False) -> None:
        self._dirty.update(services)
        if now:
            self._flush()
        elif self._dirty and self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Writes everything that changed into the kernel, and has DNS told."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        dirty, self._dirty = self._dirty, set()
        pods = self._cluster.pod_states()
        for name in dirty:
            self._refresh(name, pods)
        self._unnamed |= dirty
        self._names_wanted.set()
        try:
            self._kernel.apply(dict(self._ports))
            self._collect_later()
        except OSError:
            _log.exception("the kernel refused the service tables; trying again")
            self._scheduled = asyncio.get_running_loop().call_later(_RETRY_AFTER, self._flush)

    def _refresh(self, name: str, pods: PodStates) -> None:
        for key, port in self._ports_of.pop(name, {}).items():
            if self._ports.get(key) is port:  # the address may be another service's by now
                del self._ports[key]
        service = self._cluster.services.get(name)
        if service is None:
            return
        made = service_ports(service, self._cluster.slices(name), pods)
        ports = {ServiceKey(port.protocol, port.ip, port.port): port for port in made}
        own = {key: port for key, port in ports.items() if key.ip not in self._layout.local_ips}
        self._ports_of[name] = own
        self._ports.update(own)

    def _collect_later(self) -> None:
        if self._kernel.unused and self._collection is None:
            self._collection = asyncio.get_running_loop().call_later(_COLLECT_AFTER, self._collect)

    def _collect(self) -> None:
        self._collection = None
        try:
            self._kernel.collect()
        except OSError:
            _log.exception("the kernel kept chains that nothing leads to")
        self._collect_later()

    # What the proxy is told

    async def _keep_connected(self) -> None:
        await self._proxy.run(self._connected)

    async def _connected(self) -> None:
        """The proxy knows nothing, or things of an earlier life: tell it everything."""
        self._unnamed.clear()
        self._namespaces_told = set(self._cluster.namespaces)
        await self._proxy.replace_names(self._names(self._cluster.services), sorted(self._namespaces_told))
        await self._host_ports.connected()
        self._host_ports_wanted.set()

    def _names(self, services: Iterable[str]) -> dict[str, ServiceNames]:
        cluster, pods = self._cluster, self._cluster.pod_states()
        return {
            name: service_names(cluster.services[name], cluster.slices(name), pods)
            for name in services
            if name in cluster.services
        }

    async def _send_names(self) -> None:
        while True:
            await self._names_wanted.wait()
            self._names_wanted.clear()
            changed, self._unnamed = self._unnamed, set()
            namespaces = set(self._cluster.namespaces)
            known = self._names(changed)
            gone = sorted(changed - known.keys())
            told = sorted(namespaces) if namespaces != self._namespaces_told else None
            if not changed and told is None:
                continue
            try:
                await self._proxy.update_names(known, gone, told)
            except ProxyAway:
                continue  # it is told everything when it comes back
            self._namespaces_told = namespaces

    async def _send_host_ports(self) -> None:
        while True:
            await self._host_ports_wanted.wait()
            self._host_ports_wanted.clear()
            services = sorted(self._cluster.services.values(), key=_age)
            try:
                await self._host_ports.sync(services)
            except ProxyAway:
                continue
            except OSError:
                _log.exception("the host's ports could not be set up; trying again")
                asyncio.get_running_loop().call_later(_RETRY_AFTER, self._host_ports_wanted.set)


async def _supervised(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a task that has no end, and again when it failed."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001  a bug in one duty must not end it for good, nor the others
            _log.exception("%s failed; starting it again", work.__qualname__)
        await asyncio.sleep(_RETRY_AFTER)


def _age(service: Object) -> tuple[str, str]:
    metadata = service["metadata"]
    return metadata.get("creationTimestamp", ""), metadata["name"]

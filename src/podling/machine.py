"""This machine as several nodes: each a kubelet with an identity, capacity, addresses and a directory of its own.

What a machine has once stays once and is shared: zygote, service proxy, host ports, images. The first node is called as
the cluster's only one is, the others as kind calls them: people have those names in their fingers.

A node that is stopped is what a dead machine is to the others: its lease is not renewed, its processes do nothing, and
packets to and from it vanish. What becomes of its pods is for the controllers to decide, as on any cluster. It stays
stopped until it is started, or the cluster is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podling import KUBERNETES_VERSION, __version__
from podling.api import meta
from podling.api.client import Client, EventRecorder
from podling.api.errors import ApiError, conflict, not_found
from podling.clock import SystemClock
from podling.controllers import placing
from podling.images.runtime import NodeImages
from podling.layout import ClusterRecord, Layout, node_name, write_record, write_whole
from podling.metrics.usage import Usage
from podling.network.controller import ServiceProxy
from podling.network.layout import Layout as Addresses
from podling.network.pod_network import PodNetwork
from podling.node.naming import Resolver
from podling.node.node import Node
from podling.node.node_status import Machine, NodeReporter, NodeSettings, allocatable, capacity
from podling.node.nodes import Nodes
from podling.node.pod_sandbox import uid_of
from podling.node.surroundings import Surroundings
from podling.sandbox.client import Sandbox, SandboxError
from podling.store.types import Object

NAMED_IN_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class Shared:
    """What all nodes of the machine work with."""

    machine: Machine
    layout: Layout
    addresses: Addresses
    clients: Callable[[str], Client]
    """Of a kubelet, by its user."""
    recorders: Callable[[str], EventRecorder]
    """Of a kubelet, by its node."""
    services: ServiceProxy
    sandbox: Sandbox
    images: NodeImages
    host_resolver: Resolver
    heartbeat: float
    """Seconds between renewals of a node's lease."""
    clock: SystemClock


class VirtualNode:
    """One of them. `capacity` and `nodes` (all kubelets that run) are asked whenever they matter."""

    def __init__(self, number: int, name: str, shared: Shared, capacity: Callable[[], Mapping[str, str]], nodes: Nodes):
        self.name = name
        self.cidr = shared.addresses.node_cidr(number)
        self.directory = shared.layout.nodes / name
        self._number = number
        self._with = shared
        self._capacity = capacity
        self._nodes = nodes
        self._client = shared.clients(f"system:node:{name}")
        self._recorder = shared.recorders(name)
        self._ip = shared.addresses.node_ip(number)
        self._host = "" if self._ip == shared.addresses.gateway else f"{name}.host"
        self.reporter = self._new_reporter()
        self.node: Node | None = None

    def _new_reporter(self) -> NodeReporter:
        settings = NodeSettings(
            name=self.name,
            ip=self._ip,
            pod_cidr=self.cidr,
            version=KUBERNETES_VERSION,
            runtime=f"podling://{__version__}",
        )
        shared = self._with
        return NodeReporter(
            self._client,
            self._recorder,
            settings,
            shared.machine,
            self._capacity,
            shared.images.listing,
            shared.clock.seconds,
            shared.heartbeat,
        )

    def _new_node(self) -> Node:
        shared = self._with
        return Node(
            Surroundings(
                client=self._client,
                recorder=self._recorder,
                sandbox=shared.sandbox,
                network=PodNetwork(shared.addresses, shared.services, self._number),
                images=shared.images,
                directory=self.directory,
                node_name=self.name,
                host_ip=self._ip,
                host_sandbox=self._host,
                allocatable=lambda: allocatable(self._capacity()),
                host_resolver=shared.host_resolver,
                neighbours=lambda: self._nodes.pods_beside(self.name),
                clock=shared.clock,
                new_id=lambda: secrets.token_hex(32),
                matches_node=placing.matches_node,
            )
        )

    async def start(self) -> None:
        """Adopts what runs, and reports."""
        (self.directory / "pods").mkdir(parents=True, exist_ok=True, mode=0o700)
        self.node = self._new_node()
        self._nodes.add(self.name, self.node)
        await self.node.start()
        await self.reporter.start()

    async def stop(self) -> None:
        """The kubelet ends; containers go on."""
        self._nodes.remove(self.name)
        await self.reporter.stop()
        if self.node is not None:
            await self.node.stop()
            self.node = None

    async def set_frozen(self, frozen: bool) -> None:
        """Stops or continues every container."""
        own = {directory.name for directory in (self.directory / "pods").glob("*")}
        for state in await self._with.sandbox.containers():
            if uid_of(state["pod"]) in own and "exit_code" not in state:
                with contextlib.suppress(SandboxError):  # it has ended meanwhile
                    await self._with.sandbox.freeze(state["id"], frozen)

    async def remove(self) -> None:
        """For good, after its pods."""
        if self.node is not None:
            await self.node.drained()
        await self.stop()
        if self._host:
            await self._with.sandbox.remove_pod(self._host)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)


class Fleet:
    """All nodes of the machine. Its operations are done one after the other, and raise `ApiError`."""

    def __init__(self, record: ClusterRecord, shared: Shared, nodes: Nodes, usage: Usage, admin: Client) -> None:
        """`record` is written when the number of nodes or their capacity changes."""
        self._record = record
        self._with = shared
        self._nodes = nodes
        self._usage = usage
        self._admin = admin
        self._memory = shared.layout.stopped_nodes
        self._fleet = [self._new(number) for number in range(record.get("nodes", 1))]
        self._stopped = _recall(self._memory)
        self._turn = asyncio.Lock()

    def _new(self, number: int) -> VirtualNode:
        return VirtualNode(number, node_name(self._record, number), self._with, self._capacity, self._nodes)

    def _capacity(self) -> dict[str, str]:
        record = self._record
        return capacity(self._with.machine, record.get("nodes", 1), record.get("node_capacity", {}))

    @property
    def states(self) -> list[tuple[str, bool]]:
        """The nodes by number: name, and whether it runs."""
        return [(node.name, node.name not in self._stopped) for node in self._fleet]

    async def start(self) -> None:
        """All but those that were stopped: a new daemon leaves them so."""
        self._cut_off()
        await asyncio.gather(*(self._resume(node) for node in self._fleet))

    async def _resume(self, node: VirtualNode) -> None:
        if node.name in self._stopped:
            await node.set_frozen(True)
        else:
            await self._begin(node)

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self._fleet))

    async def _begin(self, node: VirtualNode) -> None:
        await node.start()
        if node.node is not None:
            self._usage.add(node.name, node.node)

    # One node fails and comes back

    async def stop_node(self, name: str) -> None:
        """As a machine dies: at once, and without a word."""
        async with self._turn:
            node = self._find(name)
            self._remember({*self._stopped, name})
            self._cut_off()
            self._usage.remove(name)
            await node.stop()
            await node.set_frozen(True)

    async def start_node(self, name: str) -> None:
        """Its kubelet finds out what was decided about its pods meanwhile. One that runs is registered if it is not."""
        async with self._turn:
            await self._start(self._find(name))

    async def _start(self, node: VirtualNode) -> None:
        if node.name not in self._stopped:
            await node.reporter.register()
            return
        await node.set_frozen(False)
        self._remember(self._stopped - {node.name})
        self._cut_off()
        await self._begin(node)

    def _find(self, name: str) -> VirtualNode:
        found = next((node for node in self._fleet if node.name == name), None)
        if found is None:
            raise not_found("nodes", "", name)
        return found

    def _remember(self, stopped: set[str]) -> None:
        self._stopped = stopped
        write_whole(self._memory, json.dumps(sorted(stopped)))

    def _cut_off(self) -> None:
        self._with.services.cut_off([node.cidr for node in self._fleet if node.name in self._stopped])

    # More nodes, or fewer

    async def resize(self, count: int, given: Mapping[str, str] | None) -> None:
        """To so many nodes, and another capacity of each if one is given. Refused where it would end a pod."""
        async with self._turn:
            surplus = self._fleet[count:]
            self._check_removal(surplus, self._fleet[:count])
            for node in reversed(surplus):
                await self._remove(node)
            added = [self._new(number) for number in range(len(self._fleet), count)]
            self._fleet += added
            self._record["nodes"] = count
            if given is not None:
                self._record["node_capacity"] = dict(given)
            write_record(self._with.layout, self._record)
            await asyncio.gather(*(self._begin(node) for node in added))
            await asyncio.gather(*(node.reporter.report() for node in self._fleet if node.name not in self._stopped))

    def _check_removal(self, doomed: Sequence[VirtualNode], kept: Sequence[VirtualNode]) -> None:
        present = [self._admin.get("nodes", "", node.name) for node in kept]
        remaining = [node for node in present if node is not None]
        pods, volumes = self._admin.list("pods"), self._admin.list("persistentvolumes")
        for node in doomed:
            why = keeps_from_removal(node.name, self._admin.get("nodes", "", node.name), remaining, pods, volumes)
            if why is not None:
                raise conflict("nodes", "", node.name, why)

    async def _remove(self, node: VirtualNode) -> None:
        """The object first, so that nothing is placed there any more; then what is left of pods."""
        if node.name in self._stopped:
            await self._start(node)
        self._usage.remove(node.name)
        await node.reporter.stop()
        await self._delete("nodes", "", node.name)
        for pod in _pods_of(node.name, self._admin.list("pods")):
            await self._delete("pods", meta.namespace(pod), meta.name(pod), uid=meta.uid(pod), grace_seconds=0)
        await node.remove()
        self._fleet.remove(node)

    async def _delete(
        self, resource: str, namespace: str, name: str, *, uid: str | None = None, grace_seconds: int | None = None
    ) -> None:
        try:
            await self._admin.delete(resource, namespace, name, uid=uid, grace_seconds=grace_seconds)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):  # gone, or another object of that name by now
                raise


def _recall(memory: Path) -> set[str]:
    try:
        return set(json.loads(memory.read_text()))
    except (OSError, ValueError):
        return set()


def _pods_of(node: str, pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if meta.spec(pod).get("nodeName") == node]


def keeps_from_removal(
    name: str, node: Object | None, others: Sequence[Object], pods: Iterable[Object], volumes: Iterable[Object]
) -> str | None:
    """Why a node cannot be taken away without loss: pods that nobody moved, or data that only it can reach. Pure."""
    running = [f"{meta.namespace(p)}/{meta.name(p)}" for p in _pods_of(name, pods) if _is_in_the_way(p)]
    if running:
        move = f"kubectl drain {name} --ignore-daemonsets --delete-emptydir-data"
        return f"pods run on it ({_some(running)}); move them first: {move}"
    kept = [meta.name(v) for v in volumes if node is not None and _is_only_there(v, node, others)]
    return f"volumes lie on it ({_some(kept)}); delete their claims first" if kept else None


def _is_in_the_way(pod: Object) -> bool:
    """Neither ended, nor one that every node has."""
    owner = meta.controller_reference(pod) or {}
    return owner.get("kind") != "DaemonSet" and meta.status(pod).get("phase") not in ("Succeeded", "Failed")


def _is_only_there(volume: Object, node: Object, others: Sequence[Object]) -> bool:
    required = meta.part(volume, "spec", "nodeAffinity").get("required")
    if required is None or not placing.matches_node_selector(required, node):
        return False
    return not any(placing.matches_node_selector(required, other) for other in others)


def _some(names: Collection[str]) -> str:
    first = sorted(names)[:NAMED_IN_REFUSALS]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")

"""What a node needs of the network for its pods, as one thing: addresses, and their place behind services."""

from __future__ import annotations

from collections.abc import Sequence

from podling.network.addresses import PodAddresses
from podling.network.controller import ServiceProxy
from podling.network.layout import Layout
from podling.network.slots import Backend
from podling.network.tables import Front


class PodNetwork:
    """Fits `podling.node.interfaces.Network`."""

    def __init__(self, layout: Layout, services: ServiceProxy, node: int) -> None:
        """`node` is its number: see `Layout`."""
        self._layout = layout
        self._services = services
        self._addresses = PodAddresses(layout.node_cidr(node), reserved=[layout.node_ip(node)])
        self._node_ip = layout.node_ip(node)

    @property
    def gateway(self) -> str:
        return self._layout.gateway

    @property
    def nameservers(self) -> Sequence[str]:
        return [self._layout.dns_ip]

    @property
    def cluster_domain(self) -> str:
        return self._layout.domain

    def allocate(self, pod_uid: str) -> str:
        return self._addresses.allocate(pod_uid)

    def restore(self, pod_uid: str, ip: str) -> None:
        self._addresses.restore(pod_uid, ip)

    def release(self, pod_uid: str) -> None:
        self._addresses.release(pod_uid)

    async def attach(self, ip: str, host_ports: Sequence[tuple[str, int, int]] = ()) -> None:
        ports = {Front(protocol, self._node_ip, port): Backend(ip, target) for protocol, port, target in host_ports}
        await self._services.attach(ip, ports)

    async def detach(self, ip: str) -> None:
        await self._services.detach(ip)

    async def withdraw(self, ip: str) -> None:
        await self._services.withdraw(ip)

    async def admit(self, ip: str) -> None:
        await self._services.admit(ip)

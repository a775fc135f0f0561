"""The fixed addresses of a cluster's network.

A node has a /24 of the pods' network, as most clusters give it, whose first address is the node's own. That of the
first node is the machine's as well: the gateway of all pods, behind which the API server and DNS are.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

NODE_PREFIX = 24


@dataclass(frozen=True, slots=True)
class Layout:
    """Where pods, services and nodes are. All IPv4."""

    pod_cidr: str = "10.244.0.0/16"
    """Of all nodes."""
    service_cidr: str = "10.96.0.0/16"
    gateway: str = "10.244.0.1"
    """The first node's own address, first hop of every pod."""
    dns_ip: str = "10.96.0.10"
    api_ip: str = "10.96.0.1"
    """`kubernetes.default`."""
    domain: str = "cluster.local"
    egress_port: int = 15001
    """Port on the gateway to which TCP connections that leave the cluster are led; 0: they are rejected."""

    def node_cidr(self, number: int) -> str:
        """Where the pods of a node are; the first node is number 0."""
        base = IPv4Network(self.pod_cidr).network_address
        return str(IPv4Network((base + (number << 32 - NODE_PREFIX), NODE_PREFIX)))

    def node_ip(self, number: int) -> str:
        return str(IPv4Network(self.node_cidr(number)).network_address + 1)

    @property
    def local_ips(self) -> tuple[str, ...]:
        """Service addresses that the node itself answers: never translated, never rejected."""
        return (self.api_ip, self.dns_ip)

"""The fixed addresses of a cluster's network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Where pods, services and the node itself are. All IPv4."""

    pod_cidr: str = "10.244.0.0/24"
    service_cidr: str = "10.96.0.0/16"
    gateway: str = "10.244.0.1"
    """The node's own address, first hop of every pod."""
    dns_ip: str = "10.96.0.10"
    api_ip: str = "10.96.0.1"
    """`kubernetes.default`."""
    domain: str = "cluster.local"
    egress_port: int = 15001
    """Port on the gateway to which TCP connections that leave the cluster are led; 0: they are rejected."""

    @property
    def local_ips(self) -> tuple[str, ...]:
        """Service addresses that the node itself answers: never translated, never rejected."""
        return (self.api_ip, self.dns_ip)

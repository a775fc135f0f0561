"""What Services and EndpointSlices say, as the data plane and DNS need it. Pure.

Which endpoints take traffic is kube-proxy's rule (KEP-1669): those that are ready; if there is none, those that are
terminating but still serve. On one machine more is known than slices tell in time, and it is used here: a pod that was
withdrawn, or whose deletion has begun, counts as terminating from that moment, and a pod that has ended takes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from podling.network.dns import EndpointGroup, PortNames, ServiceNames
from podling.network.services import ServicePort
from podling.network.slots import Backend
from podling.store.types import Object

_PROTOCOLS = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True, slots=True)
class PodStates:
    """What is known of pods' addresses beside the slices."""

    leaving: Set[str] = frozenset()
    """Withdrawn, or their deletion has begun: used only where nobody else serves."""
    ended: Set[str] = frozenset()
    """Never used."""


def part(obj: Object, name: str) -> Object:
    """A field that holds an object; {} when it is absent or null."""
    return obj.get(name) or {}


def cluster_ips(service: Object) -> list[str]:
    """The service's IPv4 cluster addresses; [] for a headless service or an external name."""
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return []
    ips: list[str] = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
    return [ip for ip in ips if ip and ip != "None" and ":" not in ip]


def service_ports(service: Object, slices: Iterable[Object], pods: PodStates) -> list[ServicePort]:
    """The service's ports with their backends; [] for services without an address of their own."""
    spec = service["spec"]
    slices = [piece for piece in slices if piece.get("addressType") == "IPv4"]
    external = tuple(ip for ip in spec.get("externalIPs") or () if ":" not in ip)
    affinity = _affinity_seconds(spec)
    made: list[ServicePort] = []
    for ip in cluster_ips(service):
        for port in spec.get("ports") or ():
            protocol = port.get("protocol", "TCP")
            if protocol not in _PROTOCOLS:
                continue
            backends = _backends(slices, port.get("name") or "", protocol, pods)
            made.append(
                ServicePort(
                    protocol, ip, port["port"], backends, external, port.get("nodePort") or 0, affinity
                )
            )  # fmt: skip
    return made


def _affinity_seconds(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    return part(part(spec, "sessionAffinityConfig"), "clientIP").get("timeoutSeconds") or 10800


def _backends(slices: Sequence[Object], name: str, protocol: str, pods: PodStates) -> tuple[Backend, ...]:
    """Sorted, so that equal endpoints are an equal value whatever slices they come from."""
    ready: set[Backend] = set()
    last: set[Backend] = set()
    for piece in slices:
        for port in piece.get("ports") or ():
            if (port.get("name") or "") != name or port.get("protocol", "TCP") != protocol or not port.get("port"):
                continue
            for endpoint in piece.get("endpoints") or ():
                _sort_in(endpoint, port["port"], pods, ready, last)
    return tuple(sorted(ready or last))


def _sort_in(endpoint: Object, port: int, pods: PodStates, ready: set[Backend], last: set[Backend]) -> None:
    """Puts the endpoint's addresses among those that are ready, or those to be used when none is."""
    conditions = part(endpoint, "conditions")
    is_ready = _is_ready(conditions)
    serves = conditions.get("serving", is_ready) is not False
    terminates = bool(conditions.get("terminating"))
    for ip in endpoint.get("addresses") or ():
        leaving = ip in pods.leaving
        if ip in pods.ended:
            continue
        if is_ready and not leaving:
            ready.add(Backend(ip, port))
        elif serves and (terminates or leaving):
            last.add(Backend(ip, port))


def _is_ready(conditions: Object) -> bool:
    """Unknown counts as ready (EndpointConditions)."""
    return conditions.get("ready") is not False


def service_names(service: Object, slices: Iterable[Object], pods: PodStates) -> ServiceNames:
    """What DNS tells of the service."""
    spec = service["spec"]
    names: ServiceNames = {"ips": cluster_ips(service), "ports": _port_names(spec.get("ports") or ()), "groups": []}
    if spec.get("type") == "ExternalName":
        names["external_name"] = spec.get("externalName", "")
        return names
    everyone = bool(spec.get("publishNotReadyAddresses"))
    groups = [_group(piece, pods, everyone=everyone) for piece in slices if piece.get("addressType") == "IPv4"]
    names["groups"] = [group for group in groups if group["endpoints"]]
    return names


def _port_names(ports: Iterable[Any]) -> list[PortNames]:
    return [
        {"name": port.get("name") or "", "protocol": port.get("protocol", "TCP"), "port": port.get("port") or 0}
        for port in ports
    ]


def _group(piece: Object, pods: PodStates, *, everyone: bool) -> EndpointGroup:
    endpoints: list[tuple[str, str]] = []
    for endpoint in piece.get("endpoints") or ():
        ready = _is_ready(part(endpoint, "conditions"))
        for ip in endpoint.get("addresses") or ():
            if everyone or (ready and ip not in pods.leaving and ip not in pods.ended):
                endpoints.append((ip, endpoint.get("hostname") or ""))
    return {"endpoints": endpoints, "ports": _port_names(piece.get("ports") or ())}


def addresses(slices: Iterable[Object]) -> set[str]:
    """Every endpoint address in the slices."""
    return {
        ip
        for piece in slices
        for endpoint in piece.get("endpoints") or ()
        for ip in endpoint.get("addresses") or ()
    }  # fmt: skip

"""What every cluster has from its first moment: system namespaces, priority classes, the service `kubernetes`.

All of it is what a real API server makes for itself. Idempotent: what is there and right is left alone, so that it
runs at every start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.store.types import Object

USER = "system:apiserver"
NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "default")
_SLICES = "endpointslices.discovery.k8s.io"
_PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"
_SERVICE_CIDRS = "servicecidrs.networking.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """How pods reach the API server."""

    cluster_ip: str
    """The first address of the service range."""
    service_cidr: str
    endpoint_ip: str
    endpoint_port: int
    """Where it really listens, as pods see it."""


async def ensure(client: Client, api: Api) -> None:
    """Makes what is missing and mends what differs. Raises `ApiError` if the API refuses."""
    for name in NAMESPACES:
        await create_missing(client, "namespaces", _namespace(name))
    for obj in _priority_classes():
        await create_missing(client, _PRIORITY_CLASSES, obj)
    if any(r.group_resource == _SERVICE_CIDRS for r in client.resources()):
        await create_missing(client, _SERVICE_CIDRS, _service_cidr(api))
    await create_missing(client, "services", _service(api))
    await _apply(client, "endpoints", _endpoints(api), ("subsets",))
    await _apply(client, _SLICES, _slice(api), ("endpoints", "ports"))


async def create_missing(client: Client, resource: str, obj: Object) -> None:
    """Creates the object, unless one of its name is there."""
    if client.get(resource, meta.namespace(obj), meta.name(obj)) is not None:
        return
    try:
        await client.create(resource, obj)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def _apply(client: Client, resource: str, obj: Object, fields: Sequence[str]) -> None:
    """Creates the object, or gives a present one the wanted fields."""
    present = client.get(resource, meta.namespace(obj), meta.name(obj))
    if present is None:
        await create_missing(client, resource, obj)
    elif any(present.get(f) != obj[f] for f in fields):
        await client.update(resource, {**present, **{f: obj[f] for f in fields}})


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _priority_classes() -> list[Object]:
    texts = {
        "system-node-critical": (2_000_001_000, "that must not be moved from their current node."),
        "system-cluster-critical": (
            2_000_000_000,
            "that must run in the cluster, but can be moved to another node if necessary.",
        ),
    }
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": f"Used for system critical pods {text}",
        }
        for name, (value, text) in texts.items()
    ]


def _service_cidr(api: Api) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [api.service_cidr]},
    }


def _service(api: Api) -> Object:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": "https", "protocol": "TCP", "port": 443, "targetPort": api.endpoint_port}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": api.cluster_ip,
            "clusterIPs": [api.cluster_ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [port],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
    }


def _endpoints(api: Api) -> Object:
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    port = {"name": "https", "port": api.endpoint_port, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "subsets": [{"addresses": [{"ip": api.endpoint_ip}], "ports": [port]}],
    }


def _slice(api: Api) -> Object:
    labels = {"kubernetes.io/service-name": "kubernetes"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [api.endpoint_ip], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": api.endpoint_port, "protocol": "TCP"}],
    }

"""What every cluster has from its first moment: system namespaces, priority classes, the service `kubernetes`.

The flow schemas and priority levels are there for clients that read them: nothing is queued by them.

All of it is what a real API server makes for itself. Idempotent: what is there and right is left alone, so that it
runs at every start.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.store.types import Object

USER = "system:apiserver"
PROXY_NAME = "front-proxy-client"
"""Whom the API server is called in the certificate that it shows to aggregated servers."""
NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "default")
_SLICES = "endpointslices.discovery.k8s.io"
_PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"
_SERVICE_CIDRS = "servicecidrs.networking.k8s.io"
_FLOW_GROUP = "flowcontrol.apiserver.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """How pods reach the API server."""

    cluster_ip: str
    """The first address of the service range."""
    service_cidr: str
    endpoint_ip: str
    endpoint_port: int
    """Where it really listens, as pods see it."""
    client_ca: str = ""
    proxy_ca: str = ""
    """Who signs the certificates of clients, and of the API server where it is a proxy for another (PEM)."""


async def ensure(client: Client, api: Api, now: datetime) -> None:
    """Makes what is missing and mends what differs. Raises `ApiError` if the API refuses."""
    for name in NAMESPACES:
        await create_missing(client, "namespaces", _namespace(name))
    for obj in _priority_classes():
        await create_missing(client, _PRIORITY_CLASSES, obj)
    if any(r.group_resource == _SERVICE_CIDRS for r in client.resources()):
        await create_missing(client, _SERVICE_CIDRS, _service_cidr(api))
    flows = [("prioritylevelconfigurations", o) for o in priority_levels()] + [
        ("flowschemas", o) for o in flow_schemas()
    ]
    if any(r.group == _FLOW_GROUP for r in client.resources()):
        await asyncio.gather(*(create_missing(client, f"{plural}.{_FLOW_GROUP}", obj) for plural, obj in flows))
    await create_missing(client, "services", _service(api))
    await _apply(client, "endpoints", _endpoints(api), ("subsets",))
    await _apply(client, _SLICES, _slice(api), ("endpoints", "ports"))
    await create_missing(client, "configmaps", _token_tracking(now))
    if api.proxy_ca:
        await _apply(client, "configmaps", _authentication(api), ("data",))


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


def _authentication(api: Api) -> Object:
    """What an aggregated API server has to know to believe what this one says of its users."""
    headers = {
        "username": ["X-Remote-User"],
        "uid": ["X-Remote-Uid"],
        "group": ["X-Remote-Group"],
    }
    data = {f"requestheader-{kind}-headers": json.dumps(names) for kind, names in headers.items()}
    data |= {
        "client-ca-file": api.client_ca,
        "requestheader-allowed-names": json.dumps([PROXY_NAME]),
        "requestheader-client-ca-file": api.proxy_ca,
        "requestheader-extra-headers-prefix": json.dumps(["X-Remote-Extra-"]),
    }
    return {"metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": data}


def _token_tracking(now: datetime) -> Object:
    """Since when the use of secrets' tokens is noted: what has no note since then was not used (KEP-2799)."""
    name = "kube-apiserver-legacy-service-account-token-tracking"
    return {"metadata": {"name": name, "namespace": "kube-system"}, "data": {"since": now.strftime("%Y-%m-%d")}}


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
        "metadata": {"name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": [api.service_cidr]},
    }


_LEVELS = (
    # name, shares, lendable percent, (queues, hand size, queue length)
    ("system", 30, 33, (64, 6, 50)),
    ("node-high", 40, 25, (64, 6, 50)),
    ("leader-election", 10, 0, (16, 4, 50)),
    ("workload-high", 40, 50, (128, 6, 50)),
    ("workload-low", 100, 90, (128, 6, 50)),
    ("global-default", 20, 50, (128, 6, 50)),
    ("catch-all", 5, 0, None),
)


def _flow_object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}
    return {"apiVersion": f"{_FLOW_GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec}


def priority_levels() -> list[Object]:
    """The priority levels of a new cluster."""
    exempt = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    limited = {name: _limited(shares, lendable, queues) for name, shares, lendable, queues in _LEVELS}
    specs = {"exempt": exempt, **limited}
    return [_flow_object("PriorityLevelConfiguration", name, spec) for name, spec in specs.items()]


def _limited(shares: int, lendable: int, queues: tuple[int, int, int] | None) -> Object:
    response: Object = {"type": "Reject"}
    if queues is not None:
        queuing = dict(zip(("queues", "handSize", "queueLengthLimit"), queues, strict=True))
        response = {"type": "Queue", "queuing": queuing}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return {"type": "Limited", "limited": limited}


def _groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Object]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


_SYSTEM_ACCOUNTS: Object = {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}
_EVERYBODY = ("system:unauthenticated", "system:authenticated")


def _on(verbs: Sequence[str], groups: Sequence[str], resources: Sequence[str], *, cluster: bool = False) -> Object:
    rule: Object = {"verbs": [*verbs], "apiGroups": [*groups], "resources": [*resources], "namespaces": ["*"]}
    return rule | ({"clusterScope": True} if cluster else {})


def flow_schemas() -> list[Object]:
    """The flow schemas of a new cluster."""
    anything = {
        "resourceRules": [_on("*", "*", "*", cluster=True)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    health = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
    leases = (["coordination.k8s.io"], ["leases"])
    nodes = {"resourceRules": [_on("*", [""], ["nodes", "nodes/status"], cluster=True), _on("*", *leases)]}
    electing = {"resourceRules": [_on(["get", "create", "update"], *leases)]}
    masters = ("system:kube-controller-manager", "system:kube-scheduler")
    table = (
        ("exempt", "exempt", 1, "", _groups("system:masters"), anything),
        ("probes", "exempt", 2, "", _groups(*_EVERYBODY), health),
        ("system-leader-election", "leader-election", 100, "ByUser", [*_users(*masters), _SYSTEM_ACCOUNTS], electing),
        ("system-node-high", "node-high", 400, "ByUser", _groups("system:nodes"), nodes),
        ("system-nodes", "system", 500, "ByUser", _groups("system:nodes"), anything),
        ("kube-controller-manager", "workload-high", 800, "ByNamespace", _users(masters[0]), anything),
        ("kube-scheduler", "workload-high", 800, "ByNamespace", _users(masters[1]), anything),
        ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", [_SYSTEM_ACCOUNTS], anything),
        ("service-accounts", "workload-low", 9000, "ByUser", _groups("system:serviceaccounts"), anything),
        ("global-default", "global-default", 9900, "ByUser", _groups(*_EVERYBODY), anything),
        ("catch-all", "catch-all", 10000, "ByUser", _groups(*_EVERYBODY), anything),
    )
    return [_flow(*row) for row in table]


def _flow(name: str, level: str, precedence: int, by: str, subjects: list[Object], rules: Object) -> Object:
    spec: Object = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        **({"distinguisherMethod": {"type": by}} if by else {}),
        "rules": [{"subjects": subjects, **rules}],
    }
    return _flow_object("FlowSchema", name, spec)


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

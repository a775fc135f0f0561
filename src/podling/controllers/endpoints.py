"""Endpoints, the older form of EndpointSlices: one object for each service with a selector, of its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers import servicing
from podling.controllers.actions import Action, Announce, Create, Delete, Update
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Change, Object

RESOURCE = "endpoints"
MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    service: Object | None
    pods: Sequence[Object]
    endpoints: Object | None


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    service = client.get("services", key.namespace, key.name)
    endpoints = client.get(RESOURCE, key.namespace, key.name)
    if service is None:
        return Snapshot(service=None, pods=[], endpoints=endpoints)
    if not servicing.has_endpoints(service):
        return None
    return Snapshot(service=service, pods=servicing.selected_pods(client, service), endpoints=endpoints)


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    service, old = snapshot.service, snapshot.endpoints
    if service is None:
        return [_delete(old)] if old is not None else []
    wanted = subsets(service, snapshot.pods)
    labels = _labels(service)
    if old is None:
        return [_create(service, labels, wanted)]
    if meta.items(old, "subsets") == wanted and meta.labels(old) == labels:
        return []
    changed = {**old, "metadata": {**old["metadata"], "labels": labels}, "subsets": wanted}
    ready = sum(len(s.get("addresses", [])) for s in wanted)
    return [
        Update(
            why=f"{ready} addresses are ready",
            resource=RESOURCE,
            object=changed,
            failed=Announce(
                regarding=old,
                reason="FailedToUpdateEndpoint",
                message=f"Failed to update endpoint {meta.namespace(old)}/{meta.name(old)}: {{error}}",
                type="Warning",
            ),
        )
    ]


def _labels(service: Object) -> dict[str, str]:
    labels = dict(meta.labels(service))
    labels.pop(servicing.HEADLESS_LABEL, None)
    if servicing.is_headless(service):
        labels[servicing.HEADLESS_LABEL] = ""
    return {**labels, MANAGED_BY_LABEL: MANAGER}


def _delete(endpoints: Object) -> Delete:
    return Delete(
        why="its service is gone",
        resource=RESOURCE,
        namespace=meta.namespace(endpoints),
        name=meta.name(endpoints),
        uid=meta.uid(endpoints),
    )


def _create(service: Object, labels: dict[str, str], wanted: Sequence[Object]) -> Create:
    new: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": meta.name(service), "namespace": meta.namespace(service), "labels": labels},
    }
    if wanted:
        new["subsets"] = list(wanted)
    return Create(
        why="the service has none",
        resource=RESOURCE,
        object=new,
        failed=Announce(
            regarding=new,
            reason="FailedToCreateEndpoint",
            message=f"Failed to create endpoint for service {meta.namespace(service)}/{meta.name(service)}: {{error}}",
            type="Warning",
        ),
    )


def subsets(service: Object, pods: Sequence[Object]) -> list[Object]:
    """The addresses by port, repacked so that ports with the same addresses share a subset."""
    publish = bool(meta.spec(service).get("publishNotReadyAddresses"))
    by_port: dict[bytes, dict[str, list[Object]]] = {}
    for pod in pods:
        if not servicing.can_serve(pod, terminating=publish):
            continue
        kind = "addresses" if publish or podlib.is_ready(pod) else "notReadyAddresses"
        for port in _ports(service, pod):
            by_port.setdefault(port, {}).setdefault(kind, []).append(_address(service, pod))
    by_addresses: dict[bytes, list[bytes]] = {}
    for port, addresses in by_port.items():
        ordered = {kind: sorted(found, key=lambda a: a["ip"]) for kind, found in addresses.items()}
        by_addresses.setdefault(orjson.dumps(ordered, option=orjson.OPT_SORT_KEYS), []).append(port)
    return sorted((_subset(orjson.loads(a), ports) for a, ports in by_addresses.items()), key=orjson.dumps)


def _subset(addresses: Object, ports: Sequence[bytes]) -> Object:
    found: list[Any] = [orjson.loads(p) for p in ports]
    return {**addresses, "ports": [p for p in found if p]} if any(found) else addresses


def _ports(service: Object, pod: Object) -> list[bytes]:
    """The pod's ports as canonical JSON; a headless service without ports counts as one that is `null`."""
    if not servicing.service_ports(service):
        return [b"null"] if servicing.is_headless(service) else []
    ports = servicing.pod_ports(service, pod)
    return [orjson.dumps(meta.without_empty(p, "port"), option=orjson.OPT_SORT_KEYS) for p in ports]


def _address(service: Object, pod: Object) -> Object:
    address: Object = {
        "ip": servicing.addresses(pod)[0],
        "nodeName": meta.spec(pod).get("nodeName", ""),
        "targetRef": servicing.target(pod),
    }
    name = servicing.hostname(pod, service)
    return {**address, "hostname": name} if name else address


def _leftover(client: Client, change: Change) -> Iterable[ObjectKey]:
    """Our Endpoints that somebody deleted, or that outlived their service while nobody watched."""
    namespace, name = change.entry.key.namespace, change.entry.key.name
    ours = meta.labels(change.entry.object).get(MANAGED_BY_LABEL) == MANAGER
    if change.type == "DELETED" or (ours and client.get("services", namespace, name) is None):
        yield ObjectKey(namespace, name)


def controller() -> Controller:
    return Controller(
        name="endpoint-controller",
        user=service_account("endpoint-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource="services", keys=itself),
            Watch(resource="pods", keys=servicing.services_of_pod),
            Watch(resource=RESOURCE, keys=_leftover),
        ),
        reconcile=looking(observe, decide),
    )

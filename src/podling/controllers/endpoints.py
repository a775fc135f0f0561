"""Endpoints, the older form of EndpointSlices: one object for each service with a selector, of its name."""

from __future__ import annotations

import math
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
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MAX_ADDRESSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    service: Object | None
    pods: Sequence[Object]
    endpoints: Object | None
    trigger: str | None = None
    """When what is new began."""


def observe(client: Client, times: servicing.TriggerTimes, key: ObjectKey) -> Snapshot | None:
    service = client.get("services", key.namespace, key.name)
    endpoints = client.get(RESOURCE, key.namespace, key.name)
    if service is None:
        times.forget(key)
        return Snapshot(service=None, pods=[], endpoints=endpoints)
    if not servicing.has_endpoints(service):
        return None
    pods = servicing.selected_pods(client, service)
    return Snapshot(service=service, pods=pods, endpoints=endpoints, trigger=times.latest(service, pods))


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    service, old = snapshot.service, snapshot.endpoints
    if service is None:
        return [_delete(old)] if old is not None else []
    every = subsets(service, snapshot.pods)
    wanted = truncated(every)
    labels = _labels(service)
    over = {OVER_CAPACITY: "truncated"} if wanted != every else {}
    annotations = {k: v for k, v in meta.annotations(old or {}).items() if k != OVER_CAPACITY} | over
    told = servicing.triggered(annotations, snapshot.trigger)
    if old is None:
        return [_create(service, labels, told, wanted)]
    if meta.items(old, "subsets") == wanted and meta.labels(old) == labels and annotations == meta.annotations(old):
        return []
    changed = {**old, "metadata": {**old["metadata"], "labels": labels, "annotations": told}, "subsets": wanted}
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


def truncated(subsets: Sequence[Object]) -> list[Object]:
    """No more than a thousand addresses, each subset its share of them; ready ones before others."""
    ready = sum(len(s.get("addresses", ())) for s in subsets)
    others = sum(len(s.get("notReadyAddresses", ())) for s in subsets)
    if ready + others <= MAX_ADDRESSES:
        return list(subsets)
    kind, total = ("addresses", ready) if ready > MAX_ADDRESSES else ("notReadyAddresses", others)
    room = most = MAX_ADDRESSES - (0 if kind == "addresses" else ready)
    cut: list[Object] = []
    for subset in subsets:
        found: list[Object] = subset.get(kind, [])
        kept = found[: min(room, math.ceil(len(found) * most / total))]
        room -= len(kept)
        rest = {k: v for k, v in subset.items() if k not in (kind, "notReadyAddresses")}
        cut.append({**rest, **({kind: kept} if kept else {})})
    return cut


def _create(service: Object, labels: dict[str, str], annotations: dict[str, str], wanted: Sequence[Object]) -> Create:
    metadata: Object = {"name": meta.name(service), "namespace": meta.namespace(service), "labels": labels}
    if annotations:
        metadata["annotations"] = annotations
    new: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
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
    times = servicing.TriggerTimes()
    return Controller(
        name="endpoint-controller",
        user=service_account("endpoint-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource="services", keys=itself),
            Watch(resource="pods", keys=servicing.services_of_pod),
            Watch(resource=RESOURCE, keys=_leftover),
        ),
        reconcile=looking(lambda client, key: observe(client, times, key), decide),
    )

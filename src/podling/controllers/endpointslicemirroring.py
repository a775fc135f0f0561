"""EndpointSlices for Endpoints that people write by hand: services without a selector.

Consumers then read slices only. Endpoints with the label `endpointslice.kubernetes.io/skip-mirror: "true"`, or that
serve a leader election, are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from podling.api import meta
from podling.api.client import Client
from podling.controllers import servicing
from podling.controllers.actions import Action, Create, Delete, Update
from podling.controllers.endpointslice import MANAGED_BY_LABEL, RESOURCE, SERVICE_LABEL, slices_of
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Change, Object

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
MAX_ADDRESSES = 1000
_NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    endpoints: Object | None
    """`None` where nothing is to be mirrored."""
    slices: Sequence[Object]


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    endpoints = client.get("endpoints", key.namespace, key.name)
    service = client.get("services", key.namespace, key.name)
    mirrored = endpoints is not None and service is not None and _shall_mirror(service, endpoints)
    slices = slices_of(client, key, MANAGER)
    if not mirrored and not slices:
        return None
    return Snapshot(endpoints=endpoints if mirrored else None, slices=slices)


def _shall_mirror(service: Object, endpoints: Object) -> bool:
    return (
        not meta.spec(service).get("selector")
        and not meta.deleting(endpoints)
        and meta.labels(endpoints).get(SKIP_LABEL) != "true"
        and LEADER_ANNOTATION not in meta.annotations(endpoints)
    )


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    if snapshot.endpoints is None:
        return [_delete(s, "its Endpoints are gone or not to be mirrored") for s in snapshot.slices]
    wanted = _slices(snapshot.endpoints)
    old = {_place(s): s for s in snapshot.slices}
    actions: list[Action] = []
    for new in wanted:
        present = old.pop(_place(new), None)
        if present is None:
            generated = {**new["metadata"], "generateName": f"{meta.name(snapshot.endpoints)}-"}
            created = {**new, "metadata": generated}
            actions.append(Create(why="its Endpoints say so", resource=RESOURCE, object=created))
        elif _differs(present, new):
            actions.append(_update(present, new))
    return [*actions, *(_delete(s, "no subset is like it") for s in old.values())]


def _place(slice: Object) -> bytes:
    """What decides which slice a subset goes to: the ports and the kind of address."""
    return orjson.dumps([slice["addressType"], meta.items(slice, "ports")], option=orjson.OPT_SORT_KEYS)


def _differs(old: Object, new: Object) -> bool:
    return (
        meta.items(old, "endpoints") != new["endpoints"]
        or meta.labels(old) != meta.labels(new)
        or meta.annotations(old) != meta.annotations(new)
    )


def _update(old: Object, new: Object) -> Update:
    identity = ("name", "uid", "resourceVersion")
    metadata = {**new["metadata"], **{f: old["metadata"][f] for f in identity if f in old["metadata"]}}
    return Update(why="its Endpoints changed", resource=RESOURCE, object={**new, "metadata": metadata})


def _delete(slice: Object, why: str) -> Delete:
    return Delete(
        why=why, resource=RESOURCE, namespace=meta.namespace(slice), name=meta.name(slice), uid=meta.uid(slice)
    )


def _slices(endpoints: Object) -> list[Object]:
    slices: dict[bytes, Object] = {}
    for subset in meta.items(endpoints, "subsets"):
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in meta.items(subset, field)[:MAX_ADDRESSES]:
                new = _slice(endpoints, subset, servicing.family(address["ip"]))
                slices.setdefault(_place(new), new)["endpoints"].append(_endpoint(address, ready=ready))
    return list(slices.values())


def _slice(endpoints: Object, subset: Object, address_type: str) -> Object:
    labels = {**meta.labels(endpoints), SERVICE_LABEL: meta.name(endpoints), MANAGED_BY_LABEL: MANAGER}
    annotations = {k: v for k, v in meta.annotations(endpoints).items() if k not in _NOT_COPIED}
    metadata: Object = {
        "namespace": meta.namespace(endpoints),
        "labels": labels,
        "ownerReferences": [meta.new_controller_reference(endpoints)],
    }
    if annotations:
        metadata["annotations"] = annotations
    ports = [{"protocol": "TCP", **port, "name": port.get("name", "")} for port in meta.items(subset, "ports")]
    slice: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": address_type,
        "endpoints": [],
    }
    return {**slice, "ports": ports} if ports else slice


def _endpoint(address: Object, *, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    return endpoint | {f: address[f] for f in ("hostname", "nodeName", "targetRef") if address.get(f)}


def _of_slice(_client: Client, change: Change) -> Iterable[ObjectKey]:
    labels = meta.labels(change.entry.object)
    if labels.get(MANAGED_BY_LABEL) == MANAGER and SERVICE_LABEL in labels:
        yield ObjectKey(change.entry.key.namespace, labels[SERVICE_LABEL])


def controller() -> Controller:
    return Controller(
        name="endpointslicemirroring-controller",
        user=service_account("endpointslicemirroring-controller"),
        resource="endpoints",
        watches=(
            Watch(resource="endpoints", keys=itself),
            Watch(resource="services", keys=itself),
            Watch(resource=RESOURCE, keys=_of_slice),
        ),
        reconcile=looking(observe, decide),
    )

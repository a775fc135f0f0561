"""EndpointSlices of services: which pods answer, and whether each is ready, serving, terminating.

Slices are written so that a change of one pod changes one slice: an endpoint stays where it is, new ones go where
another write is needed anyway, then where there is room, and only then into new slices of at most 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers import servicing
from podling.controllers.actions import Action, Create, Delete, Update
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Change, Object

RESOURCE = "endpointslices.discovery.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
MAX_ENDPOINTS = 100
_RESERVED_LABELS = frozenset({SERVICE_LABEL, MANAGED_BY_LABEL, servicing.HEADLESS_LABEL})
_NEAR = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})


Ports = bytes
"""A list of ports as canonical JSON: what endpoints must share to be in one slice."""
Identity = tuple[str, ...]
"""What makes an endpoint the same one: its addresses and its pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    service: Object
    pods: Sequence[Object]
    nodes: Mapping[str, Object]
    slices: Sequence[Object]
    """The slices of this service that this controller manages."""
    trigger: str | None = None
    """When what is new began."""
    made: dict[tuple[str, str], _Made] = field(default_factory=dict[tuple[str, str], "_Made"])
    """Endpoints made before, by uid and family: of many pods few are new at each look."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What came of a pod on a node; the same as long as these are."""

    pod: Object
    place: tuple[bool, str | None]
    """Whether its node is there, and its zone."""
    endpoint: Object | None
    ports: Ports


class Observer:
    """Observes, and remembers from look to look what each service's endpoints were made of."""

    def __init__(self) -> None:
        self._times = servicing.TriggerTimes()
        self._made: dict[ObjectKey, tuple[Object, dict[tuple[str, str], _Made]]] = {}

    def observe(self, client: Client, key: ObjectKey) -> Snapshot | None:
        service = client.get("services", key.namespace, key.name)
        if service is None or meta.deleting(service) or not servicing.has_endpoints(service):
            self._times.forget(key)
            self._made.pop(key, None)
            return None
        pods = servicing.selected_pods(client, service)
        names = {meta.spec(pod).get("nodeName", "") for pod in pods}
        nodes = {name: node for name in names if name and (node := client.get("nodes", "", name)) is not None}
        return Snapshot(
            service=service,
            pods=pods,
            nodes=nodes,
            slices=slices_of(client, key, MANAGER),
            trigger=self._times.latest(service, pods),
            made=self._made_for(key, service, pods),
        )

    def _made_for(self, key: ObjectKey, service: Object, pods: Sequence[Object]) -> dict[tuple[str, str], _Made]:
        spec, made = self._made.get(key, ({}, {}))
        if spec != meta.spec(service):
            made = {}
        elif len(made) > 2 * len(pods) + MAX_ENDPOINTS:
            present = {meta.uid(pod) for pod in pods}
            made = {who: what for who, what in made.items() if who[0] in present}
        self._made[key] = (meta.spec(service), made)
        return made


def slices_of(client: Client, key: ObjectKey, manager: str) -> list[Object]:
    wanted = {SERVICE_LABEL: key.name, MANAGED_BY_LABEL: manager}
    return [s for s in client.list(RESOURCE, key.namespace) if meta.matches_labels(wanted, meta.labels(s))]


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    families: Sequence[str] = meta.spec(snapshot.service).get("ipFamilies") or ["IPv4"]
    actions: list[Action] = [
        _delete(s, f"the service has no {s['addressType']}")
        for s in snapshot.slices
        if s["addressType"] not in families
    ]
    actions += [
        _delete(s, "it is of an earlier service of that name")
        for s in snapshot.slices
        if s["addressType"] in families and not _is_owned(s, snapshot.service)
    ]
    for address_type in families:
        actions += _decide_family(snapshot, address_type)
    return actions


def _is_owned(slice: Object, service: Object) -> bool:
    return any(r["uid"] == meta.uid(service) for r in meta.owner_references(slice))


def _decide_family(snapshot: Snapshot, address_type: str) -> list[Action]:
    desired = _desired(snapshot, address_type)
    existing: dict[Ports, list[Object]] = {}
    for slice in snapshot.slices:
        if slice["addressType"] == address_type and _is_owned(slice, snapshot.service):
            existing.setdefault(_ports_key(meta.items(slice, "ports")), []).append(slice)
    if not desired:
        desired[_ports_key([])] = []
    builder = _Builder(snapshot.service, address_type, snapshot.trigger)
    for ports in sorted(existing.keys() | desired.keys()):
        builder.pack(orjson.loads(ports), existing.get(ports, []), desired.get(ports, []), keep=ports in desired)
    return builder.finished()


def _desired(snapshot: Snapshot, address_type: str) -> dict[Ports, list[Object]]:
    """The endpoints as they should be, by their ports."""
    desired: dict[Ports, list[Object]] = {}
    for pod in snapshot.pods:
        made = _made(snapshot, pod, address_type)
        if made.endpoint is not None:
            desired.setdefault(made.ports, []).append(made.endpoint)
    return desired


def _made(snapshot: Snapshot, pod: Object, address_type: str) -> _Made:
    node = snapshot.nodes.get(meta.spec(pod).get("nodeName", ""))
    place = (node is not None, meta.labels(node).get("topology.kubernetes.io/zone") if node else None)
    who = (meta.uid(pod), address_type)
    made = snapshot.made.get(who)
    if made is None or made.pod is not pod or made.place != place:
        endpoint = _endpoint(snapshot.service, pod, address_type, place)
        ports = _ports_key(servicing.pod_ports(snapshot.service, pod)) if endpoint is not None else b""
        made = snapshot.made[who] = _Made(pod, place, endpoint, ports)
    return made


def _ports_key(ports: Sequence[Object]) -> Ports:
    ordered = sorted(ports, key=lambda p: (p.get("name") or "", p.get("port") or 0, p.get("protocol") or ""))
    return orjson.dumps(ordered, option=orjson.OPT_SORT_KEYS)


def _endpoint(service: Object, pod: Object, address_type: str, place: tuple[bool, str | None]) -> Object | None:
    if not servicing.can_serve(pod, terminating=True):
        return None
    addresses = [a for a in servicing.addresses(pod) if servicing.family(a) == address_type]
    node_name: str = meta.spec(pod).get("nodeName", "")
    publish = bool(meta.spec(service).get("publishNotReadyAddresses"))
    has_node, zone = place
    if not addresses or not (has_node or publish):
        return None
    serving, terminating = podlib.is_ready(pod), meta.deleting(pod)
    ready = publish or (serving and not terminating)
    endpoint: Object = {
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": servicing.target(pod),
    }
    optional = {"hostname": servicing.hostname(pod, service), "nodeName": node_name, "zone": zone}
    endpoint |= {field: value for field, value in optional.items() if value}
    hints = _hints(service, node_name, zone)
    return {**endpoint, "hints": hints} if hints and ready else endpoint


def _hints(service: Object, node_name: str, zone: str | None) -> Object:
    """Where the endpoint is meant to be used, for `trafficDistribution`."""
    distribution = meta.spec(service).get("trafficDistribution")
    hints: Object = {}
    if distribution in _NEAR and zone:
        hints["forZones"] = [{"name": zone}]
    if distribution == "PreferSameNode" and node_name:
        hints["forNodes"] = [{"name": node_name}]
    return hints


class _Builder:
    """Packs desired endpoints into slices, changing as few as it can."""

    def __init__(self, service: Object, address_type: str, trigger: str | None) -> None:
        self.service = service
        self.address_type = address_type
        self.labels = slice_labels(service)
        self.trigger = trigger
        self.updates: list[Action] = []
        self.new: list[Object] = []
        self.empty: list[Object] = []
        """Slices in which nothing is left."""

    def finished(self) -> list[Action]:
        """An empty slice becomes a new one instead of being deleted beside it, so that there is no gap between."""
        reused = [_reuse(old, new) for old, new in zip(self.empty, self.new, strict=False)]
        count = len(reused)
        created = [
            Create(why=f"{len(new['endpoints'])} endpoints have no slice", resource=RESOURCE, object=new)
            for new in self.new[count:]
        ]
        deleted = [_delete(old, "no endpoint is left in it") for old in self.empty[count:]]
        return [*reused, *created, *self.updates, *deleted]

    def pack(self, ports: Sequence[Object], slices: Sequence[Object], desired: Sequence[Object], *, keep: bool) -> None:
        """`keep`: whether a slice of these ports shall stay even without endpoints (the placeholder)."""
        waiting = {_identity(e): e for e in desired}
        contents = {meta.name(s): self._kept(s, waiting) for s in slices}
        rest = list(waiting.values())
        self._fill(slices, contents, rest)
        placeholder = keep and not desired and not rest
        for slice in slices:
            content = contents[meta.name(slice)]
            if not content and not placeholder:
                self.empty.append(slice)
            else:
                placeholder = False
                self._update(slice, content)
        for start in range(0, len(rest), MAX_ENDPOINTS):
            self._create(ports, rest[start : start + MAX_ENDPOINTS])
        if placeholder:
            self._create(ports, [])

    def _kept(self, slice: Object, waiting: dict[Identity, Object]) -> list[Object]:
        """The slice's endpoints that are still wanted, as they are now; they no longer wait."""
        found = (waiting.pop(_identity(e), None) for e in meta.items(slice, "endpoints"))
        return [e for e in found if e is not None]

    def _fill(self, slices: Sequence[Object], contents: dict[str, list[Object]], waiting: list[Object]) -> None:
        """New endpoints go first into slices that are written anyway, then into the fullest with room."""

        def order(slice: Object) -> tuple[bool, int]:
            content = contents[meta.name(slice)]
            return (self._is_current(slice, content), -len(content))

        for slice in sorted(slices, key=order):
            content = contents[meta.name(slice)]
            room = MAX_ENDPOINTS - len(content)
            content += waiting[:room]
            del waiting[:room]

    def _is_current(self, slice: Object, endpoints: Sequence[Object]) -> bool:
        return meta.items(slice, "endpoints") == endpoints and meta.labels(slice) == self.labels

    def _update(self, slice: Object, endpoints: Sequence[Object]) -> None:
        if self._is_current(slice, endpoints):
            return
        annotations = servicing.triggered(meta.annotations(slice), self.trigger)
        metadata = {**slice["metadata"], "labels": self.labels, "annotations": annotations}
        changed = {**slice, "metadata": metadata, "endpoints": list(endpoints)}
        self.updates.append(Update(why=_difference(slice, endpoints), resource=RESOURCE, object=changed))

    def _create(self, ports: Sequence[Object], endpoints: Sequence[Object]) -> None:
        new: Object = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": f"{meta.name(self.service)}-",
                "namespace": meta.namespace(self.service),
                "labels": self.labels,
                "annotations": servicing.triggered({}, self.trigger),
                "ownerReferences": [meta.new_controller_reference(self.service)],
            },
            "addressType": self.address_type,
            "endpoints": list(endpoints),
        }
        if ports:
            new["ports"] = list(ports)
        self.new.append(new)


def _identity(endpoint: Object) -> Identity:
    return (meta.part(endpoint, "targetRef").get("uid", ""), *endpoint["addresses"])


def _difference(slice: Object, endpoints: Sequence[Object]) -> str:
    """The change in words: `ready 10.0.0.1; gone 10.0.0.2`."""
    old = {_identity(e): e for e in meta.items(slice, "endpoints")}
    new = {_identity(e): e for e in endpoints}
    words = [f"gone {e['addresses'][0]}" for key, e in old.items() if key not in new]
    words += [f"{_state(e)} {e['addresses'][0]}" for key, e in new.items() if old.get(key) != e]
    return "; ".join(words) or "the service's labels changed"


def _state(endpoint: Object) -> str:
    conditions = meta.part(endpoint, "conditions")
    if conditions.get("terminating"):
        return "terminating"
    return "ready" if conditions.get("ready") else "not ready"


def _reuse(old: Object, new: Object) -> Update:
    kept = {f: old["metadata"][f] for f in ("name", "uid", "resourceVersion") if f in old["metadata"]}
    changed = {**new, "metadata": {**new["metadata"], **kept}}
    return Update(why=_difference(old, new["endpoints"]), resource=RESOURCE, object=changed)


def _delete(slice: Object, why: str) -> Delete:
    return Delete(
        why=why, resource=RESOURCE, namespace=meta.namespace(slice), name=meta.name(slice), uid=meta.uid(slice)
    )


def slice_labels(service: Object) -> dict[str, str]:
    labels = {k: v for k, v in meta.labels(service).items() if k not in _RESERVED_LABELS}
    if servicing.is_headless(service):
        labels[servicing.HEADLESS_LABEL] = ""
    return {**labels, SERVICE_LABEL: meta.name(service), MANAGED_BY_LABEL: MANAGER}


def _of_slice(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """Somebody else's change to a slice is put right."""
    for entry in (change.previous, change.entry):
        if entry is not None:
            labels = meta.labels(entry.object)
            if labels.get(MANAGED_BY_LABEL) == MANAGER and SERVICE_LABEL in labels:
                yield ObjectKey(entry.key.namespace, labels[SERVICE_LABEL])


def _of_node(client: Client, change: Change) -> Iterable[ObjectKey]:
    """A node that comes brings its pods' endpoints along."""
    if change.type == "MODIFIED" and change.previous is not None:
        zone = "topology.kubernetes.io/zone"
        if meta.labels(change.previous.object).get(zone) == meta.labels(change.entry.object).get(zone):
            return
    for service in client.list("services"):
        if servicing.has_endpoints(service):
            yield ObjectKey(meta.namespace(service), meta.name(service))


def controller() -> Controller:
    return Controller(
        name="endpoint-slice-controller",
        user=service_account("endpointslice-controller"),
        resource="services",
        watches=(
            Watch(resource="services", keys=itself),
            Watch(resource="pods", keys=servicing.services_of_pod),
            Watch(resource="nodes", keys=_of_node),
            Watch(resource=RESOURCE, keys=_of_slice),
        ),
        reconcile=looking(Observer().observe, decide),
    )

"""The ranges that services get their addresses from, and the addresses that are given out, as objects.

The addresses themselves are given out when a service is written (`podling.kinds`): an IPAddress only tells of one. A
ServiceCIDR that is deleted stays as long as addresses in it would be left without a range.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Create, Delete, Patch, Requeue
from podling.controllers.bootstrap import USER
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, key_of, looking, service_account
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, Object

RANGES = "servicecidrs.networking.k8s.io"
ADDRESSES = "ipaddresses.networking.k8s.io"
_SERVICES = "services"
_FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_FAMILY = "ipaddress.kubernetes.io/ip-family"
_MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
_ALLOCATOR = "ipallocator.k8s.io"
_GRACE = timedelta(seconds=10)
"""How long a range stays that nothing holds: whoever still gives out addresses of it hears of the end."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    range: Object
    others: Sequence[Object]
    addresses: Sequence[str]
    """Those that services have."""


def observe_range(client: Client, key: ObjectKey) -> Ranges | None:
    found = client.get(RANGES, "", key.name)
    if found is None:
        return None
    others = [other for other in client.list(RANGES) if meta.name(other) != key.name]
    addresses = [meta.name(a) for a in client.list(ADDRESSES) if _is_ours(a)] if meta.deleting(found) else []
    return Ranges(range=found, others=others, addresses=addresses)


def decide_range(snapshot: Ranges, now: datetime) -> list[Action]:
    found = snapshot.range
    if not meta.deleting(found):
        ready = {"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready"}
        return [*_kept(found), *_told(found, ready, now)]
    if _holds(snapshot):
        message = (
            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
        )
        held = {"type": "Ready", "status": "False", "reason": "Terminating", "message": message}
        return _told(found, held, now)
    left = meta.parse_time(meta.metadata(found)["deletionTimestamp"]) + _GRACE - now
    if left > timedelta():
        return [Requeue(why="addresses may still be given out of it", seconds=left.total_seconds())]
    rest = [name for name in meta.finalizers(found) if name != _FINALIZER]
    return [_finalizers(found, rest, "no address is left without a range")]


def _kept(found: Object) -> list[Action]:
    names = meta.finalizers(found)
    return [] if _FINALIZER in names else [_finalizers(found, [*names, _FINALIZER], "services have addresses of it")]


def _finalizers(found: Object, names: list[str], why: str) -> Patch:
    return Patch(
        why=why, resource=RANGES, namespace="", name=meta.name(found), patch={"metadata": {"finalizers": names}}
    )


def _told(found: Object, condition: Object, now: datetime) -> list[Action]:
    conditions = replace_condition(meta.conditions(found), condition, now)
    return [*write_status(RANGES, found, {"conditions": conditions}, "clients ask whether it can be used")]


def _holds(snapshot: Ranges) -> bool:
    """Whether an address would be left without a range."""
    elsewhere = [network for other in snapshot.others for network in _networks(other)]
    mine = _networks(snapshot.range)
    if all(any(_contains(other, network) for other in elsewhere) for network in mine):
        return False
    hosts = [ipaddress.ip_network(address) for address in snapshot.addresses]
    return any(
        any(_contains(network, host) for network in mine) and not any(_contains(other, host) for other in elsewhere)
        for host in hosts
    )


def _networks(found: Object) -> list[_Network]:
    return [ipaddress.ip_network(text) for text in meta.spec(found).get("cidrs") or ()]


def _contains(outer: _Network, inner: _Network) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _every_range(client: Client, _change: Change) -> Iterable[ObjectKey]:
    return (key_of(found) for found in client.list(RANGES))


def _ending_ranges(client: Client, _change: Change) -> Iterable[ObjectKey]:
    return (key_of(found) for found in client.list(RANGES) if meta.deleting(found))


def ranges() -> Controller:
    return Controller(
        name="service-cidrs-controller",
        user=service_account("service-cidrs-controller"),
        resource=RANGES,
        watches=(Watch(resource=RANGES, keys=_every_range), Watch(resource=ADDRESSES, keys=_ending_ranges)),
        reconcile=looking(observe_range, decide_range),
    )


# Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    service: ObjectKey
    wanted: Sequence[str]
    present: Sequence[Object]
    """Those that tell of this service, or have a wanted address."""


def observe_addresses(client: Client, key: ObjectKey) -> Addresses:
    service = client.get(_SERVICES, key.namespace, key.name)
    wanted = _cluster_ips(service)
    if service is None:
        present = [a for a in client.list(ADDRESSES) if _service_of(a) == key]
    else:
        present = [found for ip in wanted if (found := client.get(ADDRESSES, "", ip)) is not None]
    return Addresses(service=key, wanted=wanted, present=present)


def decide_addresses(snapshot: Addresses, _now: datetime) -> list[Action]:
    there = {meta.name(address) for address in snapshot.present}
    missing: list[Action] = [
        Create(why="the service has it", resource=ADDRESSES, object=_address(ip, snapshot.service), exists_ok=True)
        for ip in snapshot.wanted
        if ip not in there
    ]
    left: list[Action] = [
        Delete(why="no service has it", resource=ADDRESSES, namespace="", name=meta.name(a), uid=meta.uid(a))
        for a in snapshot.present
        if meta.name(a) not in snapshot.wanted and _is_ours(a)
    ]
    return missing + left


def _cluster_ips(service: Object | None) -> list[str]:
    return [] if service is None else [ip for ip in meta.spec(service).get("clusterIPs") or () if ip != "None"]


def _address(ip: str, service: ObjectKey) -> Object:
    family = f"IPv{ipaddress.ip_address(ip).version}"
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": ip, "labels": {_FAMILY: family, _MANAGED_BY: _ALLOCATOR}},
        "spec": {"parentRef": {"resource": _SERVICES, "namespace": service.namespace, "name": service.name}},
    }


def _is_ours(address: Object) -> bool:
    return meta.labels(address).get(_MANAGED_BY) == _ALLOCATOR


def _service_of(address: Object) -> ObjectKey | None:
    parent = meta.part(address, "spec", "parentRef")
    if parent.get("resource") != _SERVICES or parent.get("group"):
        return None
    return ObjectKey(parent.get("namespace", ""), parent.get("name", ""))


def _its_service(_client: Client, change: Change) -> Iterable[ObjectKey]:
    service = _service_of(change.entry.object)
    return () if service is None else (service,)


def addresses() -> Controller:
    return Controller(
        name="service-ip-addresses",
        user=USER,
        resource=_SERVICES,
        watches=(Watch(resource=_SERVICES, keys=itself), Watch(resource=ADDRESSES, keys=_its_service)),
        reconcile=looking(observe_addresses, decide_addresses),
    )

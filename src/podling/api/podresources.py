"""What a pod asks of a node: the sums that scheduler, quota and node agree upon.

Amounts are in billionths (`Quantity.nanos`), so that sums are exact. Source: "Resource Management for Pods and
Containers", "Sidecar Containers: resource sharing within containers", KEP-2837 (pod-level resources).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from podling.api import meta
from podling.api.quantity import Format, of
from podling.store.types import Object

Amounts = dict[str, int]


def amounts(quantities: Mapping[str, str | int]) -> Amounts:
    """A ResourceList as numbers."""
    return {name: of(text).nanos for name, text in quantities.items()}


def add(total: Amounts, more: Mapping[str, int]) -> None:
    """Adds in place; `total` belongs to the caller."""
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def raise_to(total: Amounts, least: Mapping[str, int]) -> None:
    """Makes every amount of `total` at least that of `least`, in place."""
    for name, amount in least.items():
        total[name] = max(total.get(name, 0), amount)


def pod_requests(pod: Object) -> Amounts:
    return _pod_total(pod, "requests")


def pod_limits(pod: Object) -> Amounts:
    return _pod_total(pod, "limits")


def _pod_total(pod: Object, kind: str) -> Amounts:
    """Pod-level amounts replace those of the containers; the overhead comes on top."""
    total = of_containers(meta.part(pod, "spec"), kind)
    total |= amounts(meta.part(pod, "spec", "resources", kind))
    overhead = amounts(meta.part(pod, "spec", "overhead"))
    add(total, overhead if kind == "requests" else {k: v for k, v in overhead.items() if k in total})
    return total


def of_containers(spec: Object, kind: str) -> Amounts:
    """Containers and sidecars together, but at least what each init container needs beside the earlier sidecars."""
    total: Amounts = {}
    for container in meta.items(spec, "containers"):
        add(total, _amounts(container, kind))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in meta.items(spec, "initContainers"):
        own = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            add(sidecars, own)
            raise_to(peak, sidecars)
        else:
            add(own, sidecars)
            raise_to(peak, own)
    add(total, sidecars)
    raise_to(total, peak)
    return total


def notation(pod: Object, kind: str, name: str) -> Format:
    """How a sum over the pod is written: as the first of its parts is."""
    own = meta.part(pod, "spec", "resources", kind)
    parts = [own] if name in own else []
    parts += [meta.part(c, "resources", kind) for key in _LISTS for c in meta.items(pod, "spec", key)]
    found = (of(part[name]) for part in parts if name in part)
    return next((quantity.format for quantity in found if quantity.nanos), Format.DECIMAL_SI)


_LISTS: Final = ("containers", "initContainers")


def held(pod: Object) -> Object:
    """The pod with what its containers hold: until less is in force they have what they had, and what their node does
    not grant they do not get (KEP-1287)."""
    spec = meta.spec(pod)
    told = {
        status["name"]: status
        for key in ("containerStatuses", "initContainerStatuses")
        for status in meta.items(pod, "status", key)
        if status.get("resources") is not None
    }
    if not told:
        return pod
    refused = (meta.condition(pod, "PodResizePending") or {}).get("reason") == "Infeasible"
    lists = {
        key: [_held(c, told.get(c["name"]) if _stays(key, c) else None, refused) for c in meta.items(spec, key)]
        for key in _LISTS
        if spec.get(key)
    }
    return {**pod, "spec": {**spec, **lists}}


def _stays(key: str, container: Object) -> bool:
    return key == "containers" or container.get("restartPolicy") == "Always"


def _held(container: Object, status: Object | None, refused: bool) -> Object:
    if status is None:
        return container
    wish, force = meta.part(container, "resources"), meta.part(status, "resources")
    granted: Object = {"requests": status.get("allocatedResources") or {}}
    sources = [force, granted] if refused else [wish, force, granted]
    most = {kind: _greatest(meta.part(source, kind) for source in sources) for kind in ("requests", "limits")}
    return {**container, "resources": {**wish, **most}}


def _greatest(lists: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    most: dict[str, str] = {}
    for each in lists:
        for name, text in each.items():
            if name not in most or of(text).nanos > of(most[name]).nanos:
                most[name] = text
    return most


def _amounts(container: Object, kind: str) -> Amounts:
    return amounts(meta.part(container, "resources", kind))


HostPort = tuple[str, str, int]
"""Protocol, host address and port."""


def host_ports(pod: Object) -> Iterable[HostPort]:
    """Every port of the host that the pod takes."""
    sidecars = (c for c in meta.items(pod, "spec", "initContainers") if c.get("restartPolicy") == "Always")
    for container in (*meta.items(pod, "spec", "containers"), *sidecars):
        for port in meta.items(container, "ports"):
            if port.get("hostPort"):
                yield port.get("protocol", "TCP"), port.get("hostIP") or "0.0.0.0", port["hostPort"]


def ports_collide(one: HostPort, other: HostPort) -> bool:
    (protocol, address, port), (protocol2, address2, port2) = one, other
    any_address = "0.0.0.0" in (address, address2)
    return protocol == protocol2 and port == port2 and (any_address or address == address2)


def fits(requested: Mapping[str, int], used: Mapping[str, int], allocatable: Mapping[str, int]) -> Iterable[str]:
    """The resources that are not enough for the request."""
    for name, amount in requested.items():
        if amount > 0 and used.get(name, 0) + amount > allocatable.get(name, 0):
            yield name

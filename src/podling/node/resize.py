"""Resizing pods in place: what is wanted, what the node has granted, and what is in force. Pure.

Three states follow each other (KEP-1287). The spec says what is wanted; `allocated`, by container, is what the node has
granted and counts for other pods; a running container's `resources` are what its control group holds. A wish that the
node cannot grant is `Infeasible` (never) or `Deferred` (not now); one that is granted and not yet in force is "in
progress".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from podling.api import meta
from podling.api.podresources import amounts, pod_requests
from podling.node.admission import Holding, shortage
from podling.node.state import Role, Slot, Waiting, containers_of, part
from podling.sandbox.spec import Limits
from podling.store.types import Object

POD = ""
"""The key of the pod's own resources among those of its containers."""

_LISTS = ("initContainers", "containers")
_SCALES = {"cpu": 10**6, "memory": 10**9}


def wanted(pod: Object) -> dict[str, Object]:
    """The resources of the spec, by container."""
    found = {container["name"]: part(container, "resources") for container, _ in containers_of(pod)}
    return {**found, POD: part(meta.spec(pod), "resources")}


def granted(pod: Object, allocated: Mapping[str, Object]) -> Object:
    """The pod with what it has been granted instead of what it wants; the same object where that is equal."""
    if all(allocated.get(name, resources) == resources for name, resources in wanted(pod).items()):
        return pod
    spec = dict(meta.spec(pod))
    for key in _LISTS:
        if spec.get(key):
            spec[key] = [{**c, "resources": allocated.get(c["name"], part(c, "resources"))} for c in spec[key]]
    if allocated.get(POD):
        spec["resources"] = allocated[POD]
    return {**pod, "spec": spec}


def verdict(pod: Object, node: Object, others: Sequence[Holding]) -> Waiting | None:
    """Why the node does not grant what the pod wants; `None` when it does."""
    allocatable = amounts(meta.status(node).get("allocatable") or {})
    requests = pod_requests(pod)
    for name, scale in _SCALES.items():
        if name in allocatable and requests.get(name, 0) > allocatable[name]:
            numbers = f"requested: {-(-requests[name] // scale)}, capacity: {allocatable[name] // scale}"
            return Waiting("Infeasible", f"Node didn't have enough capacity: {name}, {numbers}")
    short = shortage(pod, node, others)
    return Waiting("Deferred", short.message) if short is not None else None


def unfinished(slot: Slot, container: Object) -> bool:
    """Whether a running container has other resources than it was granted."""
    run = slot.current
    return (
        slot.running and run is not None and run.resources is not None and run.resources != part(container, "resources")
    )


def needs_restart(slot: Slot, container: Object) -> bool:
    """Whether its `resizePolicy` lets the container have its new resources only in a new run."""
    run = slot.current
    before: Object = (run.resources if run is not None else None) or {}
    changed = {
        name
        for kind in ("requests", "limits")
        for name in ("cpu", "memory")
        if part(before, kind).get(name) != part(part(container, "resources"), kind).get(name)
    }
    policies: Sequence[Object] = container.get("resizePolicy") or ()
    return any(p["resourceName"] in changed and p["restartPolicy"] == "RestartContainer" for p in policies)


def between(before: Limits, after: Limits) -> Limits:
    """What a pod's group must have while its containers go from one to the other: the greater of both."""
    held = cast("dict[str, int]", before)
    wider = {name: max(value, held.get(name, 0)) for name, value in cast("dict[str, int]", after).items()}
    return cast(Limits, wider)


def summary(text: str, pod: Object, error: str = "") -> str:
    """The event's message: the granted resources of the containers that can be resized."""
    groups: dict[str, list[dict[str, Any]]] = {"initContainers": [], "containers": []}
    for container, role in containers_of(pod):
        if role in (Role.SIDECAR, Role.MAIN):
            key = "initContainers" if role is Role.SIDECAR else "containers"
            groups[key].append({"name": container["name"], "resources": _sorted(part(container, "resources"))})
    body: dict[str, Any] = {key: entries for key, entries in groups.items() if entries}
    body["generation"] = meta.generation(pod)
    if error:
        body["error"] = error
    return f"{text}: {orjson.dumps(body).decode()}"


def _sorted(resources: Object) -> Object:
    return {kind: dict(sorted(resources[kind].items())) for kind in ("limits", "requests") if resources.get(kind)}

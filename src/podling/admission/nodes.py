"""TaintNodesByCondition, PodTopologyLabels and PodResizeValidator: what nodes begin with, what their pods take over
from them, and how far these may grow there."""

from __future__ import annotations

from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.errors import ApiError
from podling.api.podresources import Amounts, amounts, pod_requests
from podling.api.resources import Write
from podling.store.types import Object

NOT_READY: Object = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def taint_new_nodes(write: Write) -> None:
    """A node gets no pods before the node lifecycle controller has seen that it is ready."""
    if write.operation != "CREATE" or write.subresource or write.resource.group_resource != "nodes":
        return
    taints = meta.items(write.new, "spec", "taints")
    if not any(t.get("key") == NOT_READY["key"] and t.get("effect") == NOT_READY["effect"] for t in taints):
        write.new["spec"] = {**meta.spec(write.new), "taints": [*taints, {**NOT_READY}]}


def topology_labels(write: Write) -> None:
    """A pod that has a node tells by its labels in which zone and region it runs (KEP-4742)."""
    if write.resource.group_resource != "pods" or not (write.operation == "CREATE" or write.subresource == "binding"):
        return
    name = meta.spec(write.new).get("nodeName")
    node = write.reader.get("nodes", "", name) if name else None
    found = {key: value for key, value in meta.labels(node or {}).items() if key in TOPOLOGY}
    if found:
        write.new["metadata"]["labels"] = {**meta.labels(write.new), **found}


def check_resize(write: Write) -> None:
    """PodResizeValidator: a pod does not grow beyond its node."""
    old = write.old
    if write.resource.group_resource != "pods" or write.subresource != "resize" or old is None:
        return
    name = meta.spec(write.new).get("nodeName")
    if not name or meta.generation(old) == meta.generation(write.new):
        return
    node = write.reader.get("nodes", "", name)
    if node is None:
        raise refuse(write, f'node "{name}" not found')
    system = meta.labels(node).get("kubernetes.io/os", "linux")
    if system != "linux":
        why = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
        raise _because(refuse(write, why), "UnsupportedPlatform")
    short = _beyond(pod_requests(write.new), amounts(meta.status(node).get("allocatable") or {}))
    if short:
        why = f"node didn't have enough allocatable resources: {'; '.join(short)}"
        raise _because(refuse(write, why), "NodeCapacity")


_UNITS = {"cpu": 10**6, "memory": 10**9}
"""Thousandths of a core, and bytes."""


def _beyond(requests: Amounts, allocatable: Amounts) -> list[str]:
    return [
        f"{name}, requested: {-(-requests[name] // unit)}, allocatable: {-(-allocatable.get(name, 0) // unit)}"
        for name, unit in _UNITS.items()
        if requests.get(name, 0) > allocatable.get(name, 0)
    ]


def _because(error: ApiError, reason: str) -> ApiError:
    return ApiError(error.code, error.reason, error.message, {**(error.details or {}), "causes": [{"reason": reason}]})

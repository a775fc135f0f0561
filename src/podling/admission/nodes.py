"""TaintNodesByCondition, and PodTopologyLabels: what nodes begin with, and what their pods take over from them."""

from __future__ import annotations

from podling.api import meta
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
    """A pod that is bound tells by its labels in which zone and region it runs (KEP-4742)."""
    if write.resource.group_resource != "pods" or write.subresource != "binding":
        return
    node = write.reader.get("nodes", "", meta.spec(write.new).get("nodeName", ""))
    found = {key: value for key, value in meta.labels(node or {}).items() if key in TOPOLOGY}
    if found:
        write.new["metadata"]["labels"] = {**meta.labels(write.new), **found}

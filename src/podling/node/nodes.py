"""The kubelets of this machine, by the names of their nodes: what the API server reaches by dialling the node.

A node that is stopped does not answer, and whoever asks it for logs or a shell is told so in the API server's words.
"""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import meta
from podling.api.errors import ApiError, internal, not_found
from podling.api.resources import Reader
from podling.node.node import Node
from podling.node.node_status import KUBELET_PORT
from podling.node.stats import PodMetrics
from podling.store.types import Object


class Nodes:
    """Which kubelets run."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._running: dict[str, Node] = {}

    def add(self, name: str, node: Node) -> None:
        self._running[name] = node

    def remove(self, name: str) -> None:
        self._running.pop(name, None)

    def pods_beside(self, name: str) -> Sequence[Sequence[PodMetrics]]:
        """What the pods of each other node used lately: nothing where its kubelet has not measured yet."""
        found = [node.metrics for other, node in self._running.items() if other != name]
        return [() if metrics is None else metrics.pods for metrics in found]

    def get(self, name: str) -> Node | None:
        return self._running.get(name)

    def of_pod(self, pod: Object) -> Node:
        """The kubelet of the pod's node. Raises `ApiError` as an API server that dials in vain."""
        name: str = meta.spec(pod).get("nodeName", "")
        node = self._running.get(name)
        if node is None:
            raise internal(f"error dialing backend: {self.silence(name)}")
        return node

    def silence(self, name: str) -> str:
        """What is seen of a node that does not answer. Raises `ApiError` 404 for one that is none."""
        node = self._reader.get("nodes", "", name)
        if node is None:
            raise not_found("nodes", "", name)
        addresses = meta.items(node, "status", "addresses")
        ip = next((a["address"] for a in addresses if a["type"] == "InternalIP"), name)
        return f"dial tcp {ip}:{KUBELET_PORT}: connect: no route to host"


def unavailable(silence: str) -> ApiError:
    """What the proxy of the API server answers where nobody answers it."""
    return ApiError(503, "ServiceUnavailable", f"error trying to reach service: {silence}")

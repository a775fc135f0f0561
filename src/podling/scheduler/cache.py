"""The cluster as the scheduler knows it: nodes with their pods, kept up to date by changes, one by one.

A pod that was decided for a node counts there at once (*assumed*), before the binding is committed, so that the next
decision sees it. Sums are kept, never counted anew, so that a decision costs the same with one pod or five hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podling.api import meta
from podling.api.client import Client
from podling.api.podresources import Amounts, add, amounts, pod_requests
from podling.controllers.runtime import ObjectKey, key_of
from podling.scheduler.framework import NodeInfo, Snapshot
from podling.store.types import Object

CLAIMS = "persistentvolumeclaims"
VOLUMES = "persistentvolumes"
CLASSES = "storageclasses.storage.k8s.io"
BUDGETS = "poddisruptionbudgets.policy"


class StoredVolumes:
    """Storage objects, read from the committed state."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def claim(self, namespace: str, name: str) -> Object | None:
        return self._client.get(CLAIMS, namespace, name)

    def volume(self, name: str) -> Object | None:
        return self._client.get(VOLUMES, "", name)

    def storage_class(self, name: str) -> Object | None:
        return self._client.get(CLASSES, "", name)

    def all_volumes(self) -> Sequence[Object]:
        return self._client.list(VOLUMES)


class _Place:
    """What is on one node (which may not exist yet, or no longer)."""

    def __init__(self) -> None:
        self.pods: dict[ObjectKey, Object] = {}
        self.requested: Amounts = {}
        self._info: NodeInfo | None = None

    def put(self, key: ObjectKey, pod: Object) -> None:
        if key not in self.pods:
            add(self.requested, pod_requests(pod))
        elif meta.spec(self.pods[key]) != meta.spec(pod):
            self.take(key)
            add(self.requested, pod_requests(pod))
        self.pods[key] = pod
        self._info = None

    def take(self, key: ObjectKey) -> None:
        pod = self.pods.pop(key, None)
        if pod is not None:
            self._info = None
            add(self.requested, {name: -amount for name, amount in pod_requests(pod).items()})

    def info(self, node: Object, allocatable: Amounts) -> NodeInfo:
        """The same as the last time as long as neither node nor pods have changed."""
        if self._info is None or self._info.node is not node:
            self._info = NodeInfo(node, tuple(self.pods.values()), dict(self.requested), allocatable)
        return self._info


class Cache:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._volumes = StoredVolumes(client)
        self._nodes: dict[str, tuple[Object, Amounts]] = {}
        self._places: dict[str, _Place] = {}
        self._where: dict[ObjectKey, str] = {}
        self._nominated: dict[ObjectKey, Object] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}

    def put_node(self, node: Object) -> None:
        self._nodes[meta.name(node)] = (node, amounts(meta.part(node, "status", "allocatable")))

    def remove_node(self, name: str) -> None:
        self._nodes.pop(name, None)

    def put_pod(self, pod: Object, node: str) -> None:
        """The pod is on the node, or is assumed to be."""
        key = key_of(pod)
        if self._where.get(key, node) != node:
            self.remove_pod(key)
        self._where[key] = node
        self._nominated.pop(key, None)
        self._places.setdefault(node, _Place()).put(key, pod)

    def remove_pod(self, key: ObjectKey) -> bool:
        """Whether the pod was on a node."""
        self._nominated.pop(key, None)
        node = self._where.pop(key, None)
        if node is None:
            return False
        self._places[node].take(key)
        return True

    def nominate(self, pod: Object) -> None:
        """Remembers the node on which an unassigned pod has made room, if any."""
        if meta.status(pod).get("nominatedNodeName"):
            self._nominated[key_of(pod)] = pod
        else:
            self._nominated.pop(key_of(pod), None)

    def assigned(self, key: ObjectKey) -> bool:
        return key in self._where

    def snapshot(self) -> Snapshot:
        nominated: dict[str, list[Object]] = {}
        for pod in self._nominated.values():
            nominated.setdefault(meta.status(pod)["nominatedNodeName"], []).append(pod)
        return Snapshot(
            nodes=[self._info(name) for name in sorted(self._nodes)],
            volumes=self._volumes,
            namespaces=self.namespaces,
            nominated=nominated,
            budgets=self._client.list(BUDGETS),
        )

    def _info(self, name: str) -> NodeInfo:
        node, allocatable = self._nodes[name]
        return self._places.setdefault(name, _Place()).info(node, allocatable)

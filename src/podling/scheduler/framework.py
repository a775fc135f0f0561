"""The values of a scheduling decision. Nothing here does I/O or knows the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from podling.api import meta
from podling.api.podresources import Amounts, add, amounts, pod_requests
from podling.store.types import Object

_BETWEEN_PODS = frozenset({"podAffinity", "podAntiAffinity"})


def priority(pod: Object) -> int:
    return meta.spec(pod).get("priority") or 0


@dataclass(frozen=True, slots=True)
class Kin:
    """The pods of one namespace on one node with the same labels, as those of one ReplicaSet are."""

    namespace: str
    labels: Mapping[str, str]
    count: int
    leaving: int
    """How many of them are being deleted."""


@dataclass(frozen=True)
class NodeInfo:
    """A node and the pods that are or will be on it. Immutable: `with_pods` makes another.

    What follows from the pods is worked out once: a decision changes one node, and asks all.
    """

    node: Object
    pods: tuple[Object, ...] = ()
    requested: Amounts = field(default_factory=dict[str, int])
    allocatable: Amounts = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, node: Object, pods: Iterable[Object]) -> NodeInfo:
        held = tuple(pods)
        requested: Amounts = {}
        for pod in held:
            add(requested, pod_requests(pod))
        return cls(node, held, requested, amounts(meta.part(node, "status", "allocatable")))

    def with_pods(self, pods: Iterable[Object]) -> NodeInfo:
        return NodeInfo.of(self.node, pods)

    @property
    def name(self) -> str:
        return meta.name(self.node)

    @cached_property
    def choosy(self) -> Sequence[Object]:
        """The pods that have an affinity or anti-affinity to other pods."""
        return [pod for pod in self.pods if meta.part(pod, "spec", "affinity").keys() & _BETWEEN_PODS]

    @cached_property
    def kin(self) -> Sequence[Kin]:
        groups: dict[tuple[str, frozenset[tuple[str, str]]], list[Object]] = {}
        for pod in self.pods:
            groups.setdefault((meta.namespace(pod), frozenset(meta.labels(pod).items())), []).append(pod)
        return [
            Kin(namespace, meta.labels(pods[0]), len(pods), sum(map(meta.deleting, pods)))
            for (namespace, _), pods in groups.items()
        ]


class Volumes(Protocol):
    """What the filters ask about storage."""

    def claim(self, namespace: str, name: str) -> Object | None: ...

    def volume(self, name: str) -> Object | None: ...

    def storage_class(self, name: str) -> Object | None: ...

    def all_volumes(self) -> Sequence[Object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The cluster as one decision sees it."""

    nodes: Sequence[NodeInfo]
    volumes: Volumes
    namespaces: Mapping[str, Mapping[str, str]]
    """The labels of each namespace."""
    nominated: Mapping[str, Sequence[Object]] = field(default_factory=dict[str, Sequence[Object]])
    """Pods that made room on a node by preemption and wait for it, by node name."""
    budgets: Sequence[Object] = ()
    """The PodDisruptionBudgets."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a node will not do. `final`: no removal of other pods would help."""

    reasons: tuple[str, ...]
    plugin: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Bind:
    """The pod goes to this node."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Preempt:
    """These pods go so that the pod can come; it is tried again when they are gone."""

    node: str
    victims: tuple[Object, ...]
    message: str
    plugins: frozenset[str]


@dataclass(frozen=True, slots=True)
class Wait:
    """No node will do. `message` is what the pod's owner reads; `plugins` are those that said no."""

    message: str
    plugins: frozenset[str]
    clear_nomination: bool = False


Answer = Bind | Preempt | Wait

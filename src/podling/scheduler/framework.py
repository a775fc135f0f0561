"""The values of a scheduling decision. Nothing here does I/O or knows the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from podling.api import meta
from podling.api.podresources import Amounts, add, amounts, pod_requests
from podling.store.types import Object


def priority(pod: Object) -> int:
    return meta.spec(pod).get("priority") or 0


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node and the pods that are or will be on it. Immutable: `with_pods` makes another."""

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

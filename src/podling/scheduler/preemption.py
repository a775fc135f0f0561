"""Which pods give way to one of higher priority, on which node: pure.

On each node that other pods keep from the pod, all pods of lower priority are taken away in thought; if then it
fits, as many as possible are put back, those under a disruption budget and those of higher priority first. The node
where the loss is least wins. Source: "Pod Priority and Preemption".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.scheduler.framework import NodeInfo, Rejection, priority
from podling.store.types import Object

Check = Callable[[NodeInfo], Rejection | None]
"""Why the pod does not fit on such a node."""
NOBODY = Rejection(("No preemption victims found for incoming pod",), "DefaultPreemption", final=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    node: str
    victims: tuple[Object, ...]
    """Highest priority first."""
    violations: int
    """How many of them a PodDisruptionBudget should have kept."""


def ineligible(pod: Object, nodes: Sequence[NodeInfo], rejections: Mapping[str, Rejection]) -> str | None:
    """Why this pod may not preempt at all, or `None`."""
    if meta.spec(pod).get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    nominated: str = meta.status(pod).get("nominatedNodeName") or ""
    if nominated in rejections and rejections[nominated].final:
        return None
    for info in nodes:
        if info.name == nominated and any(_gives_way(p) and priority(p) < priority(pod) for p in info.pods):
            return "not eligible due to a terminating pod on the nominated node."
    return None


def _gives_way(pod: Object) -> bool:
    """Whether it is on its way out because of a preemption."""
    told = meta.condition(pod, "DisruptionTarget") or {}
    return meta.deleting(pod) and (told.get("status"), told.get("reason")) == ("True", "PreemptionByScheduler")


def candidate(pod: Object, info: NodeInfo, budgets: Sequence[Object], check: Check) -> Candidate | Rejection:
    """The least loss on this node, or why taking pods away does not help."""
    lower = [p for p in info.pods if priority(p) < priority(pod)]
    kept = [p for p in info.pods if priority(p) >= priority(pod)]
    if not lower:
        return NOBODY
    if (rejection := check(info.with_pods(kept))) is not None:
        return rejection
    protected, free = _by_budget(_most_important_first(lower), budgets)
    victims: list[Object] = []
    violations = 0
    for group in (protected, free):
        for other in group:
            if check(info.with_pods([*kept, other])) is None:
                kept.append(other)
            else:
                victims.append(other)
                violations += group is protected
    return Candidate(node=info.name, victims=tuple(_most_important_first(victims)), violations=violations)


def _most_important_first(pods: Iterable[Object]) -> list[Object]:
    return sorted(pods, key=lambda p: (-priority(p), meta.status(p).get("startTime") or "~"))


def _by_budget(pods: Sequence[Object], budgets: Sequence[Object]) -> tuple[list[Object], list[Object]]:
    """Those whose disruption a budget no longer allows, and the others."""
    allowed = [meta.status(b).get("disruptionsAllowed", 0) for b in budgets]
    protected: list[Object] = []
    free: list[Object] = []
    for pod in pods:
        violated = False
        for index, budget in enumerate(budgets):
            if _covers(budget, pod):
                allowed[index] -= 1
                violated = violated or allowed[index] < 0
        (protected if violated else free).append(pod)
    return protected, free


def _covers(budget: Object, pod: Object) -> bool:
    selector = meta.spec(budget).get("selector")
    disrupted = meta.part(budget, "status", "disruptedPods")
    return (
        meta.namespace(budget) == meta.namespace(pod)
        and bool(selector)
        and bool(meta.labels(pod))
        and meta.matches_selector(selector, meta.labels(pod))
        and meta.name(pod) not in disrupted
    )


def least_loss(candidates: Sequence[Candidate]) -> Candidate | None:
    """Fewest budget violations; then the lowest highest priority, the lowest sum, the fewest, the latest started."""
    return min(candidates, key=_loss, default=None)


def _loss(found: Candidate) -> tuple[int, int, int, int, list[int], str]:
    priorities = [priority(p) for p in found.victims]
    top = max(priorities, default=-(2**31))
    started = min((meta.status(p).get("startTime") or "" for p in found.victims if priority(p) == top), default="")
    return (
        found.violations,
        top,
        sum(p + 2**31 for p in priorities),
        len(priorities),
        [-ord(c) for c in started],
        found.node,
    )

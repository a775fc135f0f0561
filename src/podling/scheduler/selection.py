"""One scheduling decision: filters, then scores, and preemption where no node will do. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from podling.api import meta
from podling.scheduler import preemption
from podling.scheduler.filters import Attempt, check, unready_claim, wanted_nodes
from podling.scheduler.framework import Answer, Bind, NodeInfo, Preempt, Rejection, Snapshot, Wait, priority
from podling.scheduler.queue import NO_NODES
from podling.scheduler.scores import best
from podling.store.types import Object

UNNAMED = Rejection(("node(s) didn't satisfy plugin(s) [NodeAffinity]",), "NodeAffinity", final=True)
"""What is said of nodes that the pod leaves out by name."""


def decide(pod: Object, snapshot: Snapshot) -> Answer:
    """Where the pod goes, whom it displaces, or why it must wait."""
    total = len(snapshot.nodes)
    if not total:
        return Wait("no nodes available to schedule pods", NO_NODES)
    problem = unready_claim(pod, snapshot)
    if problem is not None:
        # Ended before the plugins that come later have any state, which is what "not found" says.
        return Wait(f"0/{total} nodes are available: {problem}. not found", frozenset({"VolumeBinding"}))
    named = wanted_nodes(pod)
    if named is not None and not named:
        message = f"0/{total} nodes are available: pod affinity terms conflict. not found"
        return Wait(message, frozenset({"NodeAffinity"}))
    attempt = Attempt.of(pod, snapshot)
    rejections = {
        info.name: _check_with_nominated(attempt, info) if named is None or info.name in named else UNNAMED
        for info in snapshot.nodes
    }
    possible = [info for info in snapshot.nodes if rejections[info.name] is None]
    if possible:
        return _bind(attempt, possible)
    return _no_node(attempt, {name: r for name, r in rejections.items() if r is not None})


def _bind(attempt: Attempt, possible: Sequence[NodeInfo]) -> Bind:
    nominated = meta.status(attempt.pod).get("nominatedNodeName")
    for info in possible:
        if info.name == nominated:
            return Bind(info.name, "room was made for it there")
    chosen = best(attempt, possible)
    total = len(attempt.snapshot.nodes)
    return Bind(chosen.name, f"{len(possible)} of {total} nodes will do" if total > 1 else "the node will do")


def _check_with_nominated(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    """With and without the pods that made room there: they may come, and they may not."""
    waiting = [
        p
        for p in attempt.snapshot.nominated.get(info.name, ())
        if meta.uid(p) != meta.uid(attempt.pod) and priority(p) >= priority(attempt.pod)
    ]
    if waiting:
        crowded = _replaced(attempt, info.with_pods([*info.pods, *waiting]))
        rejection = check(crowded, next(i for i in crowded.snapshot.nodes if i.name == info.name))
        if rejection is not None:
            return rejection
    return check(attempt, info)


def _replaced(attempt: Attempt, info: NodeInfo) -> Attempt:
    """The attempt in a cluster where that node has other pods."""
    old = attempt.snapshot
    nodes = [info if i.name == info.name else i for i in old.nodes]
    snapshot = Snapshot(
        nodes=nodes, volumes=old.volumes, namespaces=old.namespaces, nominated=old.nominated, budgets=old.budgets
    )
    return Attempt.of(attempt.pod, snapshot)


def _no_node(attempt: Attempt, rejections: Mapping[str, Rejection]) -> Answer:
    total = len(attempt.snapshot.nodes)
    plugins = frozenset(r.plugin for r in rejections.values())
    summary = f"0/{total} nodes are available: {_histogram(r.reasons for r in rejections.values())}."
    refusal = preemption.ineligible(attempt.pod, attempt.snapshot.nodes, rejections)
    if refusal is not None:
        return Wait(f"{summary} no new claims to deallocate, preemption: {refusal}", plugins)
    found = _candidates(attempt, rejections)
    chosen = preemption.least_loss([c for c in found.values() if isinstance(c, preemption.Candidate)])
    if chosen is not None:
        return Preempt(chosen.node, chosen.victims, summary, plugins)
    helpless = {name: r.reasons for name, r in found.items() if isinstance(r, Rejection)}
    reasons = _histogram(helpless.get(name, _UNHELPFUL) for name in rejections)
    message = f"{summary} no new claims to deallocate, preemption: 0/{total} nodes are available: {reasons}."
    return Wait(message, plugins, clear_nomination=True)


_UNHELPFUL = ("Preemption is not helpful for scheduling",)


def _histogram(reasons: Iterable[Sequence[str]]) -> str:
    """`1 Insufficient cpu, 2 node(s) were unschedulable`, in the order of the texts."""
    counts = Counter(reason for group in reasons for reason in group)
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


def _candidates(attempt: Attempt, rejections: Mapping[str, Rejection]) -> dict[str, preemption.Candidate | Rejection]:
    """What preemption comes to on each node where it may help."""

    def look(info: NodeInfo) -> Rejection | None:
        return _check_with_nominated(_replaced(attempt, info), info)

    return {
        info.name: preemption.candidate(attempt.pod, info, attempt.snapshot.budgets, look)
        for info in attempt.snapshot.nodes
        if not rejections[info.name].final
    }

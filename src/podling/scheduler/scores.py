"""Which of the possible nodes is best: the scores of the default profile, each from 0 to 100, weighted and added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from podling.api import meta
from podling.controllers.placing import matches_node_term
from podling.controllers.tolerating import pod_tolerates
from podling.scheduler.filters import Attempt, spread_selector, taints, term_matches
from podling.scheduler.framework import NodeInfo
from podling.store.types import Object

MAX_SCORE = 100.0
DEFAULT_MILLI_CPU = 100 * 10**6
DEFAULT_MEMORY = 200 * 1024 * 1024 * 10**9
"""What a pod without requests counts as, so that such pods, too, are spread."""

Scores = Sequence[float]
Scorer = Callable[[Attempt, Sequence[NodeInfo]], Scores]


def normalized(raw: Scores, *, reverse: bool = False) -> list[float]:
    """Scaled so that the greatest is 100; reversed, so that the greatest is 0."""
    top = max(raw, default=0.0)
    if top <= 0:
        return [MAX_SCORE if reverse else 0.0] * len(raw)
    scaled = [value * MAX_SCORE / top for value in raw]
    return [MAX_SCORE - value for value in scaled] if reverse else scaled


def stretched(raw: Scores) -> list[float]:
    """Scaled so that the least is 0 and the greatest 100; all 0 if they are equal."""
    low, high = min(raw, default=0.0), max(raw, default=0.0)
    if low == high:
        return [0.0] * len(raw)
    return [(value - low) * MAX_SCORE / (high - low) for value in raw]


def _fractions(attempt: Attempt, info: NodeInfo) -> list[float]:
    """The share of cpu and memory that would be requested on the node."""
    shares: list[float] = []
    for name, default in (("cpu", DEFAULT_MILLI_CPU), ("memory", DEFAULT_MEMORY)):
        allocatable = info.allocatable.get(name, 0)
        if allocatable:
            wanted = attempt.requests.get(name, 0) or default
            shares.append(min(1.0, (info.requested.get(name, 0) + wanted) / allocatable))
    return shares


def least_allocated(attempt: Attempt, infos: Sequence[NodeInfo]) -> Scores:
    scores: list[float] = []
    for info in infos:
        shares = _fractions(attempt, info)
        scores.append(sum(1 - s for s in shares) / len(shares) * MAX_SCORE if shares else 0.0)
    return scores


def balanced_allocation(attempt: Attempt, infos: Sequence[NodeInfo]) -> Scores:
    return [(1 - _deviation(_fractions(attempt, info))) * MAX_SCORE for info in infos]


def _deviation(shares: Sequence[float]) -> float:
    if not shares:
        return 0.0
    mean = sum(shares) / len(shares)
    return sqrt(sum((s - mean) ** 2 for s in shares) / len(shares))


def image_locality(attempt: Attempt, infos: Sequence[NodeInfo]) -> Scores:
    """Nodes that have the pod's images already, by their size; below 23 MB an image does not count."""
    wanted = {c["image"] for c in meta.items(attempt.pod, "spec", "containers") if c.get("image")}
    low, high = 23 * 2**20, 1000 * 2**20 * max(1, len(wanted))
    sizes = [
        sum(
            image.get("sizeBytes", 0)
            for image in meta.items(info.node, "status", "images")
            if wanted.intersection(image.get("names") or ())
        )
        for info in infos
    ]
    return [(min(max(size, low), high) - low) * MAX_SCORE / (high - low) for size in sizes]


def taint_toleration(attempt: Attempt, infos: Sequence[NodeInfo]) -> Scores:
    soft = [
        float(sum(t.get("effect") == "PreferNoSchedule" and not pod_tolerates(attempt.pod, t) for t in taints(i.node)))
        for i in infos
    ]
    return normalized(soft, reverse=True)


def node_affinity(attempt: Attempt, infos: Sequence[NodeInfo]) -> Scores:
    affinity = meta.part(attempt.pod, "spec", "affinity", "nodeAffinity")
    preferred = meta.items(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
    raw = [
        float(sum(p["weight"] for p in preferred if matches_node_term(p["preference"], info.node))) for info in infos
    ]
    return normalized(raw)


def _preferred_terms(pod: Object) -> list[tuple[int, Object]]:
    """Weighted terms; those of anti-affinity count against."""
    field = "preferredDuringSchedulingIgnoredDuringExecution"
    terms: list[tuple[int, Object]] = []
    for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for item in meta.items(pod, "spec", "affinity", kind, field):
            terms.append((sign * item["weight"], item["podAffinityTerm"]))
    return terms


def inter_pod_affinity(attempt: Attempt, infos: Sequence[NodeInfo]) -> Scores:
    """The pod's own preferences, and those that running pods have for it."""
    pod, names = attempt.pod, attempt.snapshot.namespaces
    weights: dict[tuple[str, str], float] = {}
    own = _preferred_terms(pod)
    for info in attempt.snapshot.nodes:
        labels = meta.labels(info.node)
        found = [(w, t) for w, t in own for other in info.pods if term_matches(t, pod, other, names)]
        for other in info.choosy:
            found += [(w, t) for w, t in _preferred_terms(other) if term_matches(t, other, pod, names)]
        for weight, term in found:
            key: str = term["topologyKey"]
            if key in labels:
                weights[key, labels[key]] = weights.get((key, labels[key]), 0.0) + weight
    return stretched(
        [sum(w for (key, value), w in weights.items() if meta.labels(i.node).get(key) == value) for i in infos]
    )


_DEFAULT_SPREAD: tuple[Object, ...] = (
    {"topologyKey": "kubernetes.io/hostname", "maxSkew": 3},
    {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 5},
)


def topology_spread(attempt: Attempt, infos: Sequence[NodeInfo]) -> Scores:
    """Fewer matching pods in the node's domains is better: by the pod's soft constraints, else by its labels."""
    pod = attempt.pod
    constraints: list[Object] = [
        c
        for c in meta.items(pod, "spec", "topologySpreadConstraints")
        if c.get("whenUnsatisfiable") == "ScheduleAnyway"
    ]
    if not constraints and meta.controller_reference(pod) is not None:
        selector = {"matchLabels": dict(meta.labels(pod))}
        constraints = [{**c, "labelSelector": selector} for c in _DEFAULT_SPREAD]
    raw = [0.0] * len(infos)
    for constraint in constraints:
        counts = _matching_by_domain(attempt, constraint)
        for index, info in enumerate(infos):
            raw[index] += counts.get(meta.labels(info.node).get(constraint["topologyKey"], ""), 0)
    return normalized(raw, reverse=True)


def _matching_by_domain(attempt: Attempt, constraint: Object) -> dict[str, int]:
    selector = spread_selector(constraint, attempt.pod)
    counts: dict[str, int] = {}
    for info in attempt.snapshot.nodes:
        domain = meta.labels(info.node).get(constraint["topologyKey"])
        if domain is not None:
            counts[domain] = counts.get(domain, 0) + sum(
                kin.count
                for kin in info.kin
                if kin.namespace == meta.namespace(attempt.pod) and meta.matches_selector(selector, kin.labels)
            )
    return counts


SCORERS: tuple[tuple[Scorer, int], ...] = (
    (taint_toleration, 3),
    (node_affinity, 2),
    (topology_spread, 2),
    (inter_pod_affinity, 2),
    (least_allocated, 1),
    (balanced_allocation, 1),
    (image_locality, 1),
)
"""With the weights of the default profile."""


def best(attempt: Attempt, infos: Sequence[NodeInfo]) -> NodeInfo:
    """The node with the highest sum; of equals the one with fewer pods, then the first by name."""
    if len(infos) == 1:
        return infos[0]
    totals = [0.0] * len(infos)
    for scorer, weight in SCORERS:
        for index, score in enumerate(scorer(attempt, infos)):
            totals[index] += weight * score
    order = sorted(range(len(infos)), key=lambda i: (-totals[i], len(infos[i].pods), infos[i].name))
    return infos[order[0]]

"""On which nodes a pod may run: the filters of the default profile, as pure functions.

`before` rules look at the pod alone and can end the attempt; `FILTERS` look at one node each, in Kubernetes' order,
and the first that says no names the reasons. The texts are those that kube-scheduler prints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.api.podresources import Amounts, fits, host_ports, pod_requests, ports_collide
from podling.controllers.placing import matches_node, matches_node_selector
from podling.controllers.pods import claims_of
from podling.controllers.tolerating import pod_tolerates
from podling.scheduler.framework import NodeInfo, Rejection, Snapshot
from podling.store.types import Object

UNSCHEDULABLE_TAINT: Object = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One pod's try, with what the filters need to know once for all nodes."""

    pod: Object
    snapshot: Snapshot
    requests: Amounts
    spread: Sequence[SpreadState]
    affinity: AffinityState

    @classmethod
    def of(cls, pod: Object, snapshot: Snapshot) -> Attempt:
        return cls(
            pod=pod,
            snapshot=snapshot,
            requests=pod_requests(pod),
            spread=[SpreadState.of(c, pod, snapshot) for c in hard_constraints(pod)],
            affinity=AffinityState.of(pod, snapshot),
        )


Filter = Callable[[Attempt, NodeInfo], Rejection | None]


# Taints and tolerations


def node_unschedulable(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    if meta.spec(info.node).get("unschedulable") and not pod_tolerates(attempt.pod, UNSCHEDULABLE_TAINT):
        return Rejection(("node(s) were unschedulable",), "NodeUnschedulable", final=True)
    return None


def taints(node: Object) -> Sequence[Object]:
    return meta.items(node, "spec", "taints")


def taint_toleration(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    for taint in taints(info.node):
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not pod_tolerates(attempt.pod, taint):
            return Rejection(("node(s) had untolerated taint(s)",), "TaintToleration", final=True)
    return None


# Node affinity


def wanted_nodes(pod: Object) -> frozenset[str] | None:
    """The names of the only nodes that the required node affinity leaves; `None` if it does not speak of names."""
    affinity = meta.part(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    named: set[str] = set()
    terms = meta.items(affinity, "nodeSelectorTerms")
    for term in terms:
        lists: list[frozenset[str]] = [
            frozenset(field["values"])
            for field in meta.items(term, "matchFields")
            if field["key"] == "metadata.name" and field["operator"] == "In"
        ]
        if not lists:
            return None
        named |= lists[0].intersection(*lists)
    return frozenset(named) if terms else None


def node_affinity(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    if matches_node(attempt.pod, info.node):
        return None
    return Rejection(("node(s) didn't match Pod's node affinity/selector",), "NodeAffinity", final=True)


# Ports and resources


def node_ports(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    wanted = list(host_ports(attempt.pod))
    if wanted and any(ports_collide(w, t) for pod in info.pods for t in host_ports(pod) for w in wanted):
        return Rejection(("node(s) didn't have free ports for the requested pod ports",), "NodePorts")
    return None


def node_resources(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    reasons: list[str] = []
    final = False
    pods = info.allocatable.get("pods", 0)
    if (len(info.pods) + 1) * 10**9 > pods:
        reasons.append("Too many pods")
    for name in fits(attempt.requests, info.requested, info.allocatable):
        reasons.append(f"Insufficient {name}")
        final = final or attempt.requests[name] > info.allocatable.get(name, 0)
    return Rejection(tuple(reasons), "NodeResourcesFit", final=final) if reasons else None


# Volumes


def is_bound(claim: Object) -> bool:
    annotations = meta.annotations(claim)
    return bool(meta.spec(claim).get("volumeName")) and "pv.kubernetes.io/bind-completed" in annotations


def waits_for_consumer(claim: Object, snapshot: Snapshot) -> bool:
    name = meta.spec(claim).get("storageClassName") or ""
    found = snapshot.volumes.storage_class(name) if name else None
    return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def unready_claim(pod: Object, snapshot: Snapshot) -> str | None:
    """Why the pod's claims forbid any node, or `None`."""
    named = [v["persistentVolumeClaim"]["claimName"] for v in _volumes(pod) if "persistentVolumeClaim" in v]
    for name in named:
        if snapshot.volumes.claim(meta.namespace(pod), name) is None:
            return f'persistentvolumeclaim "{name}" not found'
    claims = [(name, snapshot.volumes.claim(meta.namespace(pod), name)) for name in claims_of(pod)]
    problems = (_claim_problem(pod, name, claim, is_ephemeral=name not in named) for name, claim in claims)
    if problem := next(filter(None, problems), ""):
        return problem
    if any(c is not None and not is_bound(c) and not waits_for_consumer(c, snapshot) for _, c in claims):
        return "pod has unbound immediate PersistentVolumeClaims"
    return None


def _volumes(pod: Object) -> Sequence[Object]:
    return meta.items(pod, "spec", "volumes")


def _claim_problem(pod: Object, name: str, claim: Object | None, *, is_ephemeral: bool) -> str:
    if claim is None:
        return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
    if meta.status(claim).get("phase") == "Lost":
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{_volume_name(claim)}"'
    if meta.deleting(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    if is_ephemeral and not meta.controlled_by(claim, pod):
        where = f"{meta.namespace(pod)}/{meta.name(pod)}"
        return f"PVC {meta.namespace(pod)}/{name} was not created for pod {where} (pod is not owner)"
    return ""


def _volume_name(claim: Object) -> str:
    return meta.spec(claim).get("volumeName", "")


def volume_binding(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    found = (attempt.snapshot.volumes.claim(meta.namespace(attempt.pod), name) for name in claims_of(attempt.pod))
    claims = [claim for claim in found if claim is not None]
    bound = [claim for claim in claims if is_bound(claim)]
    reasons: list[str] = []
    volumes = [attempt.snapshot.volumes.volume(_volume_name(claim)) for claim in bound]
    if any(volume is not None and not volume_allows(volume, info.node) for volume in volumes):
        reasons.append("node(s) didn't match PersistentVolume's node affinity")
    if not all(_can_be_had(claim, attempt.snapshot, info) for claim in claims if claim not in bound):
        reasons.append("node(s) didn't find available persistent volumes to bind")
    if None in volumes:
        reasons.append("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
    return Rejection(tuple(reasons), "VolumeBinding", final=True) if reasons else None


def volume_allows(volume: Object, node: Object) -> bool:
    required = meta.part(volume, "spec", "nodeAffinity").get("required")
    return required is None or matches_node_selector(required, node)


def _can_be_had(claim: Object, snapshot: Snapshot, info: NodeInfo) -> bool:
    """Whether a claim that waits for its consumer could be bound or provisioned on this node."""
    storage_class = snapshot.volumes.storage_class(meta.spec(claim).get("storageClassName") or "")
    if storage_class is not None and storage_class.get("provisioner") != "kubernetes.io/no-provisioner":
        topologies = meta.items(storage_class, "allowedTopologies")
        return not topologies or any(_in_topology(t, info.node) for t in topologies)
    return any(
        volume_allows(volume, info.node)
        for volume in snapshot.volumes.all_volumes()
        if meta.status(volume).get("phase") == "Available"
        and meta.spec(volume).get("storageClassName") == meta.spec(claim).get("storageClassName")
    )


def _in_topology(term: Object, node: Object) -> bool:
    labels = meta.labels(node)
    return all(labels.get(e["key"]) in e["values"] for e in meta.items(term, "matchLabelExpressions"))


def volume_restrictions(attempt: Attempt, _info: NodeInfo) -> Rejection | None:
    """A ReadWriteOncePod claim serves one pod of the whole cluster at a time."""
    namespace = meta.namespace(attempt.pod)
    for name in claims_of(attempt.pod):
        claim = attempt.snapshot.volumes.claim(namespace, name)
        if claim is None or "ReadWriteOncePod" not in meta.spec(claim).get("accessModes", ()):
            continue
        pods = (pod for info in attempt.snapshot.nodes for pod in info.pods)
        if any(meta.namespace(pod) == namespace and name in claims_of(pod) for pod in pods):
            reason = (
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by "
                "another pod"
            )
            return Rejection((reason,), "VolumeRestrictions")
    return None


# Topology spread


def hard_constraints(pod: Object) -> list[Object]:
    found = meta.items(pod, "spec", "topologySpreadConstraints")
    return [c for c in found if c.get("whenUnsatisfiable") == "DoNotSchedule"]


def spread_selector(constraint: Object, pod: Object) -> Object | None:
    """The constraint's label selector, with the pod's own values for `matchLabelKeys`; without one: nothing."""
    selector: Object | None = constraint.get("labelSelector")
    if selector is None:
        return None
    labels = meta.labels(pod)
    more = [
        {"key": key, "operator": "In", "values": [labels[key]]}
        for key in constraint.get("matchLabelKeys") or ()
        if key in labels
    ]
    return {**selector, "matchExpressions": [*meta.items(selector, "matchExpressions"), *more]}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadState:
    """For one constraint: how many matching pods each domain has."""

    constraint: Object
    counts: Mapping[str, int]
    self_match: int

    @classmethod
    def of(cls, constraint: Object, pod: Object, snapshot: Snapshot) -> SpreadState:
        selector = spread_selector(constraint, pod)
        counts: Counter[str] = Counter()
        keys = {c["topologyKey"] for c in hard_constraints(pod)}
        for info in snapshot.nodes:
            labels = meta.labels(info.node)
            if any(key not in labels for key in keys) or not _counts_for_spread(constraint, pod, info.node):
                continue
            domain = labels[constraint["topologyKey"]]
            counts[domain] += sum(
                kin.count - kin.leaving
                for kin in info.kin
                if kin.namespace == meta.namespace(pod) and meta.matches_selector(selector, kin.labels)
            )
        self_match = int(meta.matches_selector(selector, meta.labels(pod)))
        return cls(constraint=constraint, counts=counts, self_match=self_match)

    def minimum(self) -> int:
        if len(self.counts) < (self.constraint.get("minDomains") or 1):
            return 0
        return min(self.counts.values(), default=0)


def _counts_for_spread(constraint: Object, pod: Object, node: Object) -> bool:
    """Whether the node's domain takes part (`nodeAffinityPolicy`, `nodeTaintsPolicy`)."""
    if constraint.get("nodeAffinityPolicy", "Honor") == "Honor" and not matches_node(pod, node):
        return False
    if constraint.get("nodeTaintsPolicy", "Ignore") == "Ignore":
        return True
    return all(pod_tolerates(pod, t) for t in taints(node) if t.get("effect") in ("NoSchedule", "NoExecute"))


SPREAD_REASON = "node(s) didn't match pod topology spread constraints"


def topology_spread(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    for state in attempt.spread:
        domain = meta.labels(info.node).get(state.constraint["topologyKey"])
        if domain is None:
            return Rejection((f"{SPREAD_REASON} (missing required label)",), "PodTopologySpread", final=True)
        skew = state.counts.get(domain, 0) + state.self_match - state.minimum()
        if skew > state.constraint["maxSkew"]:
            return Rejection((SPREAD_REASON,), "PodTopologySpread")
    return None


# Affinity between pods


def affinity_terms(pod: Object, kind: str) -> list[Object]:
    """The required terms of `podAffinity` or `podAntiAffinity`."""
    affinity = meta.part(pod, "spec", "affinity", kind)
    return list(meta.items(affinity, "requiredDuringSchedulingIgnoredDuringExecution"))


def term_matches(term: Object, owner: Object, pod: Object, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a term of `owner` speaks of `pod`."""
    return _in_namespaces(term, owner, meta.namespace(pod), namespaces) and meta.matches_selector(
        _term_selector(term, owner), meta.labels(pod)
    )


def _in_namespaces(term: Object, owner: Object, namespace: str, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    named: Sequence[str] = term.get("namespaces") or ()
    selector: Object | None = term.get("namespaceSelector")
    if not named and selector is None:
        return namespace == meta.namespace(owner)
    return namespace in named or (
        selector is not None and meta.matches_selector(selector, namespaces.get(namespace, {}))
    )


def _term_selector(term: Object, owner: Object) -> Object | None:
    selector: Object | None = term.get("labelSelector")
    labels = meta.labels(owner)
    more = [
        {"key": key, "operator": operator, "values": [labels[key]]}
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in term.get(field) or ()
        if key in labels
    ]
    if selector is None or not more:
        return selector
    return {**selector, "matchExpressions": [*meta.items(selector, "matchExpressions"), *more]}


Domain = tuple[str, str]
"""A topology key and a value of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AffinityState:
    """Where pods are that the pod's terms speak of, and where pods are whose terms speak of it."""

    wanted: Sequence[Object]
    refused: Sequence[Object]
    wanted_in: Mapping[int, frozenset[Domain]]
    refused_in: frozenset[Domain]
    refusing_in: frozenset[Domain]
    """Domains of running pods with an anti-affinity to this pod."""
    first_of_its_kind: bool
    """No pod matches the terms yet, and the pod itself does: it may start the group."""

    @classmethod
    def of(cls, pod: Object, snapshot: Snapshot) -> AffinityState:
        wanted, refused = affinity_terms(pod, "podAffinity"), affinity_terms(pod, "podAntiAffinity")
        wanted_in: dict[int, set[Domain]] = {number: set() for number in range(len(wanted))}
        refused_in: set[Domain] = set()
        refusing_in: set[Domain] = set()
        names = snapshot.namespaces
        for info in snapshot.nodes:
            labels = meta.labels(info.node)
            for other in info.pods if wanted or refused else ():
                for number, term in enumerate(wanted):
                    if all(term_matches(t, pod, other, names) for t in wanted):
                        wanted_in[number] |= _domain(term, labels)
                for term in refused:
                    if term_matches(term, pod, other, names):
                        refused_in |= _domain(term, labels)
            for other in info.choosy:
                for term in affinity_terms(other, "podAntiAffinity"):
                    if term_matches(term, other, pod, names):
                        refusing_in |= _domain(term, labels)
        return cls(
            wanted=wanted,
            refused=refused,
            wanted_in={number: frozenset(found) for number, found in wanted_in.items()},
            refused_in=frozenset(refused_in),
            refusing_in=frozenset(refusing_in),
            first_of_its_kind=not any(wanted_in.values()) and all(term_matches(t, pod, pod, names) for t in wanted),
        )


def _domain(term: Object, labels: Mapping[str, str]) -> set[Domain]:
    key: str = term["topologyKey"]
    return {(key, labels[key])} if key in labels else set()


def inter_pod_affinity(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    state, labels = attempt.affinity, meta.labels(info.node)
    if not _affinity_satisfied(state, labels):
        return Rejection(("node(s) didn't match pod affinity rules",), "InterPodAffinity", final=True)
    if any(_domain(term, labels) & state.refused_in for term in state.refused):
        return Rejection(("node(s) didn't match pod anti-affinity rules",), "InterPodAffinity")
    if any(labels.get(key) == value for key, value in state.refusing_in):
        return Rejection(("node(s) didn't satisfy existing pods anti-affinity rules",), "InterPodAffinity")
    return None


def _affinity_satisfied(state: AffinityState, labels: Mapping[str, str]) -> bool:
    if any(term["topologyKey"] not in labels for term in state.wanted):
        return False
    if state.first_of_its_kind:
        return True
    return all(_domain(term, labels) <= state.wanted_in[number] for number, term in enumerate(state.wanted))


FILTERS: tuple[Filter, ...] = (
    node_unschedulable,
    taint_toleration,
    node_affinity,
    node_ports,
    node_resources,
    volume_restrictions,
    volume_binding,
    topology_spread,
    inter_pod_affinity,
)
"""In the order of the default profile."""


def check(attempt: Attempt, info: NodeInfo) -> Rejection | None:
    """The first rejection of this node, or `None` if it will do."""
    for filter in FILTERS:
        rejection = filter(attempt, info)
        if rejection is not None:
            return rejection
    return None

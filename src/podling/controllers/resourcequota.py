"""ResourceQuota: what a namespace uses of what it may. `used` is the pure sum; the controller writes it as status.

What is created has been charged by admission (`quotaadmission`), so the controller counts anew only when something
goes or changes: a sum taken between a charge and the write that it is for would let one too many in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.podresources import Amounts, add, amounts, pod_limits, pod_requests
from podling.api.quantity import Format, Quantity, of
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Requeue
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, key_of, looking, service_account
from podling.controllers.statuses import write_status
from podling.store.types import Change, Object

RESOURCE = "resourcequotas"
ONE = 10**9
RESYNC = 300.0
"""Seconds between counts that nothing asked for."""
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
_COUNTED = frozenset(
    {"configmaps", "secrets", "services", "persistentvolumeclaims", "replicationcontrollers", RESOURCE}
)
"""Resources whose plain name in `hard` means their number."""
_COMPUTE = frozenset({"cpu", "memory", "ephemeral-storage"})

Listing = Callable[[str], Sequence[Object]]
"""The namespace's objects of a resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    quota: Object
    listing: Listing


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    quota = client.get(RESOURCE, key.namespace, key.name)
    if quota is None:
        return None
    return Snapshot(quota=quota, listing=lambda resource: client.list(resource, key.namespace))


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    hard: Mapping[str, str] = meta.spec(snapshot.quota).get("hard") or {}
    status: Object = {"hard": dict(hard), "used": used(snapshot.quota, snapshot.listing)}
    resync = Requeue(why="charges of writes that failed are given back", seconds=RESYNC)
    return [*write_status(RESOURCE, snapshot.quota, status, "its namespace uses that"), resync]


def used(quota: Object, listing: Listing) -> dict[str, str]:
    """For each limited resource how much is used, as quantities."""
    hard: Mapping[str, str] = meta.spec(quota).get("hard") or {}
    totals: Amounts = {}
    for name in hard:
        if name.startswith("count/"):
            totals[name] = ONE * len(listing(name.removeprefix("count/")))
        elif name in _COUNTED:
            totals[name] = ONE * len(listing(name))
    for pod in listing("pods"):
        if podlib.phase(pod) not in ("Succeeded", "Failed") and in_scope(quota, pod):
            add(totals, pod_usage(pod))
    for claim in listing("persistentvolumeclaims"):
        add(totals, claim_usage(claim))
    for service in listing("services"):
        add(totals, service_usage(service))
    return {name: _text(totals.get(name, 0), limit) for name, limit in hard.items()}


def _text(amount: int, limit: str) -> str:
    notation = of(limit).format if amount % ONE == 0 else Format.DECIMAL_SI
    return str(Quantity(amount, notation))


def pod_usage(pod: Object) -> Amounts:
    """What one pod adds, under every name that a quota may use."""
    usage: Amounts = {"pods": ONE}
    for name, amount in pod_requests(pod).items():
        usage[f"requests.{name}"] = amount
        if name in _COMPUTE or name.startswith("hugepages-"):
            usage[name] = amount
    for name, amount in pod_limits(pod).items():
        usage[f"limits.{name}"] = amount
    return usage


def claim_usage(claim: Object) -> Amounts:
    storage = amounts(meta.part(claim, "spec", "resources", "requests")).get("storage", 0)
    usage: Amounts = {"requests.storage": storage}
    name = meta.spec(claim).get("storageClassName")
    if name:
        usage[f"{name}{CLASS_SUFFIX}requests.storage"] = storage
        usage[f"{name}{CLASS_SUFFIX}persistentvolumeclaims"] = ONE
    return usage


def service_usage(service: Object) -> Amounts:
    kind = meta.spec(service).get("type", "ClusterIP")
    ports = meta.items(service, "spec", "ports")
    usage: Amounts = {}
    if kind == "NodePort":
        usage["services.nodeports"] = ONE * len(ports)
    elif kind == "LoadBalancer":
        usage["services.loadbalancers"] = ONE
        usage["services.nodeports"] = ONE * sum(bool(p.get("nodePort")) for p in ports)
    return usage


def in_scope(quota: Object, pod: Object) -> bool:
    """Whether the quota counts the pod (`scopes` and `scopeSelector`, all of which must hold)."""
    scopes: Sequence[str] = meta.spec(quota).get("scopes") or []
    terms = [{"scopeName": s, "operator": "Exists"} for s in scopes]
    terms += list(meta.items(quota, "spec", "scopeSelector", "matchExpressions"))
    return all(_matches_scope(term, pod) for term in terms)


def _matches_scope(term: Object, pod: Object) -> bool:
    spec = meta.spec(pod)
    match term["scopeName"]:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return _is_best_effort(pod)
        case "NotBestEffort":
            return not _is_best_effort(pod)
        case "PriorityClass":
            name = spec.get("priorityClassName")
            expression: Object = {"key": "class", "operator": term["operator"], "values": term.get("values") or []}
            return meta.matches_selector({"matchExpressions": [expression]}, {"class": name} if name else {})
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(pod)
        case _:
            return False


def _is_best_effort(pod: Object) -> bool:
    compute = {**pod_requests(pod), **pod_limits(pod)}
    return not any(compute.get(name) for name in ("cpu", "memory"))


def _crosses_namespaces(pod: Object) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = meta.part(pod, "spec", "affinity", kind)
        terms = list(meta.items(affinity, "requiredDuringSchedulingIgnoredDuringExecution"))
        preferred = meta.items(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
        terms += [p["podAffinityTerm"] for p in preferred]
        if any(t.get("namespaces") or t.get("namespaceSelector") is not None for t in terms):
            return True
    return False


def _itself(client: Client, change: Change) -> Iterable[ObjectKey]:
    """A quota that is new or limits something else now; charges of admission are none of these."""
    previous = change.previous
    if change.type != "MODIFIED" or previous is None or meta.spec(previous.object) != meta.spec(change.entry.object):
        yield from itself(client, change)


def _of_content(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The quotas of a namespace in which something went or changed what it uses."""
    resource, namespace = change.entry.key.resource, change.entry.key.namespace
    if not namespace or change.type == "ADDED" or resource in ("events", RESOURCE):
        return
    if change.type == "MODIFIED" and not _usage_changed(change):
        return
    yield from (key_of(q) for q in client.list(RESOURCE, namespace))


def _usage_changed(change: Change) -> bool:
    old, new = change.previous, change.entry.object
    if old is None or change.entry.key.resource not in ("pods", "services", "persistentvolumeclaims"):
        return False
    return meta.spec(old.object) != meta.spec(new) or podlib.phase(old.object) != podlib.phase(new)


def controller() -> Controller:
    return Controller(
        name="resourcequota-controller",
        user=service_account("resourcequota-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=_itself), Watch(resource="*", keys=_of_content)),
        reconcile=looking(observe, decide),
    )

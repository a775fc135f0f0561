"""What objects use of what ResourceQuota can limit, and which quota is about which object.

Each resource has its own way of counting (Kubernetes' evaluators, `pkg/quota/v1/evaluator/core` and
`k8s.io/apiserver/pkg/quota/v1/generic`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from podling.api import meta
from podling.api.podresources import held, notation, pod_limits, pod_requests
from podling.api.quantity import Quantity, of
from podling.controllers import pods as podlib
from podling.kinds.core.persistentvolume import storage_class
from podling.kinds.core.qos import qos_class
from podling.store.types import Object

Usage = dict[str, Quantity]
"""By the name that a quota uses."""

ONE: Final = Quantity(10**9)
EVENTS: Final = frozenset({"events", "events.events.k8s.io"})
"""What is not counted at all."""
PODS: Final = "pods"
SERVICES: Final = "services"
CLAIMS: Final = "persistentvolumeclaims"
DEVICES: Final = "resourceclaims.resource.k8s.io"

_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")
_OF_PODS: Final = frozenset({PODS, *(f"{kind}{name}" for kind in ("", "requests.", "limits.") for name in _COMPUTE)})
_OF_SERVICES: Final = frozenset({SERVICES, "services.nodeports", "services.loadbalancers"})
_OF_CLAIMS: Final = (CLAIMS, "requests.storage")
_OF_CLASS: Final = ".storageclass.storage.k8s.io/"
_OF_DEVICES: Final = ".deviceclass.resource.k8s.io/devices"
_IMPLICIT: Final = "requests.deviceclass.resource.kubernetes.io/"
_PLAIN: Final = frozenset({"configmaps", "secrets", "replicationcontrollers", "resourcequotas"})
"""Resources whose plain name in a quota means their number."""
_MOST_DEVICES: Final = 32
"""So many devices a claim that wants all may get."""


def resources(names: Iterable[str]) -> list[str]:
    """The resources of which something is limited."""
    found = [PODS, SERVICES, CLAIMS, DEVICES, *_PLAIN]
    found += [name.removeprefix("count/") for name in names if name.startswith("count/")]
    return [r for r in dict.fromkeys(found) if r not in EVENTS and any(limits(r, name) for name in names)]


def limits(resource: str, name: str) -> bool:
    """Whether the name in a quota is one for the use of a resource."""
    if name == f"count/{resource}":
        return True
    match resource:
        case "pods":
            return name in _OF_PODS or name.startswith(("hugepages-", "requests.hugepages-")) or _is_extended(name)
        case "services":
            return name in _OF_SERVICES
        case "persistentvolumeclaims":
            return name in _OF_CLAIMS or any(name.endswith(f"{_OF_CLASS}{kind}") for kind in _OF_CLAIMS)
        case "resourceclaims.resource.k8s.io":
            return name.endswith(_OF_DEVICES)
        case _:
            return name == resource and name in _PLAIN


def _is_extended(name: str) -> bool:
    if not name.startswith("requests.") or "/" not in name:
        return False
    return "kubernetes.io/" not in name or name.startswith(_IMPLICIT)


def concerns(quota: Object, resource: str, obj: Object) -> bool:
    """Whether the quota, as it is in force, is about the object."""
    hard = meta.part(quota, "status", "hard")
    return any(limits(resource, name) for name in hard) and in_scope(quota, resource, obj)


def in_scope(quota: Object, resource: str, obj: Object) -> bool:
    """`scopes` and `scopeSelector`, all of which must hold. Nothing but pods and claims is in any."""
    scopes: Sequence[str] = meta.spec(quota).get("scopes") or []
    terms = [{"scopeName": s, "operator": "Exists"} for s in scopes]
    terms += list(meta.items(quota, "spec", "scopeSelector", "matchExpressions"))
    holds = {PODS: _pod_in, CLAIMS: _claim_in}.get(resource)
    return all(holds is not None and holds(term, obj) for term in terms)


def _pod_in(term: Object, pod: Object) -> bool:
    match term["scopeName"]:
        case "Terminating":
            return ends_by_itself(pod)
        case "NotTerminating":
            return not ends_by_itself(pod)
        case "BestEffort":
            return _qos(pod) == "BestEffort"
        case "NotBestEffort":
            return _qos(pod) != "BestEffort"
        case "PriorityClass":
            name = meta.spec(pod).get("priorityClassName")
            return _selects(term, [name] if name else [])
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(pod)
        case _:
            return False


def ends_by_itself(pod: Object) -> bool:
    return meta.spec(pod).get("activeDeadlineSeconds") is not None


def _qos(pod: Object) -> str:
    return meta.status(pod).get("qosClass") or qos_class(pod)


def _selects(term: Object, names: Sequence[str]) -> bool:
    """Whether a term is true of one of the names; without any, of the absence of one."""
    wanted: Object = {"key": "class", "operator": term["operator"], "values": term.get("values") or []}
    given: Sequence[Mapping[str, str]] = [{"class": name} for name in names] or [{}]
    return any(meta.matches_selector({"matchExpressions": [wanted]}, labels) for labels in given)


def _crosses_namespaces(pod: Object) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = meta.part(pod, "spec", "affinity", kind)
        terms = list(meta.items(affinity, "requiredDuringSchedulingIgnoredDuringExecution"))
        preferred = meta.items(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
        terms += [p["podAffinityTerm"] for p in preferred]
        if any(t.get("namespaces") or t.get("namespaceSelector") is not None for t in terms):
            return True
    return False


def _claim_in(term: Object, claim: Object) -> bool:
    return term["scopeName"] == "VolumeAttributesClass" and _selects(term, sorted(attributes_classes(claim)))


def attributes_classes(claim: Object) -> set[str]:
    """The classes of attributes that a claim has, should have, or is being given."""
    status = meta.status(claim)
    names: Iterable[Any] = (
        meta.spec(claim).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        meta.part(status, "modifyVolumeStatus").get("targetVolumeAttributesClassName"),
    )
    return {name for name in names if name}


# Use


def usage(resource: str, obj: Object, now: datetime) -> Usage:
    """What one object uses, under every name that a quota may have for it."""
    total: Usage = {f"count/{resource}": ONE}
    match resource:
        case "pods":
            return total | (_pod(obj) if _uses_something(obj, now) else {})
        case "services":
            return total | _service(obj)
        case "persistentvolumeclaims":
            return total | _claim(obj)
        case "resourceclaims.resource.k8s.io":
            return total | _devices(obj)
        case _:
            return total | ({resource: ONE} if resource in _PLAIN else {})


def add(total: Usage, more: Mapping[str, Quantity]) -> None:
    """Adds in place. A sum is written as its first part is (`Quantity.Add`)."""
    for name, amount in more.items():
        before = total.get(name, Quantity(0))
        notation = before.format if before.nanos else amount.format
        total[name] = Quantity(before.nanos + amount.nanos, notation)


def _uses_something(pod: Object, now: datetime) -> bool:
    """Not if it has ended, nor if it should have been gone long ago: its node does not answer."""
    if podlib.phase(pod) in ("Succeeded", "Failed"):
        return False
    ends, grace = meta.metadata(pod).get("deletionTimestamp"), meta.metadata(pod).get("deletionGracePeriodSeconds")
    return ends is None or grace is None or now <= meta.parse_time(ends) + timedelta(seconds=grace)


def _pod(pod: Object) -> Usage:
    pod = held(pod)
    found: Usage = {PODS: ONE}
    for name, amount in pod_requests(pod).items():
        quantity = Quantity(amount, notation(pod, "requests", name))
        if name in _COMPUTE or name.startswith("hugepages-"):
            found[name] = quantity
        found[f"requests.{name}"] = quantity
    for name, amount in pod_limits(pod).items():
        if name in _COMPUTE:
            found[f"limits.{name}"] = Quantity(amount, notation(pod, "limits", name))
    return found


def _service(service: Object) -> Usage:
    spec = meta.spec(service)
    ports, kind = meta.items(spec, "ports"), spec.get("type", "ClusterIP")
    balanced = kind == "LoadBalancer"
    if balanced and spec.get("allocateLoadBalancerNodePorts") is False:
        ports = [port for port in ports if port.get("nodePort")]
    opened = len(ports) if balanced or kind == "NodePort" else 0
    numbers = {SERVICES: 1, "services.nodeports": opened, "services.loadbalancers": int(balanced)}
    return {name: Quantity(number * ONE.nanos) for name, number in numbers.items()}


def _claim(claim: Object) -> Usage:
    found: Usage = {CLAIMS: ONE}
    asked = meta.part(claim, "spec", "resources", "requests").get("storage")
    if asked is not None:
        size = of(asked)
        granted = of(meta.part(claim, "status", "allocatedResources").get("storage", 0))
        size = granted if granted.nanos > size.nanos else size
        found["requests.storage"] = Quantity(size.value * ONE.nanos, size.format)
    if name := storage_class(claim):
        found |= {f"{name}{_OF_CLASS}{kind}": amount for kind, amount in found.items()}
    return found


def _devices(claim: Object) -> Usage:
    """Of each class of devices as many as a claim may get."""
    total: Usage = {}
    for request in meta.items(claim, "spec", "devices", "requests"):
        most: dict[str, Quantity] = {}
        for one in meta.items(request, "firstAvailable") or [meta.part(request, "exactly")]:
            name = f"{one.get('deviceClassName', '')}{_OF_DEVICES}"
            number = _MOST_DEVICES if one.get("allocationMode") == "All" else one.get("count", 1)
            most[name] = max(most.get(name, Quantity(0)), Quantity(number * ONE.nanos))
        add(total, most)
    return total

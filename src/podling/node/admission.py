"""Whether the node takes a pod that was bound to it: the kubelet's own look at what scheduler or author decided.

A pod that names its node passes no scheduler, and two binders may race; so the node counts for itself. Pure.
Source: the kubelet's predicate admission handler, whose words these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from podling.api import meta
from podling.api.podresources import Amounts, add, amounts, fits, host_ports, pod_requests, ports_collide
from podling.store.types import Object

_ONE = 10**9
_MILLI = 10**6
_CPU = "cpu"

Matches = Callable[[Object, Object], bool]
"""(pod, node): whether the pod's selector and required affinity want such a node."""


class Refusal(NamedTuple):
    """`status.reason` and the message of the pod that the node does not take."""

    reason: str
    message: str


class Holding(NamedTuple):
    """A pod on the node and what it was granted; counted once, for every new pod asks for the sum of all."""

    pod: Object
    requests: Amounts


class Shortage(NamedTuple):
    """Of one resource: thousandths of a core, else bytes or pieces."""

    resource: str
    requested: int
    used: int
    capacity: int

    @property
    def message(self) -> str:
        numbers = f"requested: {self.requested}, used: {self.used}, capacity: {self.capacity}"
        return f"Node didn't have enough resource: {self.resource}, {numbers}"


_NET_SYSCTLS = {
    f"net.ipv4.{name}"
    for name in (
        *("ip_local_port_range", "tcp_syncookies", "ping_group_range", "ip_unprivileged_port_start"),
        *("ip_local_reserved_ports", "tcp_keepalive_time", "tcp_fin_timeout", "tcp_keepalive_intvl"),
        *("tcp_keepalive_probes", "tcp_rmem", "tcp_wmem"),
    )
}
_IPC_SYSCTLS = {"kernel.shm_rmid_forced"}
"""Those that a pod may set because they are its own, in its network and its IPC namespace."""


def refusal(pod: Object, node: Object, others: Sequence[Holding], matches: Matches) -> Refusal | None:
    """Why `node`, on which `others` live already, does not take the pod."""
    for name in (entry["name"] for entry in meta.items(meta.spec(pod), "securityContext", "sysctls")):
        problem = _sysctl_problem(name.replace("/", "."), meta.spec(pod))
        if problem:
            return Refusal("SysctlForbidden", f'forbidden sysctl: "{name}" {problem}')
    short = shortage(pod, node, others)
    if short is not None:
        return Refusal(f"OutOf{short.resource}", short.message)
    if not matches(pod, node):
        return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    if _takes_ports(pod, others):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _sysctl_problem(name: str, spec: Object) -> str:
    if name not in _NET_SYSCTLS | _IPC_SYSCTLS:
        return "not allowlisted"
    if name in _NET_SYSCTLS and spec.get("hostNetwork"):
        return "not allowed with host net enabled"
    if name in _IPC_SYSCTLS and spec.get("hostIPC"):
        return "not allowed with host ipc enabled"
    return ""


def shortage(pod: Object, node: Object, others: Sequence[Holding]) -> Shortage | None:
    """The first resource of which the node has too little left."""
    allocatable = amounts(meta.status(node).get("allocatable") or {})
    capacity = allocatable.get("pods", 0) // _ONE
    if capacity and len(others) + 1 > capacity:
        return Shortage("pods", 1, len(others), capacity)
    wanted, used = pod_requests(pod), _total(others)
    name = next(iter(fits(_known(wanted, allocatable), used, allocatable)), None)
    if name is None:
        return None
    unit = _MILLI if name == _CPU else _ONE
    counted = (wanted[name], used.get(name, 0), allocatable[name])
    return Shortage(name, *(-(-amount // unit) for amount in counted))


def _known(wanted: Mapping[str, int], allocatable: Mapping[str, int]) -> Mapping[str, int]:
    """Without what the node never heard of: the kubelet leaves such resources to others."""
    return {name: amount for name, amount in wanted.items() if name in allocatable}


def _total(others: Iterable[Holding]) -> Amounts:
    total: Amounts = {}
    for other in others:
        add(total, other.requests)
    return total


def _takes_ports(pod: Object, others: Sequence[Holding]) -> bool:
    wanted = list(host_ports(pod))
    return bool(wanted) and any(ports_collide(w, t) for other in others for t in host_ports(other.pod) for w in wanted)


def _failed(predicate: str, why: str) -> Refusal:
    return Refusal(predicate, f"Predicate {predicate} failed: {why}")

"""CPU and memory: quantities of the spec as the numbers that cgroups and environment variables want."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from podling.api import meta, quantity
from podling.node.state import part
from podling.sandbox.spec import Limits
from podling.store.types import Object


def milli(text: str | int | float) -> int:
    """Thousandths, rounded up: `0.1` is 100."""
    return quantity.of(text).milli


def whole(text: str | int | float) -> int:
    return quantity.of(text).value


MINIMUM_SHARES = 2
SHARES_PER_CORE = 1024


def container_limits(container: Object) -> Limits:
    """cgroup settings of one container. A limit without a request is a request too (the API server defaults it)."""
    limits = part(part(container, "resources"), "limits")
    found = Limits(cpu_shares=_shares(_requested_millis(container)))
    if "cpu" in limits:
        found["cpu_millis"] = milli(limits["cpu"])
    if "memory" in limits:
        found["memory_bytes"] = whole(limits["memory"])
    return found


def pod_limits(pod: Object) -> Limits:
    """cgroup settings of the whole pod: a limit only where every container has one."""
    spec = meta.spec(pod)
    inits: list[Object] = spec.get("initContainers") or []
    mains = [*spec["containers"], *(c for c in inits if c.get("restartPolicy") == "Always")]
    each = [container_limits(container) for container in mains]
    found = Limits(cpu_shares=_shares(sum(_requested_millis(container) for container in mains)))
    own = part(part(spec, "resources"), "limits")
    cpu = milli(own["cpu"]) if "cpu" in own else _total(limits.get("cpu_millis") for limits in each)
    memory = whole(own["memory"]) if "memory" in own else _total(limits.get("memory_bytes") for limits in each)
    once = [container_limits(container) for container in inits]
    if cpu is not None:
        found["cpu_millis"] = max([cpu, *(limits.get("cpu_millis", 0) for limits in once)])
    if memory is not None:
        found["memory_bytes"] = max([memory, *(limits.get("memory_bytes", 0) for limits in once)])
    return found


def memory_volume(source: Object, pod: Object, allocatable: Mapping[str, str]) -> int:
    """Bytes of an `emptyDir` in memory: no more than the pod may use, or all pods of the node."""
    most = [whole(allocatable["memory"])] if "memory" in allocatable else []
    limit = pod_limits(pod).get("memory_bytes")
    wanted = whole(source["sizeLimit"]) if source.get("sizeLimit") else 0
    return min((size for size in (*most, limit, wanted) if size), default=0)


def _requested_millis(container: Object) -> int:
    resources = part(container, "resources")
    wanted = part(resources, "requests").get("cpu", part(resources, "limits").get("cpu"))
    return milli(wanted) if wanted is not None else 0


def _shares(millis: int) -> int:
    return max(MINIMUM_SHARES, millis * SHARES_PER_CORE // 1000)


def _total(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def cgroup_path(pod: Object) -> str:
    """Where the pod's group lies below the cluster's: guaranteed pods beside the two groups of lesser classes."""
    match meta.status(pod).get("qosClass", "BestEffort"):
        case "Guaranteed":
            return f"pod{meta.uid(pod)}"
        case quality:
            return f"{str(quality).lower()}/pod{meta.uid(pod)}"

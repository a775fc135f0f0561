"""What a node of a cluster may be said to have, where its owner says so. Pure."""

from __future__ import annotations

import re

from podling.api import quantity

MOST_NODES = 100
MEMORY_RESERVE = 100 * 2**20
"""What the kubelet's default eviction threshold keeps from pods (`memory.available<100Mi`)."""

_RESOURCE = re.compile(
    r"cpu|memory|ephemeral-storage|pods|hugepages-[1-9]\d*[KMG]i"
    r"|[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?",
    re.ASCII,
)
"""What a pod may ask a node for: Kubernetes' own, or a name with a domain."""
_DIVISIBLE = ("cpu", "memory", "ephemeral-storage")


def complaint(resource: str, text: str) -> str:
    """Why no node can have so much of that; empty where it can."""
    amount = _amount(text)
    if not resource or amount is None:
        return "is no RESOURCE=QUANTITY, such as cpu=2 or memory=4Gi"
    if not _RESOURCE.fullmatch(resource):
        return "is none of cpu, memory, ephemeral-storage, pods, hugepages-2Mi; others have a domain: example.com/gpu"
    if amount.nanos < 0:
        return "is negative"
    if resource not in _DIVISIBLE and amount.nanos % quantity.NANO:
        return "is no whole number"
    if resource == "memory" and amount.value <= MEMORY_RESERVE:
        return f"leaves nothing for pods: a node keeps {MEMORY_RESERVE // 2**20}Mi back"
    return ""


def _amount(text: str) -> quantity.Quantity | None:
    try:
        return quantity.parse(text)
    except ValueError:
        return None

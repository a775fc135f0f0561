"""Whether a toleration tolerates a taint; DaemonSets and eviction ask it one toleration at a time."""

from __future__ import annotations

from podling.api import meta
from podling.store.types import Object


def tolerates(toleration: Object, taint: Object) -> bool:
    """`v1.Toleration.ToleratesTaint`: effect and key empty match all; then the operator decides."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    have, wanted = taint.get("value") or "", toleration.get("value") or ""
    match toleration.get("operator") or "Equal":
        case "Exists":
            return True
        case "Equal":
            return have == wanted and bool(toleration.get("key"))
        case operator:
            return compares(operator, have, wanted)


def pod_tolerates(pod: Object, taint: Object) -> bool:
    return any(tolerates(t, taint) for t in meta.items(pod, "spec", "tolerations"))


def compares(operator: str, have: str, limit: str) -> bool:
    """`Gt` and `Lt`, of tolerations and of node affinity: both sides must be integers."""
    try:
        return int(have) > int(limit) if operator == "Gt" else int(have) < int(limit)
    except ValueError:
        return False

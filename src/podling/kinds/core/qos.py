"""The quality-of-service class of a pod: who is asked to leave first when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.kinds.core.requirements import nanos
from podling.kinds.validation.fields import entries, part
from podling.store.types import Object

_COUNTED: Final = ("cpu", "memory")


def qos_class(pod: Object) -> str:
    """`Guaranteed` when every container's limits are its requests, `BestEffort` when nobody asks for anything."""
    spec = part(pod, "spec")
    if spec.get("resources") is not None:
        holders: Sequence[Object] = [spec]
    else:
        holders = [*entries(spec, "containers"), *entries(spec, "initContainers")]
    asked = [_positive(part(h, "resources", "requests")) for h in holders]
    capped = [_positive(part(h, "resources", "limits")) for h in holders]
    if not any(asked) and not any(capped):
        return "BestEffort"
    guaranteed = all(len(limits) == len(_COUNTED) for limits in capped)
    return "Guaranteed" if guaranteed and asked == capped else "Burstable"


def _positive(amounts: Object) -> dict[str, int]:
    return {name: value for name in _COUNTED if name in amounts and (value := nanos(amounts[name])) > 0}

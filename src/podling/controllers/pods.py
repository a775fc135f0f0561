"""Pods as the workload controllers see them: active, ready, available, and in which order they are given up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from podling.api import meta
from podling.controllers.actions import Patch
from podling.store.types import Object

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
LONGEST_NAME = 253
"""Characters of a DNS subdomain."""
_NEVER = datetime.max.replace(tzinfo=UTC)


def phase(pod: Object) -> str:
    return meta.status(pod).get("phase", "Pending")


def is_active(pod: Object) -> bool:
    """Neither finished nor on its way out."""
    return phase(pod) not in ("Succeeded", "Failed") and not meta.deleting(pod)


def is_terminating(pod: Object) -> bool:
    """On its way out, and not yet finished."""
    return phase(pod) not in ("Succeeded", "Failed") and meta.deleting(pod)


def is_ready(pod: Object) -> bool:
    return meta.condition_is(pod, "Ready")


def ready_since(pod: Object) -> datetime | None:
    """When it became ready; `None` if it is not, or nobody wrote when."""
    condition = meta.condition(pod, "Ready")
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return meta.parse_time(condition["lastTransitionTime"])


def available_in(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the pod is available: 0 if it is, `None` if it is not even ready."""
    if not is_ready(pod):
        return None
    if min_ready_seconds == 0:
        return 0.0
    since = ready_since(pod)
    if since is None:
        return None
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def is_available(pod: Object, min_ready_seconds: int, now: datetime) -> bool:
    return available_in(pod, min_ready_seconds, now) == 0.0


def next_available(pods: Iterable[Object], min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the next ready pod becomes available, `None` if none is waiting for that."""
    waits = (available_in(pod, min_ready_seconds, now) for pod in pods)
    return min((w for w in waits if w), default=None)


def deletion_rank(pod: Object, related_on_node: int) -> tuple[Any, ...]:
    """Sorts pods so that those to be deleted first come first (`ActivePodsWithRanks`).

    Unassigned before assigned, Pending before Unknown before Running, not ready before ready, lower
    pod-deletion-cost first, more sister pods on the node first, ready for a shorter time first, more restarts first,
    younger first. Times are compared by their binary logarithm of age in Kubernetes; here, too, younger goes first.
    """
    return (*_state_rank(pod), deletion_cost(pod), -related_on_node, *_time_rank(pod))


def plain_rank(pod: Object) -> tuple[Any, ...]:
    """The same where neither cost nor company counts (`ActivePods`)."""
    return (*_state_rank(pod), *_time_rank(pod))


def _state_rank(pod: Object) -> tuple[Any, ...]:
    return (bool(meta.spec(pod).get("nodeName")), {"Pending": 0, "Unknown": 1}.get(phase(pod), 2), is_ready(pod))


def _time_rank(pod: Object) -> tuple[Any, ...]:
    ready = -_epoch(ready_since(pod)) if is_ready(pod) else 0.0
    return (ready, *(-count for count in restarts(pod)), -_epoch(created(pod)))


def deletion_cost(pod: Object) -> int:
    try:
        return int(meta.annotations(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def sidecars(pod: Object) -> list[Object]:
    """Its init containers that go on running beside the others."""
    return [c for c in meta.items(pod, "spec", "initContainers") if c.get("restartPolicy") == "Always"]


def restarts(pod: Object) -> tuple[int, int]:
    """The most restarts of any of its containers, and of any of its sidecars."""
    names = {c["name"] for c in sidecars(pod)}
    of_sidecars = [s for s in meta.items(pod, "status", "initContainerStatuses") if s["name"] in names]
    return _most_restarts(meta.items(pod, "status", "containerStatuses")), _most_restarts(of_sidecars)


def _most_restarts(statuses: Iterable[Object]) -> int:
    return max((s.get("restartCount", 0) for s in statuses), default=0)


def created(obj: Object) -> datetime | None:
    text = meta.metadata(obj).get("creationTimestamp")
    return meta.parse_time(text) if text else None


def _epoch(moment: datetime | None) -> float:
    return (moment or _NEVER).timestamp()


def from_template(
    template: Object, owner: Object, *, namespace: str, generate_name: str = "", name: str = ""
) -> Object:
    """A pod of a controller's template: its labels, annotations, finalizers and spec, owned by the controller.

    A pod with a `name` of its own tells the `generateName`, too, as upstream's do.
    """
    wanted = meta.metadata(template)
    metadata: Object = {"namespace": namespace, "generateName": generate_name}
    if name:
        metadata["name"] = name
    for part in ("labels", "annotations", "finalizers"):
        if wanted.get(part):
            metadata[part] = wanted[part]
    metadata["ownerReferences"] = [meta.new_controller_reference(owner)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def generate_name(owner: str) -> str:
    """The name prefix of a controller's pods; the API cuts it where it gets too long for a generated name."""
    return f"{owner}-" if len(owner) < LONGEST_NAME else owner


def adopt(resource: str, obj: Object, owner: Object, finalizer: str = "") -> Patch:
    """Takes an ownerless object that the selector matches, with a finalizer of the owner if it has one."""
    changes: Object = {"ownerReferences": [*meta.owner_references(obj), meta.new_controller_reference(owner)]}
    if finalizer and finalizer not in meta.finalizers(obj):
        changes["finalizers"] = [*meta.finalizers(obj), finalizer]
    return Patch(
        why=f"it has no owner and {owner['kind']} {meta.name(owner)} selects it",
        resource=resource,
        namespace=meta.namespace(obj),
        name=meta.name(obj),
        patch={"metadata": {**changes, "uid": meta.uid(obj), **_version(obj)}},
    )


def release(resource: str, obj: Object, owner: Object) -> Patch:
    """Lets go of an owned object that the selector no longer matches."""
    references = [r for r in meta.owner_references(obj) if r["uid"] != meta.uid(owner)]
    return Patch(
        why=f"{owner['kind']} {meta.name(owner)} no longer selects it",
        resource=resource,
        namespace=meta.namespace(obj),
        name=meta.name(obj),
        patch={"metadata": {"ownerReferences": references or None, "uid": meta.uid(obj), **_version(obj)}},
    )


def _version(obj: Object) -> Object:
    version = meta.metadata(obj).get("resourceVersion")
    return {"resourceVersion": version} if version else {}


class Claim:
    """Which objects of a kind belong to a controller: what it owns, what to adopt, what to release.

    An object is owned by its controller reference. One without a controller that the selector matches is adopted,
    unless either is being deleted; an owned one that no longer matches is released.
    """

    def __init__(
        self,
        resource: str,
        owner: Object,
        selector: Object | None,
        candidates: Iterable[Object],
        finalizer: str = "",
    ) -> None:
        """`finalizer`: what the owner puts on what it adopts."""
        self.owned: list[Object] = []
        self.changes: list[Patch] = []
        self._finalizer = finalizer
        for obj in candidates:
            self._sort(resource, owner, selector, obj)

    def _sort(self, resource: str, owner: Object, selector: Object | None, obj: Object) -> None:
        matches = meta.matches_selector(selector, meta.labels(obj))
        reference = meta.controller_reference(obj)
        if reference is not None:
            if reference["uid"] != meta.uid(owner):
                return
            if matches:
                self.owned.append(obj)
            elif not meta.deleting(owner):
                self.changes.append(release(resource, obj, owner))
        elif matches and not meta.deleting(owner) and not meta.deleting(obj):
            self.owned.append(obj)
            self.changes.append(adopt(resource, obj, owner, self._finalizer))


def claims_of(pod: Object) -> Iterable[str]:
    """The names of the claims that the pod mounts, those of its generic ephemeral volumes included."""
    for volume in meta.items(pod, "spec", "volumes"):
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield f"{meta.name(pod)}-{volume['name']}"

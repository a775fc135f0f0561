"""Waiting until what was applied runs, and saying why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import click

from podling.api.meta import items, part
from podling.cli.api import Api
from podling.cli.manifests import Manifest, Target
from podling.cli.progress import Step
from podling.store.types import Object


def _deployment(obj: Object) -> tuple[int, int]:
    status, wanted = part(obj, "status"), obj["spec"].get("replicas", 1)
    ready = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
    return (ready, wanted) if status.get("replicas", 0) <= wanted else (min(ready, wanted - 1), wanted)


def _stateful_set(obj: Object) -> tuple[int, int]:
    status, wanted = part(obj, "status"), obj["spec"].get("replicas", 1)
    updated = status.get("updateRevision") == status.get("currentRevision")
    return (min(status.get("readyReplicas", 0), wanted) if updated else status.get("updatedReplicas", 0), wanted)


def _daemon_set(obj: Object) -> tuple[int, int]:
    status = part(obj, "status")
    wanted = status.get("desiredNumberScheduled", 1)
    return min(status.get("numberAvailable", 0), status.get("updatedNumberScheduled", 0)), wanted


def _pod(obj: Object) -> tuple[int, int]:
    status = part(obj, "status")
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in items(status, "conditions"))
    return int(ready or status.get("phase") == "Succeeded"), 1


COUNTS: dict[str, Callable[[Object], tuple[int, int]]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Pod": _pod,
}
"""How many of how many are ready, for the kinds that keep pods running."""


def wait(api: Api, target: Target, manifests: Sequence[Manifest], step: Step, timeout: float) -> None:
    """Until every workload has all its pods available. Raises `click.ClickException` with the reasons."""
    deadline = time.monotonic() + timeout
    for manifest in manifests:
        if manifest.kind in COUNTS:
            _wait_for_one(api, target, manifest, step, deadline)
    step.detail("")


def _wait_for_one(api: Api, target: Target, manifest: Manifest, step: Step, deadline: float) -> None:
    collection, _, name = target.path(manifest).rpartition("/")
    count = COUNTS[manifest.kind]
    while (left := deadline - time.monotonic()) > 0:
        for event in api.watch(collection, timeout=left, fieldSelector=f"metadata.name={name}"):
            if event["type"] not in ("ADDED", "MODIFIED"):
                continue
            obj: Object = event["object"]
            ready, wanted = count(obj)
            step.detail(f"{manifest}: {ready} of {wanted} ready")
            if ready >= wanted and _observed(obj):
                return
            if time.monotonic() > deadline:
                break
    reasons = "\n".join(f"  {line}" for line in troubles(api, manifest)) or "  no pod says why; see kubectl describe"
    raise click.ClickException(f"{manifest} is not ready:\n{reasons}")


def _observed(obj: Object) -> bool:
    observed = part(obj, "status").get("observedGeneration")
    return observed is None or observed >= obj["metadata"].get("generation", 0)


def troubles(api: Api, manifest: Manifest) -> list[str]:
    """What the workload's pods say about themselves, a line each."""
    namespace = manifest.object["metadata"].get("namespace") or "default"
    pods = api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    lines: list[str] = []
    for pod in pods:
        name: str = pod["metadata"]["name"]
        if name == manifest.name or name.startswith(f"{manifest.name}-"):
            lines += [f"pod {name}: {words}" for words in _complaints(pod)]
    return lines


def _complaints(pod: Object) -> list[str]:
    status = part(pod, "status")
    words: list[str] = []
    for container in [*items(status, "initContainerStatuses"), *items(status, "containerStatuses")]:
        waiting = part(container, "state", "waiting")
        if waiting:
            words.append(
                f"container {container['name']}: {waiting.get('reason', '')} {waiting.get('message', '')}".strip()
            )
        elif not container.get("ready") and part(container, "state", "running"):
            words.append(f"container {container['name']} runs, but its probes say that it is not ready")
    if not words:
        conditions = [c for c in items(status, "conditions") if c["status"] != "True" and c.get("message")]
        words = [c["message"] for c in conditions]
    return words

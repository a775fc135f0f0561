"""Waiting until what was applied runs, and saying why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import click

from podling.api.meta import annotations, items, part
from podling.cli.api import Api
from podling.cli.manifests import Manifest
from podling.cli.progress import Step
from podling.store.types import Object

REVISION = "deployment.kubernetes.io/revision"


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


HOPELESS = frozenset(
    (
        *("CreateContainerConfigError", "ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff"),
        "InvalidImageName",
    )
)
"""Why a container waits, where waiting longer mends nothing: all that was to be applied is there."""
GLANCE = 1.0
"""Seconds between two looks at the pods of a workload that does not move."""
COLLECTIONS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Pod": "/api/v1/namespaces/{}/pods",
}


def wait(api: Api, manifests: Sequence[Manifest], step: Step, timeout: float) -> None:
    """Until every workload has all its pods available.

    Raises `click.ClickException` with the reasons, at once when no waiting would help.
    """
    deadline = time.monotonic() + timeout
    workloads = [m for m in manifests if m.kind in COUNTS]
    for index in range(len(workloads)):
        _wait_for_first(api, workloads[index:], step, deadline)
    step.detail("")


def _wait_for_first(api: Api, waited: Sequence[Manifest], step: Step, deadline: float) -> None:
    """The others are looked at as well: one that is lost is told at once, and all that are not ready at the end."""
    manifest, progress = waited[0], "0"
    while (left := deadline - time.monotonic()) > 0:
        for obj in _versions(api, manifest, min(left, GLANCE)):
            ready, wanted = COUNTS[manifest.kind](obj)
            if ready >= wanted and _observed(obj):
                return
            progress = f"{ready} of {wanted}"
            step.detail(f"{manifest}: {progress} ready")
            if time.monotonic() > deadline:
                break
        unready = [(m, _unready(api, m)) for m in waited]
        lost = [(m, pods) for m, pods in unready if pods and all(reason(p) in HOPELESS for p in pods)]
        if lost:
            raise _not_ready(lost)
        why = sorted({reason(p) for p in unready[0][1]} - {""})
        step.detail(f"{manifest}: {progress} ready" + (f" ({', '.join(why)})" if why else ""))
    unready = [(m, _unready(api, m)) for m in waited]
    raise _not_ready([(m, pods) for m, pods in unready if pods or m is manifest])


def _versions(api: Api, manifest: Manifest, quiet: float) -> Iterator[Object]:
    """The object and what becomes of it, until it does not change for `quiet` seconds."""
    selector = f"metadata.name={manifest.name}"
    for event in api.watch(
        COLLECTIONS[manifest.kind].format(manifest.namespace), timeout=quiet, fieldSelector=selector
    ):
        if event["type"] in ("ADDED", "MODIFIED"):
            yield event["object"]


def _not_ready(unready: Sequence[tuple[Manifest, Sequence[Object]]]) -> click.ClickException:
    return click.ClickException("\n".join(_report(manifest, pods) for manifest, pods in unready))


def _report(manifest: Manifest, pods: Sequence[Object]) -> str:
    lines = [f"pod {p['metadata']['name']}: {words}" for p in pods for words in _complaints(p)]
    lines = lines or [f"no pod says why; see kubectl describe {manifest} -n {manifest.namespace}"]
    return "\n  ".join([f"{manifest} is not ready:", *lines])


def _unready(api: Api, manifest: Manifest) -> list[Object]:
    return [p for p in _pods(api, manifest) if not is_ready(p)]


def _pods(api: Api, manifest: Manifest) -> list[Object]:
    """Those that the workload makes now: not the ones of its former templates, nor those on their way out."""
    space = manifest.namespace
    if manifest.kind == "Pod":
        return api.get(f"/api/v1/namespaces/{space}/pods", fieldSelector=f"metadata.name={manifest.name}")["items"]
    obj = api.get(f"{COLLECTIONS[manifest.kind].format(space)}/{manifest.name}")
    labels = part(obj, "spec", "selector", "matchLabels")
    selector = ",".join(f"{k}={v}" for k, v in labels.items())
    found: list[Object] = api.get(f"/api/v1/namespaces/{space}/pods", labelSelector=selector)["items"]
    found = [p for p in found if "deletionTimestamp" not in p["metadata"]]
    owner = _newest_replica_set(api, obj, selector) if manifest.kind == "Deployment" else obj["metadata"]["uid"]
    revision = part(obj, "status").get("updateRevision")
    return [
        p
        for p in found
        if any(o["uid"] == owner for o in items(p["metadata"], "ownerReferences"))
        and p["metadata"]["labels"].get("controller-revision-hash", revision) in (revision, None)
    ]


def _newest_replica_set(api: Api, deployment: Object, selector: str) -> str:
    space, revision = deployment["metadata"]["namespace"], annotations(deployment).get(REVISION)
    for found in api.get(f"/apis/apps/v1/namespaces/{space}/replicasets", labelSelector=selector)["items"]:
        owners = [o["uid"] for o in items(found["metadata"], "ownerReferences")]
        if deployment["metadata"]["uid"] in owners and annotations(found).get(REVISION) == revision:
            return str(found["metadata"]["uid"])
    return ""


def _observed(obj: Object) -> bool:
    observed = part(obj, "status").get("observedGeneration")
    return observed is None or observed >= obj["metadata"].get("generation", 0)


def is_ready(pod: Object) -> bool:
    return _pod(pod)[0] == 1


def reason(pod: Object) -> str:
    """In one word why a pod does not run, as `kubectl get pods` shows it; empty where nothing is wrong."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    status = part(pod, "status")
    for container in [*items(status, "initContainerStatuses"), *items(status, "containerStatuses")]:
        for state in ("waiting", "terminated"):
            word: str = part(container, "state", state).get("reason", "")
            if word and word not in ("Completed", "PodInitializing"):
                return word
    unmet = [c for c in items(status, "conditions") if c["type"] == "PodScheduled" and c["status"] == "False"]
    return str(unmet[0].get("reason", "")) if unmet else ""


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

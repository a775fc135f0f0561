"""Histories as objects (`VerticalPodAutoscalerCheckpoint`), so that they outlive the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Create, Patch
from podling.controllers.statuses import merge_difference
from podling.controllers.vpa.definition import CHECKPOINTS, GROUP
from podling.controllers.vpa.histogram import Histogram
from podling.controllers.vpa.usage import History
from podling.store.types import Object

_VERSION = "v3"
_WHY = "what it knows outlives the daemon"


def load(client: Client, vpa: Object) -> dict[str, History]:
    """The histories of an autoscaler's containers, by name."""
    found: dict[str, History] = {}
    for checkpoint in client.list(CHECKPOINTS, meta.namespace(vpa)):
        spec = meta.spec(checkpoint)
        if spec.get("vpaObjectName") == meta.name(vpa) and meta.status(checkpoint).get("version") == _VERSION:
            found[spec["containerName"]] = restored(meta.status(checkpoint))
    return found


def save(client: Client, vpa: Object, histories: Mapping[str, History]) -> Sequence[Action]:
    """The writes after which `load` gives these histories."""
    return [
        write
        for container, history in sorted(histories.items())
        if history.samples
        for write in _write(client, vpa, container, history)
    ]


def _write(client: Client, vpa: Object, container: str, history: History) -> Sequence[Action]:
    namespace, name = meta.namespace(vpa), f"{meta.name(vpa)}-{container}"
    status = written(history)
    present = client.get(CHECKPOINTS, namespace, name)
    if present is None:
        return [Create(why=_WHY, resource=CHECKPOINTS, object=_new(vpa, name, container, status), exists_ok=True)]
    changes = merge_difference(meta.status(present), status)
    if not changes:
        return []
    patch: Object = {"metadata": {"uid": meta.uid(present)}, "status": changes}
    return [Patch(why=_WHY, resource=CHECKPOINTS, namespace=namespace, name=name, patch=patch)]


def _new(vpa: Object, name: str, container: str, status: Object) -> Object:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VerticalPodAutoscalerCheckpoint",
        "metadata": {
            "namespace": meta.namespace(vpa),
            "name": name,
            "ownerReferences": [meta.new_controller_reference(vpa)],
        },
        "spec": {"vpaObjectName": meta.name(vpa), "containerName": container},
        "status": status,
    }


def written(history: History) -> Object:
    return {
        "version": _VERSION,
        "lastUpdateTime": _time(history.last),
        "firstSampleStart": _time(history.first),
        "lastSampleStart": _time(history.last),
        "totalSamplesCount": history.samples,
        "cpuHistogram": {"referenceTimestamp": _time(history.cpu.reference), **history.cpu.checkpoint()},
        "memoryHistogram": {"referenceTimestamp": _time(history.memory.reference), **history.memory.checkpoint()},
    }


def restored(status: Object) -> History:
    history = History(
        first=_seconds(status["firstSampleStart"]),
        last=_seconds(status["lastSampleStart"]),
        samples=status["totalSamplesCount"],
        known_until=_seconds(status["lastSampleStart"]),
    )
    _restore(history.cpu, status["cpuHistogram"])
    _restore(history.memory, status["memoryHistogram"])
    return history


def _restore(histogram: Histogram, kept: Object) -> None:
    histogram.restore(kept.get("bucketWeights") or {}, kept["totalWeight"], _seconds(kept["referenceTimestamp"]))


def _time(seconds: float) -> str:
    return meta.timestamp(datetime.fromtimestamp(seconds, UTC))


def _seconds(time: str) -> float:
    return meta.parse_time(time).timestamp()

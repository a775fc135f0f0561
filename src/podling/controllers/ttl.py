"""TTL after finished: a job that has ended goes `ttlSecondsAfterFinished` seconds later."""

from __future__ import annotations

from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Delete, Requeue
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Object

RESOURCE = "jobs.batch"


def observe(client: Client, key: ObjectKey) -> Object | None:
    job = client.get(RESOURCE, key.namespace, key.name)
    if job is None or meta.deleting(job) or meta.spec(job).get("ttlSecondsAfterFinished") is None:
        return None
    return job


def decide(job: Object, now: datetime) -> list[Action]:
    ended = next(
        (c for c in meta.conditions(job) if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None
    )
    if ended is None:
        return []
    seconds: int = meta.spec(job)["ttlSecondsAfterFinished"]
    left = (meta.parse_time(ended["lastTransitionTime"]) + timedelta(seconds=seconds) - now).total_seconds()
    if left > 0:
        return [Requeue(why="its time to live after its end", seconds=left)]
    return [
        Delete(
            why=f"it ended more than {seconds} s ago",
            resource=RESOURCE,
            namespace=meta.namespace(job),
            name=meta.name(job),
            uid=meta.uid(job),
            resource_version=meta.metadata(job).get("resourceVersion"),
            propagation="Foreground",
        )
    ]


def controller() -> Controller:
    return Controller(
        name="ttl-after-finished-controller",
        user=service_account("ttl-after-finished-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=itself),),
        reconcile=looking(observe, decide),
    )

"""Certificate signing requests do not pile up: answered ones go after an hour, others after a day."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Delete, Requeue
from podling.controllers.csrsigning import RESOURCE
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, looking, service_account
from podling.store.types import Object

ANSWERED = timedelta(hours=1)
PENDING = timedelta(hours=24)


def observe(client: Client, key: ObjectKey) -> Object | None:
    return client.get(RESOURCE, "", key.name)


def decide(request: Object, now: datetime) -> list[Action]:
    ends = min(_deadlines(request), default=None)
    if ends is None:
        return []
    if ends >= now:
        return [Requeue(why="nobody needs it any more then", seconds=(ends - now).total_seconds() + 1)]
    uid = meta.uid(request)
    return [Delete(why="its time is over", resource=RESOURCE, namespace="", name=meta.name(request), uid=uid)]


def _deadlines(request: Object) -> Iterator[datetime]:
    certificate: str = meta.status(request).get("certificate") or ""
    conditions = meta.conditions(request)
    if not conditions:
        yield meta.parse_time(meta.metadata(request)["creationTimestamp"]) + PENDING
    for condition in conditions:
        kind, updated = condition["type"], condition.get("lastUpdateTime")
        answered = ANSWERED if kind in ("Denied", "Failed") or certificate else PENDING
        if updated and kind in ("Approved", "Denied", "Failed"):
            yield meta.parse_time(updated) + answered
        if kind == "Approved" and certificate:
            yield from _end_of(certificate)


def _end_of(certificate: str) -> Iterator[datetime]:
    try:
        yield x509.load_pem_x509_certificate(b64decode(certificate)).not_valid_after_utc
    except ValueError:
        return


def controller() -> Controller:
    return Controller(
        name="csrcleaner-controller",
        user=service_account("certificate-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=itself),),
        reconcile=looking(observe, decide),
    )

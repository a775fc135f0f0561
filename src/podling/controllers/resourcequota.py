"""ResourceQuota: what a namespace uses of what it may. `used` is the pure sum; the controller writes it as status.

What is created has been charged by admission (`quotaadmission`), so the controller counts anew only when something
goes or changes: a sum taken between a charge and the write that it is for would let one too many in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import Quantity
from podling.controllers import quotausage
from podling.controllers.actions import Action, Requeue
from podling.controllers.quotausage import CLAIMS, EVENTS, PODS, SERVICES, Usage
from podling.controllers.runtime import Controller, ObjectKey, Watch, itself, key_of, looking, service_account
from podling.controllers.statuses import write_status
from podling.store.types import Change, Object

RESOURCE = "resourcequotas"
RESYNC = 300.0
"""Seconds between counts that nothing asked for."""

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

Listing = Callable[[str], Sequence[Object]]
"""The namespace's objects of a resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    quota: Object
    listing: Listing


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    quota = client.get(RESOURCE, key.namespace, key.name)
    if quota is None:
        return None
    return Snapshot(quota=quota, listing=lambda resource: client.list(resource, key.namespace))


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    hard: Mapping[str, str] = meta.spec(snapshot.quota).get("hard") or {}
    status: Object = {"hard": dict(hard), "used": used(snapshot.quota, snapshot.listing, now)}
    resync = Requeue(why="charges of writes that failed are given back", seconds=RESYNC)
    return [*write_status(RESOURCE, snapshot.quota, status, "its namespace uses that"), resync]


def used(quota: Object, listing: Listing, now: datetime) -> dict[str, str]:
    """For each limited resource how much is used, as quantities; nothing for what nobody counts."""
    hard: Mapping[str, str] = meta.spec(quota).get("hard") or {}
    total: Usage = {}
    for resource in quotausage.resources(hard):
        quotausage.add(total, {name: Quantity(0) for name in hard if quotausage.limits(resource, name)})
        for obj in listing(resource):
            if quotausage.in_scope(quota, resource, obj):
                amounts = quotausage.usage(resource, obj, now)
                quotausage.add(total, {name: amount for name, amount in amounts.items() if name in hard})
    return {name: str(total[name]) for name in hard if name in total}


def _itself(client: Client, change: Change) -> Iterable[ObjectKey]:
    """A quota that is new or limits something else now; charges of admission are none of these."""
    previous = change.previous
    if change.type != "MODIFIED" or previous is None or meta.spec(previous.object) != meta.spec(change.entry.object):
        yield from itself(client, change)


def _of_content(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The quotas of a namespace in which something went or changed what it uses."""
    resource, namespace = change.entry.key.resource, change.entry.key.namespace
    if not namespace or change.type == "ADDED" or resource in EVENTS or resource == RESOURCE:
        return
    quotas = client.list(RESOURCE, namespace)
    if quotas and (change.type == "DELETED" or _usage_changed(change)):
        yield from (key_of(q) for q in quotas)


def _usage_changed(change: Change) -> bool:
    """Also where it is only another scope that an object is in now. That time passes is no change."""
    resource, old, new = change.entry.key.resource, change.previous, change.entry.object
    if old is None or resource not in (PODS, SERVICES, CLAIMS):
        return False
    if meta.spec(old.object) != meta.spec(new):
        return True
    if quotausage.attributes_classes(old.object) != quotausage.attributes_classes(new):
        return True
    return quotausage.usage(resource, old.object, _LONG_AGO) != quotausage.usage(resource, new, _LONG_AGO)


def controller() -> Controller:
    return Controller(
        name="resourcequota-controller",
        user=service_account("resourcequota-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=_itself), Watch(resource="*", keys=_of_content)),
        reconcile=looking(observe, decide),
    )

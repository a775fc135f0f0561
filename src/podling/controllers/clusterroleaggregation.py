"""ClusterRole aggregation: a role with an `aggregationRule` has the rules of all roles that its selectors match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Update
from podling.controllers.runtime import Controller, ObjectKey, Watch, key_of, looking, service_account
from podling.store.types import Change, Object

RESOURCE = "clusterroles.rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    role: Object
    roles: Sequence[Object]


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    role = client.get(RESOURCE, "", key.name)
    if role is None or not role.get("aggregationRule"):
        return None
    return Snapshot(role=role, roles=client.list(RESOURCE))


def decide(snapshot: Snapshot, _now: datetime) -> list[Action]:
    rules = aggregated(snapshot.role, snapshot.roles)
    if list(meta.items(snapshot.role, "rules")) == rules:
        return []
    changed = {**snapshot.role, "rules": rules}
    return [Update(why="the roles that it is made of say so", resource=RESOURCE, object=changed)]


def aggregated(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules of the roles that match one selector after the other, in the order of their names, each once."""
    others = sorted((other for other in roles if meta.name(other) != meta.name(role)), key=meta.name)
    rules: list[Object] = []
    for selector in meta.items(role, "aggregationRule", "clusterRoleSelectors"):
        for other in others:
            if meta.matches_selector(selector, meta.labels(other)):
                rules += [rule for rule in meta.items(other, "rules") if rule not in rules]
    return rules


def _aggregating(client: Client, change: Change) -> Iterable[ObjectKey]:
    """Every aggregating role: any change of a role may concern it."""
    old = change.previous
    if old is not None and change.type == "MODIFIED" and _essence(old.object) == _essence(change.entry.object):
        return
    yield from (key_of(r) for r in client.list(RESOURCE) if r.get("aggregationRule"))


def _essence(role: Object) -> tuple[object, ...]:
    return (meta.labels(role), role.get("rules"), role.get("aggregationRule"))


def controller() -> Controller:
    return Controller(
        name="clusterrole-aggregation-controller",
        user=service_account("clusterrole-aggregation-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=_aggregating),),
        reconcile=looking(observe, decide),
    )

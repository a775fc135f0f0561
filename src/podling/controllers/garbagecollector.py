"""Garbage collection by owner references: what is owned goes when its owners are gone.

The store's index by owner uid answers "who is owned by this" directly, so nothing is ever scanned, and since reads
are committed state, "is this owner there" is a look-up: there is no graph to be kept, and no owner can be "virtual".

- *background*: the owner went; its dependents follow;
- *foreground*: the owner waits (finalizer `foregroundDeletion`) until dependents that block it are gone;
- *orphan*: dependents lose the reference, then the owner (finalizer `orphan`) goes.

Keys are `resource/name`, since every kind is a root here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from podling.api import meta
from podling.api.client import Client
from podling.api.resources import Resource
from podling.controllers.actions import Action, Delete, Patch, Together
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, service_account
from podling.store.types import Change, Object

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owner(Enum):
    """What has become of an owner that a reference names."""

    SOLID = auto()
    """It is there."""
    WAITING = auto()
    """It is being deleted in the foreground and waits for its dependents."""
    ABSENT = auto()
    """No object of that kind and name has that uid."""
    UNKNOWN = auto()
    """The kind is not served (yet): nothing is concluded from that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    resource: str
    object: Object
    owners: Sequence[tuple[Object, Owner]]
    """Each owner reference with what has become of the owner."""
    dependents: Sequence[tuple[str, Object]]


class Kinds:
    """Which resource an owner reference's apiVersion and kind mean; learned anew when the served set changes."""

    def __init__(self) -> None:
        self._served: Sequence[Resource] = ()
        self._by_kind: Mapping[tuple[str, str], Resource] = {}

    def find(self, client: Client, api_version: str, kind: str) -> Resource | None:
        group = api_version.rpartition("/")[0]
        if (group, kind) not in self._by_kind and (served := client.resources()) != self._served:
            self._served = list(served)
            self._by_kind = {(r.group, r.kind): r for r in served}
        return self._by_kind.get((group, kind))


def key_for(resource: str, obj: Object) -> ObjectKey:
    return ObjectKey(meta.namespace(obj), f"{resource}/{meta.name(obj)}")


def waits_for_dependents(obj: Object) -> bool:
    return meta.deleting(obj) and FOREGROUND in meta.finalizers(obj)


def orphans_dependents(obj: Object) -> bool:
    return meta.deleting(obj) and ORPHAN in meta.finalizers(obj)


def owner_state(client: Client, kinds: Kinds, obj: Object, reference: Object) -> Owner:
    resource = kinds.find(client, reference["apiVersion"], reference["kind"])
    if resource is None:
        return Owner.UNKNOWN
    namespace = meta.namespace(obj) if resource.namespaced else ""
    if resource.namespaced and not namespace:
        return Owner.UNKNOWN  # a cluster-scoped object cannot be owned by a namespaced one
    owner = client.get(resource.group_resource, namespace, reference["name"])
    if owner is None or meta.uid(owner) != reference["uid"]:
        return Owner.ABSENT
    return Owner.WAITING if waits_for_dependents(owner) else Owner.SOLID


def observe(client: Client, kinds: Kinds, key: ObjectKey) -> Snapshot | None:
    resource, _, name = key.name.partition("/")
    obj = client.get(resource, key.namespace, name)
    if obj is None:
        return None
    owners = [(r, owner_state(client, kinds, obj, r)) for r in meta.owner_references(obj)]
    return Snapshot(resource=resource, object=obj, owners=owners, dependents=client.owned(meta.uid(obj)))


def decide(snapshot: Snapshot) -> list[Action]:
    if orphans_dependents(snapshot.object):
        return _orphan(snapshot)
    if waits_for_dependents(snapshot.object):
        return _release_if_unblocked(snapshot)
    if meta.deleting(snapshot.object):
        return []
    return _collect(snapshot)


def _orphan(snapshot: Snapshot) -> list[Action]:
    writes = [
        _without_owners(resource, dependent, {meta.uid(snapshot.object)}, "its owner goes and leaves it behind")
        for resource, dependent in snapshot.dependents
    ]
    done = _without_finalizer(snapshot, ORPHAN, "its dependents no longer refer to it")
    return [Together(writes=writes), done] if writes else [done]


def _release_if_unblocked(snapshot: Snapshot) -> list[Action]:
    uid = meta.uid(snapshot.object)
    if any(_blocks(dependent, uid) for _, dependent in snapshot.dependents):
        return []
    return [_without_finalizer(snapshot, FOREGROUND, "no dependent blocks its deletion any longer")]


def _blocks(dependent: Object, owner_uid: str) -> bool:
    return any(r["uid"] == owner_uid and r.get("blockOwnerDeletion") for r in meta.owner_references(dependent))


def _collect(snapshot: Snapshot) -> list[Action]:
    by_state: dict[Owner, list[str]] = {state: [] for state in Owner}
    for reference, state in snapshot.owners:
        by_state[state].append(reference["uid"])
    gone = {*by_state[Owner.ABSENT], *by_state[Owner.WAITING]}
    if not gone:
        return []
    obj = snapshot.object
    if by_state[Owner.SOLID] or by_state[Owner.UNKNOWN]:
        return [_without_owners(snapshot.resource, obj, gone, "other owners are left")]
    if by_state[Owner.WAITING] and snapshot.dependents:
        cycle = any(waits_for_dependents(dependent) for _, dependent in snapshot.dependents)
        unblocked = [_unblocked(snapshot)] if cycle else []
        return [*unblocked, _delete(snapshot, "Foreground", "its owner waits for it, and it has dependents itself")]
    why = "its owner waits for it" if by_state[Owner.WAITING] else "its owner is gone"
    return [_delete(snapshot, _propagation(obj), why)]


def _propagation(obj: Object) -> str:
    if ORPHAN in meta.finalizers(obj):
        return "Orphan"
    return "Foreground" if FOREGROUND in meta.finalizers(obj) else "Background"


def _delete(snapshot: Snapshot, propagation: str, why: str) -> Delete:
    obj = snapshot.object
    return Delete(
        why=why,
        resource=snapshot.resource,
        namespace=meta.namespace(obj),
        name=meta.name(obj),
        uid=meta.uid(obj),
        propagation=propagation,
    )


def _patch(resource: str, obj: Object, changes: Object, why: str) -> Patch:
    metadata = {"uid": meta.uid(obj), "resourceVersion": meta.metadata(obj).get("resourceVersion"), **changes}
    return Patch(
        why=why, resource=resource, namespace=meta.namespace(obj), name=meta.name(obj), patch={"metadata": metadata}
    )


def _without_owners(resource: str, obj: Object, uids: set[str], why: str) -> Patch:
    left = [r for r in meta.owner_references(obj) if r["uid"] not in uids]
    return _patch(resource, obj, {"ownerReferences": left or None}, why)


def _unblocked(snapshot: Snapshot) -> Patch:
    """A cycle in which each waits for the other: this one stops blocking."""
    references = [{**r, "blockOwnerDeletion": False} for r in meta.owner_references(snapshot.object)]
    changes: Object = {"ownerReferences": references, "resourceVersion": None}
    return _patch(snapshot.resource, snapshot.object, changes, "owners and dependents wait for each other")


def _without_finalizer(snapshot: Snapshot, finalizer: str, why: str) -> Patch:
    left = [f for f in meta.finalizers(snapshot.object) if f != finalizer]
    return _patch(snapshot.resource, snapshot.object, {"finalizers": left or None}, why)


class _Affected:
    """From a change to the keys that must be looked at."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds

    def keys(self, client: Client, change: Change) -> Iterable[ObjectKey]:
        obj, resource = change.entry.object, change.entry.key.resource
        if change.type == "DELETED":
            yield from self._waiting_owners(client, obj)
            yield from (key_for(r, dependent) for r, dependent in client.owned(meta.uid(obj)))
            return
        if waits_for_dependents(obj) or orphans_dependents(obj):
            yield key_for(resource, obj)
            yield from (key_for(r, dependent) for r, dependent in client.owned(meta.uid(obj)))
        if not meta.owner_references(obj) or not _owners_changed(change):
            return
        states = [owner_state(client, self.kinds, obj, r) for r in meta.owner_references(obj)]
        if Owner.ABSENT in states or Owner.WAITING in states:
            yield key_for(resource, obj)
        if change.previous is not None:
            yield from self._waiting_owners(client, change.previous.object)

    def _waiting_owners(self, client: Client, obj: Object) -> Iterable[ObjectKey]:
        """Owners that wait for this dependent to go or to let go."""
        for reference in meta.owner_references(obj):
            resource = self.kinds.find(client, reference["apiVersion"], reference["kind"])
            if resource is None:
                continue
            namespace = meta.namespace(obj) if resource.namespaced else ""
            owner = client.get(resource.group_resource, namespace, reference["name"])
            if owner is not None and waits_for_dependents(owner):
                yield key_for(resource.group_resource, owner)


def _owners_changed(change: Change) -> bool:
    old = change.previous
    return old is None or meta.owner_references(old.object) != meta.owner_references(change.entry.object)


def controller() -> Controller:
    kinds = Kinds()

    async def reconcile(context: Context, key: ObjectKey) -> None:
        snapshot = observe(context.client, kinds, key)
        if snapshot is not None:
            await context.act(key, decide(snapshot))

    return Controller(
        name="garbage-collector-controller",
        user=service_account("generic-garbage-collector"),
        resource="*",
        watches=(Watch(resource="*", keys=_Affected(kinds).keys),),
        reconcile=reconcile,
        workers=100,
    )

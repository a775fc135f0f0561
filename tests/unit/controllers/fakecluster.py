"""A cluster in a dict: enough of the API for controllers to work on, with a clock that stands still until told.

It knows no defaults and no validation; it does know generated names, generations, finalizers, propagation,
preconditions, status and owners, because controllers rely on them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from podling.api import errors, meta
from podling.api.resources import Resource
from podling.store.types import Change, ChangeType, Entry, Key, Object


class VirtualTimer:
    def __init__(self, due: datetime, callback: Callable[[], None]) -> None:
        self.due, self.callback, self.cancelled = due, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    pace = 1.0

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)
        self._timers: list[tuple[datetime, int, VirtualTimer]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return self.moment

    def call_later(self, seconds: float, callback: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer(self.moment + timedelta(seconds=seconds), callback)
        heapq.heappush(self._timers, (timer.due, next(self._numbers), timer))
        return timer

    def fire_next(self, until: datetime) -> bool:
        """Moves on to the next timer and calls it, if it is due by then."""
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self.moment = max(self.moment, due)
                timer.callback()
                return True
        return False


class FakeSubscription:
    def __init__(self, handlers: list, item: object) -> None:
        self._handlers, self._item = handlers, item

    def close(self) -> None:
        if self._item in self._handlers:
            self._handlers.remove(self._item)


class FakeCluster:
    def __init__(self, clock: VirtualClock, resources: Sequence[Resource] = ()) -> None:
        self.clock = clock
        self.objects: dict[Key, Object] = {}
        self.served = list(resources)
        self.revision = 0
        self._uids = itertools.count(1)
        self._suffixes: dict[str, int] = {}
        self._handlers: list[tuple[str, Callable[[Change], None]]] = []
        self.refusals: list[Callable[[str, Object], None]] = []
        """Called before each create; one that raises is an admission that refuses."""
        self.refused: dict[str, str] = {}
        """Resources that cannot be patched, and why not."""
        self.mutations: list[Callable[[str, Object], Object]] = []
        """Called before each create: an admission that changes what is created."""
        self.grace = False
        """Whether deleted pods wait for their node, as with a kubelet; else they go at once."""

    # Reads

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get(Key(resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [
            o for k, o in sorted(self.objects.items()) if k.resource == resource and namespace in (None, k.namespace)
        ]

    def owned(self, uid: str) -> Sequence[tuple[str, Object]]:
        return [
            (k.resource, o)
            for k, o in sorted(self.objects.items())
            if any(r["uid"] == uid for r in meta.owner_references(o))
        ]

    def resources(self) -> Sequence[Resource]:
        return self.served

    def subscribe(self, resource: str, handler: Callable[[Change], None]) -> FakeSubscription:
        item = (resource, handler)
        for key, obj in sorted(self.objects.items()):
            if resource in ("*", key.resource):
                handler(Change(ChangeType.ADDED, self._entry(key, obj), None))
        self._handlers.append(item)
        return FakeSubscription(self._handlers, item)

    # Writes

    async def create(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        await asyncio.sleep(0)
        if subresource == "binding":
            return self._bind(obj)
        if subresource == "eviction":
            return await self.delete("pods", meta.namespace(obj), meta.name(obj))
        for refuse in self.refusals:
            refuse(resource, obj)
        metadata = dict(meta.metadata(obj))
        if not metadata.get("name"):
            prefix = metadata["generateName"]
            number = self._suffixes[resource + prefix] = self._suffixes.get(resource + prefix, 0) + 1
            metadata["name"] = f"{prefix}{number}"
        key = Key(resource, metadata.get("namespace", ""), metadata["name"])
        if key in self.objects:
            raise errors.already_exists(resource, "", key.name)
        metadata["uid"] = f"uid-{next(self._uids)}"
        metadata["creationTimestamp"] = meta.timestamp(self.clock.now())
        metadata["generation"] = 1
        new = {**obj, "metadata": metadata}
        for mutate in self.mutations:
            new = mutate(resource, new)
        if resource == "pods":
            new.setdefault("status", {"phase": "Pending"})
        return self._put(key, new, None)

    def _bind(self, binding: Object) -> Object:
        key = Key("pods", meta.namespace(binding), meta.name(binding))
        pod = self.objects[key]
        if meta.spec(pod).get("nodeName"):
            raise errors.conflict("pods", "", key.name, "already assigned")
        conditions = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": meta.timestamp(self.clock.now())}
        ]
        bound = {
            **pod,
            "spec": {**pod["spec"], "nodeName": binding["target"]["name"]},
            "status": {**meta.status(pod), "conditions": conditions},
        }
        return self._put(key, bound, pod)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        await asyncio.sleep(0)
        key = Key(resource, meta.namespace(obj), meta.name(obj))
        return self._replace(key, self._present(key), obj, subresource)

    async def update_status(self, resource: str, obj: Object) -> Object:
        return await self.update(resource, obj, subresource="status")

    async def patch(self, resource, namespace, name, patch, *, subresource="", strategic=False) -> Object:
        await asyncio.sleep(0)
        if resource in self.refused and subresource != "status":
            raise errors.ApiError(403, "Forbidden", self.refused[resource], {})
        key = Key(resource, namespace, name)
        old = self._present(key)
        assert isinstance(patch, dict)
        if strategic and "containers" in patch.get("spec", {}):
            patch = {**patch, "spec": {**patch["spec"], "containers": _merge_containers(old, patch)}}
        if strategic and "conditions" in patch.get("status", {}):
            patch = {**patch, "status": {**patch["status"], "conditions": _merge_conditions(old, patch)}}
        return self._replace(key, old, merge(old, patch), subresource)

    def _replace(self, key: Key, old: Object, new: Object, subresource: str) -> Object:
        metadata = new["metadata"]
        if metadata.get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise errors.conflict(key.resource, "", key.name, errors.OBJECT_MODIFIED)
        if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise errors.conflict(key.resource, "", key.name, "Precondition failed: UID in precondition")
        if subresource == "status":
            changed = {**old, "metadata": metadata}
            if "status" in new:
                changed["status"] = new["status"]
        elif subresource == "finalize":
            changed = {**old, "spec": new["spec"]}
        else:
            changed = {**new, "status": old["status"]} if "status" in old else {**new}
        changed["metadata"] = {k: v for k, v in changed["metadata"].items() if v not in (None, [], {})}
        if changed.get("spec") != old.get("spec"):
            changed["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if "deletionTimestamp" in old["metadata"]:
            for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
                changed["metadata"][field] = old["metadata"][field]
        if {**changed, "metadata": {**changed["metadata"], "resourceVersion": ""}} == {
            **old,
            "metadata": {**old["metadata"], "resourceVersion": ""},
        }:
            return old
        done = meta.deleting(changed) and not meta.finalizers(changed) and not self._graceful(key, changed)
        if done and not (key.resource == "namespaces" and changed["spec"].get("finalizers")):
            return self._remove(key)
        return self._put(key, changed, old)

    def _graceful(self, key: Key, obj: Object) -> bool:
        return key.resource == "pods" and obj["metadata"].get("deletionGracePeriodSeconds", 0) > 0

    async def delete(
        self, resource, namespace, name, *, uid=None, resource_version=None, propagation=None, grace_seconds=None
    ) -> Object:
        await asyncio.sleep(0)
        key = Key(resource, namespace, name)
        old = self._present(key)
        if uid not in (None, old["metadata"]["uid"]):
            raise errors.conflict(resource, "", name, "Precondition failed: UID in precondition")
        if resource_version not in (None, old["metadata"]["resourceVersion"]):
            raise errors.conflict(resource, "", name, "Precondition failed: ResourceVersion in precondition")
        finalizers = list(meta.finalizers(old))
        wanted = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation or "")
        if wanted and wanted not in finalizers and not meta.deleting(old):
            finalizers.append(wanted)
        grace = 30 if grace_seconds is None else grace_seconds
        if not (resource == "pods" and self.grace and meta.spec(old).get("nodeName")):
            grace = 0
        waits = finalizers or grace or (resource == "namespaces" and old["spec"].get("finalizers"))
        if not waits:
            return self._remove(key)
        metadata = {
            "deletionTimestamp": meta.timestamp(self.clock.now() + timedelta(seconds=grace)),
            "deletionGracePeriodSeconds": grace,
            **old["metadata"],
        }
        if finalizers:
            metadata["finalizers"] = finalizers
        changed = {**old, "metadata": metadata}
        if resource == "namespaces":
            changed["status"] = {**meta.status(old), "phase": "Terminating"}
        return self._put(key, changed, old)

    def gone(self, namespace: str, name: str) -> None:
        """The node says that a terminating pod has ended."""
        self._remove(Key("pods", namespace, name))

    def put_status(self, resource: str, namespace: str, name: str, status: Object) -> None:
        """What a kubelet or a user writes, at once."""
        key = Key(resource, namespace, name)
        self._replace(key, self._present(key), {**self._present(key), "status": status}, "status")

    def _present(self, key: Key) -> Object:
        obj = self.objects.get(key)
        if obj is None:
            raise errors.not_found(key.resource, "", key.name)
        return obj

    def _put(self, key: Key, obj: Object, old: Object | None) -> Object:
        self.revision += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}}
        self.objects[key] = obj
        self._tell(key, ChangeType.MODIFIED if old else ChangeType.ADDED, obj, old)
        return obj

    def _remove(self, key: Key) -> Object:
        old = self.objects.pop(key)
        self.revision += 1
        self._tell(key, ChangeType.DELETED, old, old)
        return old

    def _entry(self, key: Key, obj: Object) -> Entry:
        return Entry(key, int(obj["metadata"]["resourceVersion"]), orjson.dumps(obj), obj)

    def _tell(self, key: Key, type: ChangeType, obj: Object, old: Object | None) -> None:
        change = Change(type, self._entry(key, obj), self._entry(key, old) if old else None)
        for resource, handler in list(self._handlers):
            if resource in ("*", key.resource):
                handler(change)


def _merge_conditions(old: Object, patch: Object) -> list[Object]:
    merged = {c["type"]: c for c in meta.conditions(old)}
    for condition in patch["status"]["conditions"]:
        merged[condition["type"]] = {**merged.get(condition["type"], {}), **condition}
    return list(merged.values())


def merge(old, patch):
    """A JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _merge_containers(old: Object, patch: Object) -> list[Object]:
    changes = {c["name"]: c for c in patch["spec"]["containers"]}
    return [merge(c, changes.get(c["name"], {})) for c in old["spec"]["containers"]]

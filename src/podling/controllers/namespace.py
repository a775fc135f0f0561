"""Namespace finalization: everything in a namespace that is deleted goes first, pods before all else.

Source: "Namespaces", and KEP-5080 (ordered namespace deletion): pods end before the configuration, network policies
and volumes that they still use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Delete, Together, Update
from podling.controllers.runtime import ActionFailed, Context, Controller, ObjectKey, Watch, itself, service_account
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, Object

RESOURCE = "namespaces"
FINALIZER = "kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    namespace: Object
    content: Mapping[str, Sequence[Object]]
    """Its objects by resource; resources without objects are left out."""


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    namespace = client.get(RESOURCE, "", key.name)
    if namespace is None or not meta.deleting(namespace):
        return None
    content: dict[str, Sequence[Object]] = {}
    for resource in client.resources():
        if resource.namespaced and "delete" in resource.verbs:
            found = client.list(resource.group_resource, key.name)
            if found:
                content[resource.group_resource] = found
    return Snapshot(namespace=namespace, content=content)


def decide(snapshot: Snapshot) -> list[Action]:
    """Deletes what is there: while there are pods only those. When nothing is left, lets the namespace go."""
    if not snapshot.content:
        return [_finalize(snapshot.namespace)] if FINALIZER in finalizers(snapshot.namespace) else []
    now_deleted = {"pods": snapshot.content["pods"]} if "pods" in snapshot.content else snapshot.content
    writes = [
        Delete(
            why="its namespace is being deleted",
            resource=resource,
            namespace=meta.namespace(obj),
            name=meta.name(obj),
            uid=meta.uid(obj),
            propagation="Background",
        )
        for resource, objects in now_deleted.items()
        for obj in objects
        if not meta.deleting(obj)
    ]
    return [Together(writes=writes)] if writes else []


def finalizers(namespace: Object) -> Sequence[str]:
    return meta.spec(namespace).get("finalizers") or []


def _finalize(namespace: Object) -> Update:
    left = [f for f in finalizers(namespace) if f != FINALIZER]
    changed = {**namespace, "spec": {**meta.spec(namespace), "finalizers": left}}
    return Update(why="nothing is left in it", resource=RESOURCE, object=changed, subresource="finalize")


def decide_status(snapshot: Snapshot, failure: str | None, now: datetime) -> list[Action]:
    """What still keeps the namespace, as conditions."""
    conditions: list[Object] = list(meta.conditions(snapshot.namespace))
    for condition in _conditions(snapshot, failure):
        conditions = replace_condition(conditions, condition, now)
    status = {**meta.status(snapshot.namespace), "conditions": conditions}
    return [*write_status(RESOURCE, snapshot.namespace, status, "what is left in it")]


def _conditions(snapshot: Snapshot, failure: str | None) -> Iterable[Object]:
    yield _condition(
        "NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"
    )
    message = "All legacy kube types successfully parsed"
    yield _condition("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", message)
    if failure is None:
        message = "All content successfully deleted, may be waiting on finalization"
        yield _condition("NamespaceDeletionContentFailure", "ContentDeleted", message)
    else:
        message = f"Failed to delete all resource types, 1 remaining: {failure}"
        yield _condition("NamespaceDeletionContentFailure", "ContentDeletionFailed", message, "True")
    # While there are pods Kubernetes does not count what else remains, nor them.
    content: Mapping[str, Sequence[Object]] = {} if "pods" in snapshot.content else snapshot.content
    if content:
        remaining = ", ".join(
            sorted(
                f"{_dotted(resource)} has {len(objects)} resource instances" for resource, objects in content.items()
            )
        )
        message = f"Some resources are remaining: {remaining}"
        yield _condition("NamespaceContentRemaining", "SomeResourcesRemain", message, "True")
    else:
        yield _condition("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed")
    counts = Counter(f for objects in content.values() for obj in objects for f in meta.finalizers(obj))
    if counts:
        found = ", ".join(sorted(f"{name} in {count} resource instances" for name, count in counts.items()))
        message = f"Some content in the namespace has finalizers remaining: {found}"
        yield _condition("NamespaceFinalizersRemaining", "SomeFinalizersRemain", message, "True")
    else:
        message = "All content-preserving finalizers finished"
        yield _condition("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", message)


def _dotted(resource: str) -> str:
    """`configmaps.`: resource and group always have the dot between them."""
    return resource if "." in resource else f"{resource}."


def _condition(type: str, reason: str, message: str, status: str = "False") -> Object:
    return {"type": type, "status": status, "reason": reason, "message": message}


async def reconcile(context: Context, key: ObjectKey) -> None:
    snapshot = observe(context.client, key)
    if snapshot is None:
        return
    failure: ActionFailed | None = None
    try:
        await context.act(key, decide(snapshot))
    except ActionFailed as refused:
        failure = refused
    left = observe(context.client, key)
    if left is not None:
        reason = failure.error.message if failure else None
        await context.act(key, decide_status(left, reason, context.now()))
    if left is not None and not left.content and snapshot.content:
        await context.act(key, decide(left))
    if failure is not None:
        raise failure


def _of_content(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The namespace of an object that went, or lost a finalizer, if it waits for that."""
    name = change.entry.key.namespace
    if not name or (change.type != "DELETED" and not _finalizers_changed(change)):
        return
    namespace = client.get(RESOURCE, "", name)
    if namespace is not None and meta.deleting(namespace):
        yield ObjectKey("", name)


def _finalizers_changed(change: Change) -> bool:
    old = change.previous
    return old is not None and meta.finalizers(old.object) != meta.finalizers(change.entry.object)


def controller() -> Controller:
    return Controller(
        name="namespace-controller",
        user=service_account("namespace-controller"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=itself), Watch(resource="*", keys=_of_content)),
        reconcile=reconcile,
        workers=10,
    )

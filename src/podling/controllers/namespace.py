"""Namespace finalization: everything in a namespace that is deleted goes first, pods before all else.

What keeps a namespace its conditions say, in Kubernetes' words: also that there is a group of another API server which
does not answer, because nobody knows then whether anything of it is left. Source: "Namespaces", KEP-5080 (ordered
deletion: pods end before the configuration, network policies and volumes that they still use), and
`pkg/controller/namespace/deletion`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Delete, Requeue, Together, Update
from podling.controllers.runtime import ActionFailed, Context, Controller, ObjectKey, Watch, itself, service_account
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, Object

RESOURCE = "namespaces"
FINALIZER = "kubernetes"
PODS = "pods"
API_SERVICES = "apiservices.apiregistration.k8s.io"
USUAL_GRACE = 30
RETRY = 15.0
"""Seconds until it is asked again whether the others answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    namespace: Object
    content: Mapping[str, Sequence[Object]]
    """Its objects by resource; resources without objects are left out."""
    versions: Mapping[str, str]
    """Group, version and name of each resource in `content`, as Go writes them."""
    silent: Sequence[str] = ()
    """Versions of groups of which nobody knows what is there."""


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    """`None` for a namespace that is not to go, or has nothing to wait for any more."""
    namespace = client.get(RESOURCE, "", key.name)
    if namespace is None or not meta.deleting(namespace) or not finalizers(namespace):
        return None
    content: dict[str, Sequence[Object]] = {}
    versions: dict[str, str] = {}
    for resource in client.resources():
        if resource.namespaced and "delete" in resource.verbs:
            found = client.list(resource.group_resource, key.name)
            if found:
                content[resource.group_resource] = found
                versions[resource.group_resource] = f"{resource.group}/{resource.version}, Resource={resource.plural}"
    return Snapshot(namespace=namespace, content=content, versions=versions, silent=_silent(client))


def _silent(client: Client) -> list[str]:
    services = [s for s in client.list(API_SERVICES) if meta.spec(s).get("service") is not None]
    silent = [meta.spec(s) for s in services if not meta.condition_is(s, "Available")]
    return sorted(f"{spec.get('group', '')}/{spec.get('version', '')}" for spec in silent)


def decide(snapshot: Snapshot) -> list[Action]:
    """Deletes what is there: while there are pods only those. When nothing is left, lets the namespace go."""
    if not snapshot.content and not snapshot.silent:
        return [_finalize(snapshot.namespace)] if FINALIZER in finalizers(snapshot.namespace) else []
    writes = [
        Delete(
            why="its namespace is being deleted",
            resource=resource,
            namespace=meta.namespace(obj),
            name=meta.name(obj),
            uid=meta.uid(obj),
            propagation="Background",
        )
        for resource, objects in _due(snapshot).items()
        for obj in objects
        if not meta.deleting(obj)
    ]
    return [Together(writes=writes)] if writes else []


def _due(snapshot: Snapshot) -> Mapping[str, Sequence[Object]]:
    """What is to go now."""
    return {PODS: snapshot.content[PODS]} if PODS in snapshot.content else snapshot.content


def finalizers(namespace: Object) -> Sequence[str]:
    return meta.spec(namespace).get("finalizers") or []


def _finalize(namespace: Object) -> Update:
    left = [f for f in finalizers(namespace) if f != FINALIZER]
    changed = {**namespace, "spec": {**meta.spec(namespace), "finalizers": left}}
    return Update(why="nothing is left in it", resource=RESOURCE, object=changed, subresource="finalize")


def decide_status(snapshot: Snapshot, failure: str | None, now: datetime) -> list[Action]:
    """What still keeps the namespace, as conditions. Pods that end in their time keep it without a word."""
    told: list[str] = [failure] if failure else []
    failures = sorted([*told, *_unexpected(snapshot, now)])
    conditions: list[Object] = list(meta.conditions(snapshot.namespace))
    for condition in _conditions(snapshot, failures):
        conditions = replace_condition(conditions, condition, now)
    status = {**meta.status(snapshot.namespace), "conditions": conditions}
    later = _later(snapshot, now)
    return [*write_status(RESOURCE, snapshot.namespace, status, "what is left in it"), *later]


def _later(snapshot: Snapshot, now: datetime) -> list[Requeue]:
    if rest := _rest_of_grace(snapshot, now):
        return [Requeue(why="then its pods should have ended", seconds=rest / 2 + 1)]
    return [Requeue(why="others may answer then", seconds=RETRY)] if snapshot.silent else []


def _rest_of_grace(snapshot: Snapshot, now: datetime) -> float:
    """Seconds in which its pods may still end."""
    running = [p for p in snapshot.content.get(PODS, ()) if podlib.phase(p) not in ("Succeeded", "Failed")]
    grace = max((meta.spec(p).get("terminationGracePeriodSeconds", USUAL_GRACE) for p in running), default=0)
    ends = meta.parse_time(snapshot.namespace["metadata"]["deletionTimestamp"]) + timedelta(seconds=grace)
    return max(0.0, (ends - now).total_seconds())


def _unexpected(snapshot: Snapshot, now: datetime) -> list[str]:
    """Resources that should have gone and have not, and nobody says why."""
    name = meta.name(snapshot.namespace)
    return [
        f"unexpected items still remain in namespace: {name} for gvr: {snapshot.versions[resource]}"
        for resource, objects in _due(snapshot).items()
        if not any(meta.finalizers(obj) for obj in objects) and not (resource == PODS and _rest_of_grace(snapshot, now))
    ]


def _conditions(snapshot: Snapshot, failures: Sequence[str]) -> Iterable[Object]:
    """Of what is left nothing is told while it is pods: what else there is has not been touched yet."""
    left: Mapping[str, Sequence[Object]] = {} if PODS in snapshot.content else snapshot.content
    if snapshot.silent:
        stale = ", ".join(f"{version}: stale GroupVersion discovery: {version}" for version in snapshot.silent)
        message = (
            f"Discovery failed for some groups, {len(snapshot.silent)} failing: "
            f"unable to retrieve the complete list of server APIs: {stale}"
        )
        yield _condition("NamespaceDeletionDiscoveryFailure", "DiscoveryFailed", message, "True")
    else:
        message = "All resources successfully discovered"
        yield _condition("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", message)
    message = "All legacy kube types successfully parsed"
    yield _condition("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", message)
    if failures:
        message = f"Failed to delete all resource types, {len(failures)} remaining: {', '.join(failures)}"
        yield _condition("NamespaceDeletionContentFailure", "ContentDeletionFailed", message, "True")
    else:
        message = "All content successfully deleted, may be waiting on finalization"
        yield _condition("NamespaceDeletionContentFailure", "ContentDeleted", message)
    if left:
        remaining = sorted(f"{_dotted(r)} has {len(objs)} resource instances" for r, objs in left.items())
        message = f"Some resources are remaining: {', '.join(remaining)}"
        yield _condition("NamespaceContentRemaining", "SomeResourcesRemain", message, "True")
    else:
        yield _condition("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed")
    counts = Counter(f for objects in left.values() for obj in objects for f in meta.finalizers(obj))
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
    failure: ActionFailed | None = None
    if snapshot is not None and snapshot.content:
        try:
            await context.act(key, decide(snapshot))
        except ActionFailed as refused:
            failure = refused
        snapshot = observe(context.client, key)
    if snapshot is None:
        return
    await context.act(key, decide_status(snapshot, failure.error.message if failure else None, context.now()))
    if failure is not None:
        raise failure
    empty = observe(context.client, key)
    if empty is not None and not empty.content:
        await context.act(key, decide(empty))


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


def _all_that_go(client: Client, _change: Change) -> Iterable[ObjectKey]:
    """Whoever answers again may be what they wait for."""
    yield from (ObjectKey("", meta.name(n)) for n in client.list(RESOURCE) if meta.deleting(n))


def controller() -> Controller:
    return Controller(
        name="namespace-controller",
        user=service_account("namespace-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource=RESOURCE, keys=itself),
            Watch(resource="*", keys=_of_content),
            Watch(resource=API_SERVICES, keys=_all_that_go),
        ),
        reconcile=reconcile,
        workers=10,
    )

"""ControllerRevisions: the past pod templates of StatefulSets and DaemonSets, so that a rollout can be undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action, Create, Delete, Patch
from podling.controllers.hashing import template_hash
from podling.store.types import Object

RESOURCE = "controllerrevisions.apps"
HASH_LABEL = "controller.kubernetes.io/hash"
POD_LABEL = "controller-revision-hash"


def revisions_of(client: Client, owner: Object) -> list[Object]:
    """Oldest first."""
    found = (o for resource, o in client.owned(meta.uid(owner)) if resource == RESOURCE)
    return sorted(found, key=lambda r: (r["revision"], meta.name(r)))


def template_of(revision: Object) -> Object:
    """The pod template that the revision keeps."""
    template: Object = meta.part(revision, "data", "spec", "template")
    return {key: value for key, value in template.items() if key != "$patch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The revision of the present template, and what must be written so that it is the newest."""

    update: Object
    actions: Sequence[Action]
    revisions: Sequence[Object]


def track(owner: Object, revisions: Sequence[Object]) -> History:
    """Finds the revision of the present template and makes it the newest, or creates it."""
    template: Object = meta.spec(owner)["template"]
    data: Object = {"spec": {"template": {**template, "$patch": "replace"}}}
    newest = max((r["revision"] for r in revisions), default=0)
    same = [r for r in revisions if r.get("data") == data]
    if not same:
        new = _new_revision(owner, data, newest + 1, {meta.name(r) for r in revisions})
        why = f"its template is new: revision {newest + 1}"
        return History(
            update=new, actions=[Create(why=why, resource=RESOURCE, object=new)], revisions=[*revisions, new]
        )
    latest = same[-1]
    if latest["revision"] == newest:
        return History(update=latest, actions=[], revisions=revisions)
    why = f"the template of revision {latest['revision']} is used again"
    patch: Object = {"revision": newest + 1}
    renew = Patch(why=why, resource=RESOURCE, namespace=meta.namespace(latest), name=meta.name(latest), patch=patch)
    return History(update={**latest, **patch}, actions=[renew], revisions=revisions)


def _new_revision(owner: Object, data: Object, number: int, taken: Collection[str]) -> Object:
    template: Object = data["spec"]["template"]
    collisions = 0
    while (name := f"{meta.name(owner)}-{template_hash(template, collisions)}") in taken:
        collisions += 1
    metadata: Object = {
        "name": name,
        "namespace": meta.namespace(owner),
        "labels": {**meta.labels(template), HASH_LABEL: name.rpartition("-")[2]},
        "ownerReferences": [meta.new_controller_reference(owner)],
    }
    if meta.annotations(owner):
        metadata["annotations"] = dict(meta.annotations(owner))
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": data,
        "revision": number,
    }


def truncate(owner: Object, revisions: Sequence[Object], live: Collection[str]) -> Iterable[Action]:
    """Deletes the oldest revisions beyond `revisionHistoryLimit` that no pod and no status uses."""
    limit: int = meta.spec(owner).get("revisionHistoryLimit", 10)
    old = [r for r in revisions if meta.name(r) not in live]
    for revision in old[: max(0, len(old) - limit)]:
        yield Delete(
            why=f"revision {revision['revision']} is older than the last {limit}",
            resource=RESOURCE,
            namespace=meta.namespace(revision),
            name=meta.name(revision),
            uid=meta.uid(revision),
        )

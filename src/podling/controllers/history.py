"""ControllerRevisions: the past pod templates of StatefulSets and DaemonSets, so that a rollout can be undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.api.client import Client
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Create, Delete, Patch
from podling.controllers.hashing import template_hash
from podling.controllers.selecting import selector_of
from podling.store.types import Object

RESOURCE = "controllerrevisions.apps"
HASH_LABEL = "controller.kubernetes.io/hash"
"""Where a StatefulSet's revision tells its hash."""
POD_LABEL = "controller-revision-hash"
"""Where a pod tells its revision, and a DaemonSet's revision its hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """What is kept of the past, as it was found."""

    own: Sequence[Object]
    """Oldest first, those about to be adopted included."""
    claims: Sequence[Action]
    others: Mapping[str, Object]
    """Those of others in the namespace, by name."""


def revisions_of(client: Client, owner: Object) -> Revisions:
    found = client.list(RESOURCE, meta.namespace(owner))
    claim = podlib.Claim(RESOURCE, owner, selector_of(owner), found)
    names = {meta.name(r) for r in claim.owned}
    return Revisions(
        own=sorted(claim.owned, key=_age),
        claims=claim.changes,
        others={meta.name(r): r for r in found if meta.name(r) not in names},
    )


def _age(revision: Object) -> tuple[int, str, str]:
    return (revision["revision"], meta.metadata(revision).get("creationTimestamp", ""), meta.name(revision))


def template_of(revision: Object) -> Object:
    """The pod template that the revision keeps."""
    template: Object = meta.part(revision, "data", "spec", "template")
    return {key: value for key, value in template.items() if key != "$patch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The revision of the present template, and what must be written so that it is the newest."""

    update: Object
    actions: Sequence[Action]
    collisions: int | None
    """How often a name was taken by the revision of another template; `None` if never."""


def track(owner: Object, revisions: Revisions, label: str) -> History:
    """Finds the revision of the present template and makes it the newest, or creates it.

    `label` is where a revision of that kind tells its hash.
    """
    template: Object = meta.spec(owner)["template"]
    data: Object = {"spec": {"template": {**template, "$patch": "replace"}}}
    collisions: int | None = meta.status(owner).get("collisionCount")
    newest = max((r["revision"] for r in revisions.own), default=0)
    same = [r for r in revisions.own if r.get("data") == data]
    if not same:
        return _begin(owner, revisions, data, label, newest + 1)
    latest = same[-1]
    if latest["revision"] == newest:
        return History(update=latest, actions=revisions.claims, collisions=collisions)
    why = f"the template of revision {latest['revision']} is used again"
    patch: Object = {"revision": newest + 1}
    renew = Patch(why=why, resource=RESOURCE, namespace=meta.namespace(latest), name=meta.name(latest), patch=patch)
    return History(update={**latest, **patch}, actions=[*revisions.claims, renew], collisions=collisions)


def _begin(owner: Object, revisions: Revisions, data: Object, label: str, number: int) -> History:
    """A new revision, unless one of its name and content is there that somebody else still owns."""
    collisions: int | None = meta.status(owner).get("collisionCount")
    taken = {**revisions.others, **{meta.name(r): r for r in revisions.own}}
    while (holder := taken.get(_name(owner, data, collisions))) is not None and holder.get("data") != data:
        collisions = (collisions or 0) + 1
    if holder is not None:
        return History(update=holder, actions=revisions.claims, collisions=collisions)
    new = _new_revision(owner, _name(owner, data, collisions), data, label, number)
    create = Create(why=f"its template is new: revision {number}", resource=RESOURCE, object=new)
    return History(update=new, actions=[*revisions.claims, create], collisions=collisions)


def _name(owner: Object, data: Object, collisions: int | None) -> str:
    return f"{meta.name(owner)}-{template_hash(data['spec']['template'], collisions or 0)}"


def _new_revision(owner: Object, name: str, data: Object, label: str, number: int) -> Object:
    metadata: Object = {
        "name": name,
        "namespace": meta.namespace(owner),
        "labels": {**meta.labels(data["spec"]["template"]), label: name.rpartition("-")[2]},
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


def truncate(owner: Object, old: Sequence[Object], live: Collection[str]) -> Iterable[Action]:
    """Of the `old` revisions those beyond `revisionHistoryLimit` go, the oldest first, but none that is `live`."""
    limit: int = meta.spec(owner).get("revisionHistoryLimit", 10)
    idle = [r for r in old if meta.name(r) not in live]
    for revision in idle[: max(0, len(old) - limit)]:
        yield Delete(
            why=f"revision {revision['revision']} is older than the last {limit}",
            resource=RESOURCE,
            namespace=meta.namespace(revision),
            name=meta.name(revision),
            uid=meta.uid(revision),
        )

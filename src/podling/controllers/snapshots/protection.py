"""A claim that is being copied does not go: the finalizers of claims that are the source of a snapshot or of a clone.

Who begins to copy puts the finalizer on the claim; here it is taken away when the copy is complete or given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers.actions import Action
from podling.controllers.finalizers import set_finalizers
from podling.controllers.runtime import Controller, ObjectKey, Watch, key_of, looking, service_account
from podling.controllers.snapshots import objects
from podling.controllers.snapshots.definition import CONTENTS, SNAPSHOTS
from podling.controllers.snapshots.objects import CLAIM_FINALIZER, content_name, is_ready, source_claim
from podling.controllers.volumebinder import CLAIMS
from podling.store.types import Change, Object

CLONING_FINALIZER = "provisioner.storage.kubernetes.io/cloning-protection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    claim: Object
    needed: Sequence[str]
    """Those of the two finalizers that something still needs."""


def observe(client: Client, key: ObjectKey) -> Situation | None:
    claim = client.get(CLAIMS, key.namespace, key.name)
    if claim is None or not {CLAIM_FINALIZER, CLONING_FINALIZER}.intersection(meta.finalizers(claim)):
        return None
    needed: list[str] = []
    if any(_is_copied_by(client, snapshot, key.name) for snapshot in client.list(SNAPSHOTS, key.namespace)):
        needed.append(CLAIM_FINALIZER)
    if any(objects.restores(c, "PersistentVolumeClaim", key.name) for c in client.list(CLAIMS, key.namespace)):
        needed.append(CLONING_FINALIZER)
    return Situation(claim=claim, needed=needed)


def _is_copied_by(client: Client, snapshot: Object, claim: str) -> bool:
    """Whether the snapshot is still to be taken of the claim, or is being taken."""
    if source_claim(snapshot) != claim or is_ready(snapshot):
        return False
    content = client.get(CONTENTS, "", content_name(snapshot))
    if content is None:
        return not meta.deleting(snapshot)
    return not is_ready(content) and not meta.deleting(content)


def decide(seen: Situation, _now: datetime) -> list[Action]:
    claim = seen.claim
    over = {CLAIM_FINALIZER, CLONING_FINALIZER}.difference(seen.needed)
    rest = [f for f in meta.finalizers(claim) if f not in over]
    if rest == meta.finalizers(claim):
        return []
    return [set_finalizers(CLAIMS, claim, rest, "no copy of it is being made")]


def controller() -> Controller:
    return Controller(
        name="pvc-as-source-protection",
        user=service_account("snapshot-controller"),
        resource=CLAIMS,
        watches=(
            Watch(resource=SNAPSHOTS, keys=_of_snapshot),
            Watch(resource=CONTENTS, keys=_of_content),
            Watch(resource=CLAIMS, keys=_of_claim),
        ),
        reconcile=looking(observe, decide),
    )


def _of_snapshot(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claim of which it is."""
    yield ObjectKey(change.entry.key.namespace, source_claim(change.entry.object))


def _of_content(client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claim of its snapshot."""
    key = objects.snapshot_of(change.entry.object)
    snapshot = client.get(SNAPSHOTS, *key)
    if snapshot is not None:
        yield ObjectKey(key.namespace, source_claim(snapshot))


def _of_claim(_client: Client, change: Change) -> Iterable[ObjectKey]:
    """The claim itself, and the one of which it is a clone."""
    claim = change.entry.object
    yield key_of(claim)
    source = meta.part(claim, "spec", "dataSource")
    if source.get("kind") == "PersistentVolumeClaim":
        yield ObjectKey(meta.namespace(claim), source.get("name", ""))

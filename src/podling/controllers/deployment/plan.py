"""What one look decides about replica sets, collected so that each set is written at most once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from podling.api import meta
from podling.controllers.actions import Action, Announce, Emit, Update
from podling.controllers.deployment import rules
from podling.store.types import Object

RESOURCE = "replicasets.apps"
NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        rules.REVISION,
        rules.REVISION_HISTORY,
        rules.DESIRED_REPLICAS,
        rules.MAX_REPLICAS,
        rules.ROLLBACK_TO,
    }
)
"""Annotations that each of deployment and replica set has for itself."""
_HISTORY_LIMIT = 2000
"""Characters of the revision history annotation."""


@dataclass(slots=True)
class _Change:
    set: Object
    why: list[str] = field(default_factory=list[str])
    events: list[Announce] = field(default_factory=list[Announce])


class Plan:
    """The replica sets as they will be; every method that changes one says why."""

    def __init__(self, deployment: Object, sets: Iterable[Object]) -> None:
        self.deployment = deployment
        self._sets = {meta.name(s): s for s in sets}
        self._changes: dict[str, _Change] = {}

    def get(self, name: str) -> Object:
        """The set as it will be."""
        return self._sets[name]

    def all(self) -> Sequence[Object]:
        return list(self._sets.values())

    def total(self) -> int:
        return sum(rules.replicas(s) for s in self._sets.values())

    @property
    def changed(self) -> bool:
        return bool(self._changes)

    def scale(self, name: str, size: int, why: str, *, remember: bool = False) -> bool:
        """Sets the size and the annotations that remember what the deployment wanted; whether the size changed.

        A set that has the size already only gets the annotations where it is to `remember`.
        """
        set = self._sets[name]
        before = rules.replicas(set)
        remembered = scale_annotations(self.deployment)
        if before == size and (not remember or meta.matches_labels(remembered, meta.annotations(set))):
            return False
        changed = {**with_annotations(set, remembered), "spec": {**set["spec"], "replicas": size}}
        if before == size:
            self._put(changed, "remember the size of the deployment")
            return False
        direction = "up" if size > before else "down"
        message = f"Scaled {direction} replica set {name} from {before} to {size}"
        event = Announce(regarding=self.deployment, reason="ScalingReplicaSet", message=message)
        self._put(changed, f"{why}: from {before} to {size}", event)
        return True

    def refresh(self, name: str, revision: int) -> None:
        """Brings annotations, revision and minReadySeconds of the new set up to date."""
        set = self._sets[name]
        wanted = new_set_annotations(self.deployment, set, revision)
        if not meta.matches_labels(wanted, meta.annotations(set)):
            self._put(with_annotations(set, wanted), f"it is revision {wanted[rules.REVISION]}")
        min_ready = meta.spec(self.deployment).get("minReadySeconds", 0)
        set = self._sets[name]
        if set["spec"].get("minReadySeconds", 0) != min_ready:
            self._put({**set, "spec": {**set["spec"], "minReadySeconds": min_ready}}, "minReadySeconds changed")

    def _put(self, set: Object, why: str, event: Announce | None = None) -> None:
        name = meta.name(set)
        change = self._changes.setdefault(name, _Change(set))
        change.set = self._sets[name] = set
        change.why.append(why)
        if event is not None:
            change.events.append(event)

    def actions(self) -> list[Action]:
        actions: list[Action] = []
        for change in self._changes.values():
            why = "; ".join(change.why)
            first, *further = change.events or [None]
            actions.append(Update(why=why, resource=RESOURCE, object=change.set, done=first))
            actions += [Emit(why=why, event=event) for event in further if event]
        return actions


def scale_annotations(deployment: Object) -> dict[str, str]:
    return {
        rules.DESIRED_REPLICAS: str(rules.replicas(deployment)),
        rules.MAX_REPLICAS: str(rules.max_pods(deployment)),
    }


def new_set_annotations(deployment: Object, set: Object, revision: int) -> dict[str, str]:
    """The annotations that a set of the present template must have: the deployment's own, and its revision.

    A set that comes back by a rollback gets the newest revision and keeps its old ones as history.
    """
    wanted = {k: v for k, v in meta.annotations(deployment).items() if k not in NOT_COPIED}
    have = rules.revision(set)
    wanted[rules.REVISION] = str(max(have, revision))
    if rules.REVISION in meta.annotations(set) and have < revision:
        wanted[rules.REVISION_HISTORY] = _history(meta.annotations(set).get(rules.REVISION_HISTORY, ""), have)
    return wanted


def _history(old: str, revision: int) -> str:
    items = [*old.split(","), str(revision)] if old else [str(revision)]
    while len(",".join(items)) > _HISTORY_LIMIT and len(items) > 1:
        del items[0]
    return ",".join(items)


def with_annotations(obj: Object, more: dict[str, str]) -> Object:
    annotations = {**meta.annotations(obj), **more}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}

"""The Deployment controller: observe, decide, act.

`decide` follows one path: claim replica sets, then either scale (paused, or the size changed) or roll out by the
strategy, then clean up history, then write the status. Every path ends with the status of the replica sets as they
were observed; our own writes come back as changes and are counted in the next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Patch, Requeue, Update
from podling.controllers.deployment import progress, rules
from podling.controllers.deployment.plan import NOT_COPIED, Plan, new_set_annotations, scale_annotations
from podling.controllers.deployment.plan import RESOURCE as SETS
from podling.controllers.hashing import template_hash
from podling.controllers.runtime import (
    ActionFailed,
    Context,
    Controller,
    ObjectKey,
    Watch,
    itself,
    of_controller,
    service_account,
)
from podling.controllers.selecting import of_selecting
from podling.controllers.statuses import with_condition, write_status
from podling.store.types import Change, Object

RESOURCE = "deployments.apps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    deployment: Object
    sets: Sequence[Object]
    """Its replica sets, those about to be adopted included."""
    claims: Sequence[Action]
    pods: Sequence[Object]
    """The pods of its replica sets; only read for Recreate."""
    taken: Object | None
    """A replica set that has the name of the new one but is not the new one: a hash collision."""


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    deployment = client.get(RESOURCE, key.namespace, key.name)
    if deployment is None:
        return None
    selector = meta.spec(deployment).get("selector")
    owned = [s for resource, s in client.owned(meta.uid(deployment)) if resource == SETS]
    orphans = (s for s in client.list(SETS, key.namespace) if meta.controller_reference(s) is None)
    claim = podlib.Claim(SETS, deployment, selector, [*owned, *orphans])
    recreate = not rules.is_rolling(deployment)
    pods = [p for s in claim.owned for r, p in client.owned(meta.uid(s)) if r == "pods"] if recreate else []
    holder = client.get(SETS, key.namespace, new_name(deployment))
    mine = rules.find_new(deployment, claim.owned)
    return Snapshot(
        deployment=deployment,
        sets=claim.owned,
        claims=claim.changes,
        pods=pods,
        taken=None if mine is not None else holder,
    )


def new_name(deployment: Object) -> str:
    """The new set's name; that of the deployment is cut where both together would be too long for one."""
    hash = _hash(deployment)
    return f"{meta.name(deployment)[: podlib.LONGEST_NAME - 1 - len(hash)]}-{hash}"


def _hash(deployment: Object) -> str:
    collisions: int = meta.status(deployment).get("collisionCount") or 0
    return template_hash(rules.bare_template(meta.spec(deployment)["template"]), collisions)


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    deployment = snapshot.deployment
    if meta.spec(deployment).get("selector") == {}:
        return [_selects_all(deployment)]
    if meta.deleting(deployment):
        return _Look(snapshot, now).status_only()
    if snapshot.taken is not None and not meta.spec(deployment).get("paused"):
        return [*snapshot.claims, *_count_collision(deployment)]
    return [*snapshot.claims, *_Look(snapshot, now).decide()]


def _selects_all(deployment: Object) -> Action:
    message = "This deployment is selecting all pods. A non-empty selector is required."
    event = Announce(regarding=deployment, reason="SelectingAll", message=message, type="Warning")
    return Emit(why="its selector is empty", event=event)


def _count_collision(deployment: Object) -> list[Patch]:
    """Another set has the new set's name: count it, which changes the hash, and look again."""
    status = {**meta.status(deployment), "collisionCount": (meta.status(deployment).get("collisionCount") or 0) + 1}
    return write_status(RESOURCE, deployment, status, f"replica set {new_name(deployment)} has another template")


class _Look:
    """One decision in the making. Holds no state beyond it."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.deployment = snapshot.deployment
        self.now = now
        self.plan = Plan(self.deployment, snapshot.sets)
        new = rules.find_new(self.deployment, snapshot.sets)
        self.new: str | None = meta.name(new) if new else None
        self.old = [meta.name(s) for s in rules.by_age(snapshot.sets) if s is not new]
        self.conditions = progress.pause_condition(self.deployment, list(meta.conditions(self.deployment)), now)
        self.creations: list[Action] = []

    # Paths

    def decide(self) -> list[Action]:
        cleanup: list[Action] = []
        if meta.spec(self.deployment).get("paused"):
            self.adopt_revision(create=False)
            self.scale()
            cleanup = self.cleanup()
            status = self.counted()
        elif (revision := rules.rollback_to(self.deployment)) is not None:
            return self.roll_back(revision)
        elif self.size_changed():
            self.adopt_revision(create=False)
            self.scale()
            status = self.counted()
        else:
            moved = self.roll() if rules.is_rolling(self.deployment) else self.recreate()
            status = self.rollout_status()
            if not moved and progress.is_complete(self.deployment, status):
                cleanup = self.cleanup()
        return [*self.creations, *self.plan.actions(), *cleanup, *self.revision_of_deployment(), *self.write(status)]

    def status_only(self) -> list[Action]:
        return self.write(self.counted())

    # The new replica set

    def adopt_revision(self, *, create: bool) -> None:
        revision = max((rules.revision(self.plan.get(name)) for name in self.old), default=0) + 1
        if self.new is not None:
            self.plan.refresh(self.new, revision)
            if progress.has_deadline(self.deployment) and self.progressing() is None:
                self.note("FoundNewReplicaSet", f'Found new replica set "{self.new}"')
        elif create:
            self.create(revision)

    def create(self, revision: int) -> None:
        new = self.new_set(revision)
        name, size = meta.name(new), rules.replicas(new)
        message = f"Scaled up replica set {name} from 0 to {size}"
        done = Announce(regarding=self.deployment, reason="ScalingReplicaSet", message=message) if size else None
        failed = Announce(
            regarding=self.deployment,
            reason="ReplicaSetCreateError",
            message=f'Failed to create new replica set "{name}": {{error}}',
            type="Warning",
        )
        why = f"no replica set has the present template; {size} of {rules.replicas(self.deployment)} pods may be new"
        self.creations.append(Create(why=why, resource=SETS, object=new, done=done, failed=failed))
        if progress.has_deadline(self.deployment):
            self.note("NewReplicaSetCreated", f'Created new replica set "{name}"')

    def new_set(self, revision: int) -> Object:
        deployment, hash = self.deployment, _hash(self.deployment)
        template: Object = meta.spec(deployment)["template"]
        labels = {**meta.labels(template), rules.HASH_LABEL: hash}
        selector = meta.part(deployment, "spec", "selector")
        matched = {**meta.part(selector, "matchLabels"), rules.HASH_LABEL: hash}
        new: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": new_name(deployment),
                "namespace": meta.namespace(deployment),
                "labels": labels,
                "ownerReferences": [meta.new_controller_reference(deployment)],
            },
            "spec": {
                "replicas": rules.new_set_size(deployment, self.plan.total(), 0),
                "selector": {**selector, "matchLabels": matched},
                "template": {**template, "metadata": {**meta.metadata(template), "labels": labels}},
            },
        }
        if meta.spec(deployment).get("minReadySeconds"):
            new["spec"]["minReadySeconds"] = meta.spec(deployment)["minReadySeconds"]
        new["metadata"]["annotations"] = {
            **new_set_annotations(deployment, new, revision),
            **scale_annotations(deployment),
        }
        return new

    def revision_of_deployment(self) -> list[Action]:
        """The deployment tells the revision of its new replica set.

        By way of the status, since a change of annotations in the main resource would raise its generation.
        """
        new = self.new_object()
        if new is None:
            return []
        revision = meta.annotations(new).get(rules.REVISION)
        if revision is None or meta.annotations(self.deployment).get(rules.REVISION) == revision:
            return []
        return [
            Patch(
                why=f"its newest replica set is {meta.name(new)}",
                resource=RESOURCE,
                namespace=meta.namespace(self.deployment),
                name=meta.name(self.deployment),
                patch={"metadata": {"annotations": {rules.REVISION: revision}}},
                subresource="status",
            )
        ]

    def new_object(self) -> Object | None:
        """The new replica set, also while it is only decided to create it."""
        if self.new is not None:
            return self.plan.get(self.new)
        return next((a.object for a in self.creations if isinstance(a, Create)), None)

    # Scaling

    def size_changed(self) -> bool:
        wanted = str(rules.replicas(self.deployment))
        return any(
            rules.replicas(s) > 0 and meta.annotations(s).get(rules.DESIRED_REPLICAS, wanted) != wanted
            for s in self.snapshot.sets
        )

    def active(self) -> list[Object]:
        return [s for s in rules.by_age(self.plan.all()) if rules.replicas(s) > 0]

    def scale(self) -> None:
        """Scaling without a rollout: one set gets it all; several share it in proportion."""
        wanted = rules.replicas(self.deployment)
        active = self.active()
        if len(active) <= 1:
            only = meta.name(active[0]) if active else self.new or (self.old[-1] if self.old else None)
            if only is not None:
                self.plan.scale(only, wanted, "the deployment's size", remember=self.size_changed())
        elif self.new is not None and rules.is_saturated(self.deployment, self.plan.get(self.new)):
            for name in self.old:
                if rules.replicas(self.plan.get(name)) > 0:
                    self.plan.scale(name, 0, "the new replica set is saturated")
        elif rules.is_rolling(self.deployment):
            for name, size in rules.proportional_sizes(self.deployment, active).items():
                self.plan.scale(name, size, "its share of the deployment's size", remember=True)

    # Rolling update

    def roll(self) -> bool:
        """One step of a rolling update; whether it moved anything. First up, and only then down."""
        self.adopt_revision(create=True)
        if self.new is None:
            return True
        return self.grow_new(self.new) or self.shrink_old(self.new)

    def grow_new(self, name: str) -> bool:
        wanted, size = rules.replicas(self.deployment), rules.replicas(self.plan.get(name))
        if size == wanted:
            return False
        if size > wanted:
            return self.plan.scale(name, wanted, "the deployment wants fewer")
        target = rules.new_set_size(self.deployment, self.plan.total(), size)
        return self.plan.scale(name, target, f"at most {rules.max_pods(self.deployment)} pods in all")

    def shrink_old(self, new: str) -> bool:
        """Old pods go as far as the minimum of available pods allows; unhealthy ones first."""
        old = [name for name in self.old if rules.replicas(self.plan.get(name)) > 0]
        new_set = self.plan.get(new)
        unavailable = rules.replicas(new_set) - rules.available(new_set)
        most = self.plan.total() - rules.min_available(self.deployment) - unavailable
        if not old or most <= 0:
            return False
        unhealthy = self.shrink_unhealthy(old, most)
        return self.shrink_healthy(old) or unhealthy

    def shrink_unhealthy(self, old: Sequence[str], most: int) -> bool:
        gone = 0
        for name in old:
            size = rules.replicas(self.plan.get(name))
            count = min(most - gone, size - rules.available(self.plan.get(name)))
            if count > 0:
                self.plan.scale(name, size - count, "its unavailable pods serve nobody")
                gone += count
        return gone > 0

    def shrink_healthy(self, old: Sequence[str]) -> bool:
        least = rules.min_available(self.deployment)
        count = sum(rules.available(s) for s in self.plan.all()) - least
        gone = 0
        for name in old:
            size = rules.replicas(self.plan.get(name))
            step = min(size, count - gone)
            if step > 0:
                self.plan.scale(name, size - step, f"at least {least} pods stay available")
                gone += step
        return gone > 0

    # Recreate

    def recreate(self) -> bool:
        """All old pods go, and only when the last is gone do new ones come."""
        self.adopt_revision(create=False)
        old = [name for name in self.old if rules.replicas(self.plan.get(name)) > 0]
        for name in old:
            self.plan.scale(name, 0, "Recreate: the old pods go first")
        if old or self.old_pods_run():
            return True
        self.adopt_revision(create=True)
        if self.new is None:
            return True
        return self.plan.scale(self.new, rules.replicas(self.deployment), "Recreate: the old pods are gone")

    def old_pods_run(self) -> bool:
        if any(meta.status(self.plan.get(name)).get("replicas", 0) > 0 for name in self.old):
            return True
        new = self.new_object()
        return any(
            podlib.phase(pod) not in ("Succeeded", "Failed") and not (new and meta.controlled_by(pod, new))
            for pod in self.snapshot.pods
        )

    # Rollback

    def roll_back(self, wanted: int) -> list[Action]:
        """The template of an earlier revision comes back; 0 is the last but one (`kubectl rollout undo` of old)."""
        self.adopt_revision(create=True)
        writes = [*self.creations, *self.plan.actions(), *self.revision_of_deployment()]
        if self.new is None:
            return writes
        revision = wanted or rules.last_revision(self.plan.all())
        found = next((s for s in self.plan.all() if rules.revision(s) == revision), None)
        if not revision:
            return [*writes, self.without_rollback("RevisionNotFound", "Unable to find last revision.")]
        if found is None:
            return [*writes, self.without_rollback("RevisionNotFound", "Unable to find the revision to rollback to.")]
        if rules.same_template(meta.spec(found)["template"], meta.spec(self.deployment)["template"]):
            name = meta.name(self.deployment)
            message = f'The rollback revision contains the same template as current deployment "{name}"'
            return [*writes, self.without_rollback("TemplateUnchanged", message)]
        return [*writes, self.rolled_back(found, revision)]

    def without_rollback(self, reason: str, message: str) -> Update:
        """Nothing is rolled back, and why."""
        told = Announce(
            regarding=self.deployment, reason=f"DeploymentRollback{reason}", message=message, type="Warning"
        )
        left = {k: v for k, v in meta.annotations(self.deployment).items() if k != rules.ROLLBACK_TO}
        metadata = {**self.deployment["metadata"], "annotations": left}
        return Update(why=message, resource=RESOURCE, object={**self.deployment, "metadata": metadata}, done=told)

    def rolled_back(self, set: Object, revision: int) -> Update:
        """With the template and the annotations of that set, so that a change cause comes back as well."""
        message = f'Rolled back deployment "{meta.name(self.deployment)}" to revision {revision}'
        kept = {k: v for k, v in meta.annotations(self.deployment).items() if k in NOT_COPIED - {rules.ROLLBACK_TO}}
        came = {k: v for k, v in meta.annotations(set).items() if k not in NOT_COPIED}
        changed = {
            **self.deployment,
            "metadata": {**self.deployment["metadata"], "annotations": {**kept, **came}},
            "spec": {**meta.spec(self.deployment), "template": rules.bare_template(meta.spec(set)["template"])},
        }
        told = Announce(regarding=self.deployment, reason="DeploymentRollback", message=message)
        return Update(why=message, resource=RESOURCE, object=changed, done=told)

    # History

    def cleanup(self) -> list[Action]:
        """Old empty replica sets beyond `revisionHistoryLimit` are deleted, oldest revision first."""
        limit = meta.spec(self.deployment).get("revisionHistoryLimit")
        if limit is None:
            return []
        alive = [s for name in self.old if not meta.deleting(s := self.plan.get(name))]
        surplus = sorted(alive, key=rules.revision)[: max(0, len(alive) - limit)]
        return [self.forget(s, limit) for s in surplus if _is_empty(s)]

    def forget(self, set: Object, limit: int) -> Delete:
        return Delete(
            why=f"revision {rules.revision(set)} is older than the last {limit}",
            resource=SETS,
            namespace=meta.namespace(set),
            name=meta.name(set),
            uid=meta.uid(set),
        )

    # Status

    def progressing(self) -> Object | None:
        return meta.find_condition(self.conditions, "Progressing")

    def note(self, reason: str, message: str) -> None:
        fresh = progress.condition("Progressing", "True", reason, message, self.now)
        self.conditions = with_condition(self.conditions, fresh, self.now)

    def told(self) -> Object:
        """The deployment with the conditions that this look has set so far."""
        return {**self.deployment, "status": {**meta.status(self.deployment), "conditions": self.conditions}}

    def counted(self) -> Object:
        return progress.counted_status(self.told(), self.plan.all(), self.new_object(), self.now)

    def rollout_status(self) -> Object:
        sets, new = self.plan.all(), self.new_object()
        status = progress.counted_status(self.told(), sets, new, self.now)
        status["conditions"] = progress.rollout_conditions(self.told(), status, sets, new, self.now)
        return status

    def write(self, status: Object) -> list[Action]:
        actions: list[Action] = [*write_status(RESOURCE, self.deployment, status, "its replica sets say so")]
        current = meta.find_condition(status["conditions"], "Progressing")
        if not progress.has_deadline(self.deployment) or current is None:
            return actions
        if current["reason"] in ("ProgressDeadlineExceeded", "DeploymentPaused", "NewReplicaSetAvailable"):
            return actions
        left = (progress.deadline_of(self.deployment, current) - self.now).total_seconds() + 1
        return [*actions, Requeue(why="by then it must have progressed", seconds=max(left, 0.1))]


def _is_empty(set: Object) -> bool:
    observed = meta.status(set).get("observedGeneration", 0)
    return rules.replicas(set) == 0 and meta.status(set).get("replicas", 0) == 0 and meta.generation(set) <= observed


def _of_pod(client: Client, change: Change) -> list[ObjectKey]:
    """A Recreate deployment waits for its old pods to be gone."""
    if change.type != "DELETED":
        return []
    reference = meta.controller_reference(change.entry.object)
    if reference is None or reference["kind"] != "ReplicaSet":
        return []
    set = client.get(SETS, change.entry.key.namespace, reference["name"])
    owner = meta.controller_reference(set) if set else None
    return [ObjectKey(change.entry.key.namespace, owner["name"])] if owner else []


def failure_status(deployment: Object, error: ApiError, now: datetime) -> list[Action]:
    """Why the new replica set could not be created, as a condition."""
    if not progress.has_deadline(deployment):
        return []
    message = f'Failed to create new replica set "{new_name(deployment)}": {error.message}'
    fresh = progress.condition("Progressing", "False", "ReplicaSetCreateError", message, now)
    status = {**meta.status(deployment), "conditions": with_condition(meta.conditions(deployment), fresh, now)}
    return [*write_status(RESOURCE, deployment, status, "the new replica set was refused")]


async def reconcile(context: Context, key: ObjectKey) -> None:
    snapshot = observe(context.client, key)
    if snapshot is None:
        return
    try:
        await context.act(key, decide(snapshot, context.now()))
    except ActionFailed as failure:
        if isinstance(failure.action, Create):
            await context.act(key, failure_status(snapshot.deployment, failure.error, context.now()))
        raise


def controller() -> Controller:
    return Controller(
        name="deployment-controller",
        user=service_account("deployment-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource=RESOURCE, keys=itself),
            Watch(resource=SETS, keys=of_controller("Deployment")),
            Watch(resource=SETS, keys=of_selecting(RESOURCE)),
            Watch(resource="pods", keys=_of_pod),
        ),
        reconcile=reconcile,
    )

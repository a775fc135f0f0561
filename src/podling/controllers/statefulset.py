"""StatefulSet: pods with names, in order, each with its own volume claims.

`decide` walks the ordinals as the documentation tells it ("StatefulSet Basics", "Deployment and Scaling Guarantees"):
up from the lowest, down from the highest, an update from the highest down to the partition. With OrderedReady every
step waits until all before it are running and available; with Parallel nothing waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.controllers import history
from podling.controllers import pods as podlib
from podling.controllers.actions import Action, Announce, Create, Delete, Emit, Patch, Requeue, Update
from podling.controllers.runtime import Controller, ObjectKey, looking, service_account
from podling.controllers.selecting import workload_watches
from podling.controllers.statuses import write_status
from podling.store.types import Object

RESOURCE = "statefulsets.apps"
CLAIMS = "persistentvolumeclaims"
POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
CLAIM_RETRY = 1.0
"""Seconds until a claim that is on its way out is looked at again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    set: Object
    pods: Mapping[int, Object]
    """Its pods by ordinal."""
    adoptions: Sequence[Action]
    revisions: history.Revisions
    claims: Mapping[str, Object]
    """The claims of its pods that exist, by name."""


def ordinal_of(set: Object, pod: Object) -> int | None:
    """The number in the pod's name, if it is one of this set's names."""
    parent, _, number = meta.name(pod).rpartition("-")
    return int(number) if parent == meta.name(set) and number.isdigit() else None


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    set = client.get(RESOURCE, key.namespace, key.name)
    if set is None:
        return None
    owned = [p for resource, p in client.owned(meta.uid(set)) if resource == "pods"]
    orphans = [
        p
        for p in client.list("pods", key.namespace)
        if meta.controller_reference(p) is None and ordinal_of(set, p) is not None
    ]
    claim = podlib.Claim("pods", set, meta.spec(set).get("selector"), [*owned, *orphans])
    pods = {number: p for p in claim.owned if (number := ordinal_of(set, p)) is not None}
    names = (name for number in {*pods, *_ordinals(set)} for name in claim_names(set, number).values())
    claims = {name: found for name in names if (found := client.get(CLAIMS, key.namespace, name)) is not None}
    return Snapshot(
        set=set,
        pods=pods,
        adoptions=claim.changes,
        revisions=history.revisions_of(client, set),
        claims=claims,
    )


def _ordinals(set: Object) -> range:
    start: int = meta.part(set, "spec", "ordinals").get("start", 0)
    return range(start, start + meta.spec(set).get("replicas", 1))


def claim_names(set: Object, ordinal: int) -> dict[str, str]:
    """The claim of each volume claim template for one pod."""
    templates = meta.items(set, "spec", "volumeClaimTemplates")
    return {meta.name(t): f"{meta.name(t)}-{meta.name(set)}-{ordinal}" for t in templates}


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    return _Look(snapshot, now).decide()


class _Look:
    """One decision in the making."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.set = snapshot.set
        self.now = now
        self.ordinals = _ordinals(self.set)
        self.min_ready: int = meta.spec(self.set).get("minReadySeconds", 0)
        self.ordered = meta.spec(self.set).get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        self.history = history.track(self.set, snapshot.revisions, history.HASH_LABEL)
        self.update = meta.name(self.history.update)
        recorded: str = meta.status(self.set).get("currentRevision") or ""
        self.current = recorded if recorded in map(meta.name, snapshot.revisions.own) else self.update
        self.actions: list[Action] = []

    def decide(self) -> list[Action]:
        """The status goes first: a refusal of what follows must not keep it back."""
        status = write_status(RESOURCE, self.set, self._status(), "its pods say so")
        if meta.deleting(self.set):
            return [*status]
        self._step()
        actions: list[Action] = [*self.history.actions, *self.snapshot.adoptions, *status, *self.actions]
        live = {self.update, self.current, *(_revision(p) for p in self.snapshot.pods.values())}
        idle = [r for r in self.snapshot.revisions.own if meta.name(r) not in live]
        actions += history.truncate(self.set, idle, live)
        wait = podlib.next_available(self.snapshot.pods.values(), self.min_ready, self.now)
        return [*actions, Requeue(why="a ready pod becomes available then", seconds=wait)] if wait else actions

    def _step(self) -> None:
        """As far as order allows; each phase says whether the next may begin."""
        if self._bring_up() and self._take_down():
            self._roll()

    # Up

    def _bring_up(self) -> bool:
        """Every ordinal has a running pod; with OrderedReady, one after the other."""
        return all(self._bring_up_one(ordinal) or not self.ordered for ordinal in self.ordinals)

    def _bring_up_one(self, ordinal: int) -> bool:
        """Whether the pod is there and well, so that the next may follow."""
        pod = self.snapshot.pods.get(ordinal)
        if pod is None:
            self._create(ordinal)
            return False
        if podlib.phase(pod) in ("Failed", "Succeeded"):
            if not meta.deleting(pod):
                self._delete(pod, "it has ended and shall run for ever")
            return False
        if not meta.deleting(pod):
            self._keep(ordinal, pod)
        return not meta.deleting(pod) and self._is_available(pod)

    def _is_available(self, pod: Object) -> bool:
        return podlib.phase(pod) == "Running" and podlib.is_available(pod, self.min_ready, self.now)

    def _create(self, ordinal: int) -> None:
        name = self._pod_name(ordinal)
        claims = self._claims_of(ordinal)
        if self._claim_policy("whenScaled") == "Delete" and any(_owners(c, "v1", "Pod", name) for c in claims):
            self.actions.append(Requeue(why=f"a claim goes with an earlier pod {name}", seconds=CLAIM_RETRY))
            return
        self._create_claims(ordinal)
        leaving = [f"pvc {meta.name(c)} is being deleted" for c in claims if meta.deleting(c)]
        if leaving:
            error = leaving[0] if len(leaving) == 1 else f"[{', '.join(leaving)}]"
            told = self._failed("Create", name, error)
            self.actions += [Emit(why=error, event=told), Requeue(why="they go first", seconds=CLAIM_RETRY)]
            return
        self.actions.append(
            Create(
                why="its turn has come",
                resource="pods",
                object=self._pod(ordinal),
                done=self._done("Create", name),
                failed=self._failed("Create", name, "{error}"),
            )
        )

    def _pod_name(self, ordinal: int) -> str:
        return f"{meta.name(self.set)}-{ordinal}"

    def _done(self, verb: str, pod: str) -> Announce:
        message = f"{verb} Pod {pod} in StatefulSet {meta.name(self.set)} successful"
        return Announce(regarding=self.set, reason=f"Successful{verb}", message=message)

    def _failed(self, verb: str, pod: str, error: str) -> Announce:
        message = f"{verb} Pod {pod} in StatefulSet {meta.name(self.set)} failed error: {error}"
        return Announce(regarding=self.set, reason=f"Failed{verb}", message=message, type="Warning")

    def _revision_for(self, ordinal: int) -> str:
        """The revision that a new pod of this ordinal gets: below the partition the one before the update."""
        if self._strategy() != "RollingUpdate":
            return self.update
        return self.current if ordinal < self.ordinals.start + self._partition() else self.update

    def _strategy(self) -> str:
        return meta.part(self.set, "spec", "updateStrategy").get("type", "RollingUpdate")

    def _partition(self) -> int:
        return meta.part(self.set, "spec", "updateStrategy", "rollingUpdate").get("partition") or 0

    def _pod(self, ordinal: int) -> Object:
        revision = self._revision_for(ordinal)
        template: Object = meta.spec(self.set)["template"]
        for kept in self.snapshot.revisions.own:
            if meta.name(kept) == revision:
                template = history.template_of(kept)
        name = self._pod_name(ordinal)
        prefix = podlib.generate_name(meta.name(self.set))
        pod = podlib.from_template(
            template, self.set, namespace=meta.namespace(self.set), generate_name=prefix, name=name
        )
        labels = {**meta.labels(pod), history.POD_LABEL: revision, **_identity(name, ordinal)}
        spec = {**pod["spec"], "hostname": name, **self._volumes(template, ordinal)}
        if meta.spec(self.set).get("serviceName"):
            spec["subdomain"] = meta.spec(self.set)["serviceName"]
        return {**pod, "metadata": {**pod["metadata"], "labels": labels}, "spec": spec}

    def _volumes(self, template: Object, ordinal: int) -> Object:
        claims = claim_names(self.set, ordinal)
        if not claims:
            return {}
        mine = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claims.items()]
        others = [v for v in meta.items(template, "spec", "volumes") if v["name"] not in claims]
        return {"volumes": [*mine, *others]}

    def _claims_of(self, ordinal: int) -> list[Object]:
        """The claims of one pod that are there."""
        names = claim_names(self.set, ordinal).values()
        return [self.snapshot.claims[name] for name in names if name in self.snapshot.claims]

    def _create_claims(self, ordinal: int) -> None:
        names = claim_names(self.set, ordinal)
        for template in meta.items(self.set, "spec", "volumeClaimTemplates"):
            name = names[meta.name(template)]
            if name in self.snapshot.claims:
                continue
            pod, set_name = self._pod_name(ordinal), meta.name(self.set)
            done = f"Create Claim {name} Pod {pod} in StatefulSet {set_name} success"
            message = f"Create Claim {name} for Pod {pod} in StatefulSet {set_name} failed error: {{error}}"
            failed = Announce(regarding=self.set, reason="FailedCreate", message=message, type="Warning")
            self.actions.append(
                Create(
                    why=f"pod {pod} needs it",
                    resource=CLAIMS,
                    object=self._claim(template, name),
                    exists_ok=True,
                    done=Announce(regarding=self.set, reason="SuccessfulCreate", message=done),
                    failed=(failed, self._failed("Create", pod, f"failed to create PVC {name}: {{error}}")),
                )
            )

    def _claim(self, template: Object, name: str) -> Object:
        labels = {**meta.labels(template), **meta.part(self.set, "spec", "selector", "matchLabels")}
        metadata: Object = {"name": name, "namespace": meta.namespace(self.set), "labels": labels}
        if meta.annotations(template):
            metadata["annotations"] = dict(meta.annotations(template))
        if self._claim_policy("whenDeleted") == "Delete":
            metadata["ownerReferences"] = [meta.new_controller_reference(self.set)]
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}

    def _claim_policy(self, when: str) -> str:
        return meta.part(self.set, "spec", "persistentVolumeClaimRetentionPolicy").get(when, "Retain")

    def _keep(self, ordinal: int, pod: Object) -> None:
        """A pod that is there keeps what it needs: claims while it waits for them, its identity, their owners."""
        if podlib.phase(pod) == "Pending":
            self._create_claims(ordinal)
        owned = self._own_claims(ordinal, pod, scaled_down=False)
        if meta.labels(pod).get(POD_NAME_LABEL) != meta.name(pod):
            self.actions.append(
                Patch(
                    why="its labels tell which pod of the set it is",
                    resource="pods",
                    namespace=meta.namespace(pod),
                    name=meta.name(pod),
                    patch={"metadata": {"labels": _identity(meta.name(pod), ordinal)}},
                    done=self._done("Update", meta.name(pod)),
                    failed=self._failed("Update", meta.name(pod), "{error}"),
                )
            )
        elif owned:
            self.actions.append(Emit(why="its claims have other owners", event=self._done("Update", meta.name(pod))))

    # Down

    def _take_down(self) -> bool:
        """Pods beyond the last ordinal (or before the first) go, the highest first.

        With OrderedReady one that is not well keeps those above it, except if it is the only one.
        """
        condemned = sorted((n for n in self.snapshot.pods if n not in self.ordinals), reverse=True)
        for ordinal in condemned:
            self._own_claims(ordinal, self.snapshot.pods[ordinal], scaled_down=True)
        first_unwell = min((n for n in condemned if not self._is_well(self.snapshot.pods[n])), default=None)
        for ordinal in condemned:
            pod = self.snapshot.pods[ordinal]
            waits = self.ordered and ordinal != first_unwell and not self._is_well(pod)
            if not meta.deleting(pod) and not waits:
                self._delete(pod, f"only {len(self.ordinals)} replicas are wanted")
            if self.ordered:
                return False
        return True

    def _is_well(self, pod: Object) -> bool:
        return self._is_available(pod) and not meta.deleting(pod)

    def _delete(self, pod: Object, why: str) -> None:
        self.actions.append(
            Delete(
                why=why,
                resource="pods",
                namespace=meta.namespace(pod),
                name=meta.name(pod),
                uid=meta.uid(pod),
                done=self._done("Delete", meta.name(pod)),
                failed=self._failed("Delete", meta.name(pod), "{error}"),
            )
        )

    def _own_claims(self, ordinal: int, pod: Object, *, scaled_down: bool) -> bool:
        """Who owns the claims decides when they go (`persistentVolumeClaimRetentionPolicy`); whether any changes."""
        wanted: Object | None = None
        if scaled_down and self._claim_policy("whenScaled") == "Delete":
            wanted = pod
        elif self._claim_policy("whenDeleted") == "Delete":
            wanted = self.set
        changed = False
        for claim in self._claims_of(ordinal):
            owners = self._wanted_owners(claim, pod, wanted)
            if owners is not None:
                metadata = {**claim["metadata"], "ownerReferences": owners}
                why = "the retention policy says when it goes"
                self.actions.append(Update(why=why, resource=CLAIMS, object={**claim, "metadata": metadata}))
                changed = True
        return changed

    def _wanted_owners(self, claim: Object, pod: Object, wanted: Object | None) -> list[Object] | None:
        """The owner references that the claim should have instead of its own, if any."""
        ours = [
            *_owners(claim, "apps/v1", "StatefulSet", meta.name(self.set)),
            *_owners(claim, "v1", "Pod", meta.name(pod)),
        ]
        if any(r["uid"] not in (meta.uid(self.set), meta.uid(pod)) for r in ours):
            return None  # of an earlier set or pod of that name: it goes with that
        others = [r for r in meta.owner_references(claim) if r not in ours]
        if wanted is not None and any(r.get("controller") for r in others):
            message = (
                f"PersistentVolumeClaim {meta.name(claim)} has a conflicting OwnerReference that acts as a manging "
                "controller, the retention policy is ignored for this claim"
            )
            told = Announce(regarding=self.set, reason="ConflictingController", message=message, type="Warning")
            if ours or podlib.phase(pod) == "Pending":
                self.actions.append(Emit(why=message, event=told))
            return others if ours else None
        references = [meta.new_controller_reference(wanted)] if wanted is not None else []
        return None if [_essence(r) for r in ours] == [_essence(r) for r in references] else [*others, *references]

    # Update

    def _roll(self) -> None:
        """Outdated pods are replaced one by one from the highest ordinal down to the partition."""
        if self._strategy() != "RollingUpdate":
            return
        for ordinal in reversed(self.ordinals):
            pod = self.snapshot.pods.get(ordinal)
            if ordinal < self.ordinals.start + self._partition() or pod is None:
                return
            if _revision(pod) != self.update and not meta.deleting(pod):
                self._delete(pod, f"it is of revision {_revision(pod)}, not {self.update}")
                return
            if not self._is_well(pod):
                return

    # Status

    def _status(self) -> Object:
        pods = list(self.snapshot.pods.values())
        ready = [p for p in pods if podlib.phase(p) == "Running" and podlib.is_ready(p)]
        available = [p for p in ready if self._is_available(p)]
        alive = [p for p in pods if not meta.deleting(p)]
        updated = sum(_revision(p) == self.update for p in alive)
        current = sum(_revision(p) == self.current for p in alive)
        current_revision = self.current
        if self._rolled_out(updated, len(ready)):
            current, current_revision = updated, self.update
        status = meta.without_empty(
            {
                "observedGeneration": meta.generation(self.set),
                "replicas": len(pods),
                "readyReplicas": len(ready),
                "currentReplicas": current,
                "updatedReplicas": updated,
            },
            "replicas",
        )
        return {
            **status,
            "availableReplicas": len(available),
            "currentRevision": current_revision,
            "updateRevision": self.update,
            "collisionCount": self.history.collisions or 0,
        }

    def _rolled_out(self, updated: int, ready: int) -> bool:
        counts = {updated, ready, len(self.snapshot.pods), len(self.ordinals)}
        return self._strategy() == "RollingUpdate" and len(counts) == 1


def _identity(name: str, ordinal: int) -> dict[str, str]:
    return {POD_NAME_LABEL: name, POD_INDEX_LABEL: str(ordinal)}


def _owners(claim: Object, api_version: str, kind: str, name: str) -> list[Object]:
    """The claim's references to an owner of that kind and name, whichever it was."""
    wanted = (api_version, kind, name)
    return [r for r in meta.owner_references(claim) if (r["apiVersion"], r["kind"], r["name"]) == wanted]


def _essence(reference: Object) -> tuple[str, bool]:
    return (reference["uid"], bool(reference.get("controller")))


def _revision(pod: Object) -> str:
    return meta.labels(pod).get(history.POD_LABEL, "")


def controller() -> Controller:
    return Controller(
        name="statefulset-controller",
        user=service_account("statefulset-controller"),
        resource=RESOURCE,
        watches=workload_watches("StatefulSet", RESOURCE, history.RESOURCE),
        reconcile=looking(observe, decide),
    )

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
from podling.controllers.numbers import scaled
from podling.controllers.runtime import (
    Controller,
    ObjectKey,
    Watch,
    itself,
    looking,
    of_controller,
    service_account,
)
from podling.controllers.selecting import of_selecting
from podling.controllers.statuses import write_status
from podling.store.types import Object

RESOURCE = "statefulsets.apps"
CLAIMS = "persistentvolumeclaims"
POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    set: Object
    pods: Mapping[int, Object]
    """Its pods by ordinal."""
    adoptions: Sequence[Action]
    revisions: Sequence[Object]
    claims: Mapping[str, Object]
    """The claims of its pods that exist, by name."""


def ordinal_of(set: Object, pod: Object) -> int | None:
    """The number in the pod's name, if it is one of this set's names."""
    parent, _, number = meta.name(pod).rpartition("-")
    return int(number) if parent == meta.name(set) and number.isdigit() else None


def observe(client: Client, key: ObjectKey) -> Snapshot | None:
    set = client.get(RESOURCE, key.namespace, key.name)
    if set is None or meta.deleting(set):
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
        self.history = history.track(self.set, snapshot.revisions)
        self.update = meta.name(self.history.update)
        self.current: str = meta.status(self.set).get("currentRevision") or self.update
        self.actions: list[Action] = []

    def decide(self) -> list[Action]:
        self._step()
        actions: list[Action] = [*self.history.actions, *self.snapshot.adoptions, *self.actions]
        actions += write_status(RESOURCE, self.set, self._status(), "its pods say so")
        live = {self.update, self.current, *(_revision(p) for p in self.snapshot.pods.values())}
        actions += history.truncate(self.set, self.snapshot.revisions, live)
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
                self._recreate(pod)
            return False
        self._keep_identity(ordinal, pod)
        return not meta.deleting(pod) and self._is_available(pod)

    def _is_available(self, pod: Object) -> bool:
        return podlib.phase(pod) == "Running" and podlib.is_available(pod, self.min_ready, self.now)

    def _create(self, ordinal: int) -> None:
        self._create_claims(ordinal)
        name = f"{meta.name(self.set)}-{ordinal}"
        failed = Announce(
            regarding=self.set,
            reason="FailedCreate",
            message=f"Create Pod {name} in StatefulSet {meta.name(self.set)} failed error: {{error}}",
            type="Warning",
        )
        message = f"Create Pod {name} in StatefulSet {meta.name(self.set)} successful"
        done = Announce(regarding=self.set, reason="SuccessfulCreate", message=message)
        pod = self._pod(ordinal)
        self.actions.append(Create(why="its turn has come", resource="pods", object=pod, done=done, failed=failed))

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
        for kept in self.snapshot.revisions:
            if meta.name(kept) == revision:
                template = history.template_of(kept)
        name = f"{meta.name(self.set)}-{ordinal}"
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

    def _create_claims(self, ordinal: int) -> None:
        names = claim_names(self.set, ordinal)
        for template in meta.items(self.set, "spec", "volumeClaimTemplates"):
            name = names[meta.name(template)]
            if name in self.snapshot.claims:
                continue
            pod, set_name = f"{meta.name(self.set)}-{ordinal}", meta.name(self.set)
            done = f"Create Claim {name} Pod {pod} in StatefulSet {set_name} success"
            failed = f"Create Claim {name} for Pod {pod} in StatefulSet {set_name} failed error: {{error}}"
            self.actions.append(
                Create(
                    why=f"pod {pod} needs it",
                    resource=CLAIMS,
                    object=self._claim(template, name),
                    exists_ok=True,
                    done=Announce(regarding=self.set, reason="SuccessfulCreate", message=done),
                    failed=Announce(regarding=self.set, reason="FailedCreate", message=failed, type="Warning"),
                )
            )

    def _claim(self, template: Object, name: str) -> Object:
        labels = {**meta.labels(template), **meta.part(self.set, "spec", "selector", "matchLabels")}
        metadata: Object = {"name": name, "namespace": meta.namespace(self.set), "labels": labels}
        if meta.annotations(template):
            metadata["annotations"] = dict(meta.annotations(template))
        if self._claim_policy("whenDeleted") == "Delete":
            metadata["ownerReferences"] = [self._claim_owner()]
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}

    def _claim_owner(self) -> Object:
        return {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": meta.name(self.set), "uid": meta.uid(self.set)}

    def _claim_policy(self, when: str) -> str:
        return meta.part(self.set, "spec", "persistentVolumeClaimRetentionPolicy").get(when, "Retain")

    def _recreate(self, pod: Object) -> None:
        set_name = meta.name(self.set)
        message = f"StatefulSet {meta.namespace(self.set)}/{set_name} is recreating failed Pod {meta.name(pod)}"
        reason = "RecreatingFailedPod" if podlib.phase(pod) == "Failed" else "RecreatingTerminatedPod"
        event = Announce(regarding=self.set, reason=reason, message=message, type="Warning")
        self.actions.append(Emit(why="it has ended", event=event))
        self._delete(pod, "it has ended and shall run for ever")

    def _keep_identity(self, ordinal: int, pod: Object) -> None:
        wanted = _identity(meta.name(pod), ordinal)
        if not meta.matches_labels(wanted, meta.labels(pod)) and not meta.deleting(pod):
            self.actions.append(
                Patch(
                    why="its labels tell which pod of the set it is",
                    resource="pods",
                    namespace=meta.namespace(pod),
                    name=meta.name(pod),
                    patch={"metadata": {"labels": wanted}},
                )
            )
        self._own_claims(ordinal, pod, scaled_down=False)

    # Down

    def _take_down(self) -> bool:
        """Pods beyond the last ordinal (or before the first) go, the highest first."""
        condemned = sorted((n for n in self.snapshot.pods if n not in self.ordinals), reverse=True)
        for ordinal in condemned:
            pod = self.snapshot.pods[ordinal]
            self._own_claims(ordinal, pod, scaled_down=True)
            if not meta.deleting(pod):
                self._delete(pod, f"only {len(self.ordinals)} replicas are wanted")
            if self.ordered:
                return False
        return True

    def _delete(self, pod: Object, why: str) -> None:
        message = f"Delete Pod {meta.name(pod)} in StatefulSet {meta.name(self.set)}"
        self.actions.append(
            Delete(
                why=why,
                resource="pods",
                namespace=meta.namespace(pod),
                name=meta.name(pod),
                uid=meta.uid(pod),
                done=Announce(regarding=self.set, reason="SuccessfulDelete", message=f"{message} successful"),
                failed=Announce(
                    regarding=self.set,
                    reason="FailedDelete",
                    message=f"{message} failed error: {{error}}",
                    type="Warning",
                ),
            )
        )

    def _own_claims(self, ordinal: int, pod: Object, *, scaled_down: bool) -> None:
        """Who owns the claims decides when they go (`persistentVolumeClaimRetentionPolicy`)."""
        wanted: list[Object] = []
        if scaled_down and self._claim_policy("whenScaled") == "Delete":
            wanted.append({"apiVersion": "v1", "kind": "Pod", "name": meta.name(pod), "uid": meta.uid(pod)})
        elif self._claim_policy("whenDeleted") == "Delete":
            wanted.append(self._claim_owner())
        for name in claim_names(self.set, ordinal).values():
            claim = self.snapshot.claims.get(name)
            if claim is None:
                continue
            others = [r for r in meta.owner_references(claim) if not self._is_ours(r, meta.name(pod))]
            if list(meta.owner_references(claim)) != [*others, *wanted]:
                metadata = {**claim["metadata"], "ownerReferences": [*others, *wanted]}
                why = "the retention policy says when it goes"
                self.actions.append(Update(why=why, resource=CLAIMS, object={**claim, "metadata": metadata}))

    def _is_ours(self, reference: Object, pod: str) -> bool:
        return reference["uid"] == meta.uid(self.set) or (reference["kind"] == "Pod" and reference["name"] == pod)

    # Update

    def _roll(self) -> None:
        """Outdated pods are replaced from the highest ordinal down, at most maxUnavailable at a time."""
        if self._strategy() != "RollingUpdate":
            return
        room = self._max_unavailable()
        lowest = self.ordinals.start + self._partition()
        for ordinal in reversed(self.ordinals):
            if ordinal < lowest or room <= 0:
                return
            pod = self.snapshot.pods.get(ordinal)
            if pod is None or meta.deleting(pod):
                room -= 1
            elif _revision(pod) != self.update:
                self._delete(pod, f"it is of revision {_revision(pod)}, not {self.update}")
                room -= 1
            elif not self._is_available(pod):
                room -= 1

    def _max_unavailable(self) -> int:
        value = meta.part(self.set, "spec", "updateStrategy", "rollingUpdate").get("maxUnavailable", 1)
        return max(1, scaled(value, len(self.ordinals), round_up=True))

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
                "conditions": list(meta.conditions(self.set)),
            },
            "replicas",
        )
        return {
            **status,
            "availableReplicas": len(available),
            "currentRevision": current_revision,
            "updateRevision": self.update,
            "collisionCount": meta.status(self.set).get("collisionCount", 0),
        }

    def _rolled_out(self, updated: int, ready: int) -> bool:
        total = len(self.snapshot.pods)
        return self._strategy() == "RollingUpdate" and self.current != self.update and updated == ready == total


def _identity(name: str, ordinal: int) -> dict[str, str]:
    return {POD_NAME_LABEL: name, POD_INDEX_LABEL: str(ordinal)}


def _revision(pod: Object) -> str:
    return meta.labels(pod).get(history.POD_LABEL, "")


def controller() -> Controller:
    return Controller(
        name="statefulset-controller",
        user=service_account("statefulset-controller"),
        resource=RESOURCE,
        watches=(
            Watch(resource=RESOURCE, keys=itself),
            Watch(resource="pods", keys=of_controller("StatefulSet")),
            Watch(resource="pods", keys=of_selecting(RESOURCE)),
            Watch(resource=history.RESOURCE, keys=of_controller("StatefulSet")),
        ),
        reconcile=looking(observe, decide),
    )

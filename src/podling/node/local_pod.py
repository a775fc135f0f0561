"""A pod as its node has it: the object as it was seen last, what is known of its containers, what was written down.

It is what the parts of a pod's worker share. Only they change it, and all of them on one event loop.
"""

from __future__ import annotations

from pathlib import Path

from podling.api import meta
from podling.api.podresources import pod_requests
from podling.node import backoff, resize
from podling.node.admission import Holding
from podling.node.environment import PodContext
from podling.node.payload import is_payload, references
from podling.node.records import Record
from podling.node.state import Slot, containers_of, field_path, part
from podling.node.surroundings import Surroundings
from podling.store.types import Object, Uid

Reference = tuple[str, str]
"""An object of the pod's namespace: resource and name."""


class LocalPod:
    """`record` and `slots` come from an earlier daemon when the pod is adopted."""

    def __init__(
        self,
        pod: Object,
        surroundings: Surroundings,
        record: Record | None = None,
        slots: dict[str, Slot] | None = None,
    ) -> None:
        self.pod = pod
        self.uid: Uid = meta.uid(pod)
        self.slots: dict[str, Slot] = slots or {}
        self.record = record or Record(self.uid, meta.namespace(pod), meta.name(pod), surroundings.now())
        self.gone = False
        """Whether the object has left the store."""
        self.adopted = False
        """Whether an earlier daemon began with it."""
        self._with = surroundings
        self._held: tuple[Object, dict[str, Object], Holding | None] = ({}, {}, None)
        """The pod, what was granted, and what follows from both."""
        self._references: set[Reference] | None = None
        self._add_slots()

    def replace(self, pod: Object) -> None:
        """The object has changed."""
        self.pod = pod
        self._references = None
        self._add_slots()

    def _add_slots(self) -> None:
        for container, role in containers_of(self.pod):
            self.slots.setdefault(container["name"], Slot(container["name"], role))
        self.record.allocated = {**resize.wanted(self.pod), **self.record.allocated}

    # What it is

    @property
    def must_end(self) -> bool:
        """Whether nothing of it is to run any more."""
        return self.gone or meta.deleting(self.pod) or self.record.failure is not None

    @property
    def shares_network(self) -> bool:
        """Whether its network is the node's own."""
        return bool(meta.spec(self.pod).get("hostNetwork"))

    @property
    def granted(self) -> Object:
        """The pod with the resources that the node has granted."""
        return self.holding.pod

    @property
    def holding(self) -> Holding:
        """What it holds of the node; counted anew when the pod or what was granted is another one."""
        pod, allocated, holding = self._held
        if holding is None or pod is not self.pod or allocated is not self.record.allocated:
            granted = resize.granted(self.pod, self.record.allocated)
            holding = Holding(granted, pod_requests(granted))
            self._held = (self.pod, self.record.allocated, holding)
        return holding

    @property
    def context(self) -> PodContext:
        """What its containers and volumes can be told of it."""
        return PodContext(self.granted, self.record.ip, self._with.host_ip, self._with.allocatable())

    def references(self) -> set[Reference]:
        """The objects whose changes concern it."""
        if self._references is None:
            volumes: list[Object] = meta.spec(self.pod).get("volumes") or []
            found = {reference for volume in volumes for reference in _of_volume(volume)}
            for container, _ in containers_of(self.pod):
                found |= _of_environment(container)
            self._references = found
        return self._references

    def lose_sandbox(self) -> None:
        """All starts anew in a new sandbox, init containers included; nobody waits in back-off for it."""
        self.record.sandbox = ""
        for slot in self.slots.values():
            slot.stale = slot.current is not None
            slot.restart_backoff = backoff.NONE

    # What it leaves behind

    @property
    def directory(self) -> Path:
        return self._with.pod_directory(self.uid)

    @property
    def log_directory(self) -> Path:
        return self._with.log_directory(self.pod)

    def save(self) -> None:
        """Writes down what a later daemon must know."""
        self.record.save(self.directory, self.slots.values())

    def tell(self, type: str, reason: str, message: str, container: str = "") -> None:
        """An event about the pod, or about one of its containers."""
        path = field_path(self.pod, container) if container else ""
        self._with.recorder(self.pod, type, reason, message, field_path=path)


def _of_volume(volume: Object) -> set[Reference]:
    if is_payload(volume):
        return set(references(volume))
    claim = part(volume, "persistentVolumeClaim").get("claimName")
    return {("persistentvolumeclaims", claim)} if claim else set()


def _of_environment(container: Object) -> set[Reference]:
    found: set[Reference] = set()
    for source in container.get("envFrom") or ():
        for field, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if field in source:
                found.add((resource, source[field].get("name", "")))
    for variable in container.get("env") or ():
        source = part(variable, "valueFrom")
        for field, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if field in source:
                found.add((resource, source[field].get("name", "")))
    return found

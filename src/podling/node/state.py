"""What the node remembers of a pod's containers: plain records that survive the daemon as JSON.

A `Slot` is a container of the pod's spec; an `Instance` is one run of it. Decisions and the status are functions of
slots; the worker is the only one that changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from podling.api import meta
from podling.node.backoff import NONE, Backoff
from podling.store.types import Object


class Role(StrEnum):
    """Where a container stands in its pod."""

    INIT = "initContainers"
    SIDECAR = "sidecar"
    MAIN = "containers"
    EPHEMERAL = "ephemeralContainers"


class Waiting(NamedTuple):
    """Why a container does not run: `state.waiting`."""

    reason: str
    message: str = ""


@dataclass(slots=True)
class Instance:
    """One run of a container. Times are Unix seconds, 0 while they have not come."""

    id: str
    attempt: int
    spec_hash: str
    created_at: float
    image: str = ""
    image_id: str = ""
    stop_signal: str = ""
    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=lambda: list[int]())
    env: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    cwd: str = "/"
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int | None = None
    signal: int = 0
    reason: str = ""
    message: str = ""
    resources: Object | None = None
    """The requests and limits that it runs with now; `None` of a run that was not written down with them."""

    @property
    def running(self) -> bool:
        return bool(self.started_at) and self.exit_code is None

    @property
    def ended(self) -> bool:
        return self.exit_code is not None


@dataclass(slots=True)
class Slot:
    """A container of the spec, with its present run and the one before."""

    name: str
    role: Role
    current: Instance | None = None
    previous: Instance | None = None
    waiting: Waiting | None = None
    """Why the last attempt to start it did not succeed; cleared by a success."""
    restart_backoff: Backoff = NONE
    pull_backoff: Backoff = NONE
    pull_error: str = ""
    retry_at: float = 0.0
    """No attempt to start it before this moment, after one that failed before there was a process."""
    startup: bool | None = None
    """The results of the probes for the current run; `None` before the first that counts."""
    liveness: bool | None = None
    readiness: bool | None = None
    stopping: bool = False
    stale: bool = False
    """Its present run belongs to a sandbox that is gone: init containers are run again in the new one."""

    @property
    def running(self) -> bool:
        return self.current is not None and self.current.running

    @property
    def pending(self) -> bool:
        """Whether its present run is being started, or ended before it counted as started."""
        return self.current is not None and not self.current.ended and not self.current.started_at

    @property
    def restarts(self) -> int:
        return self.current.attempt if self.current else 0

    def renew(self, instance: Instance) -> None:
        """Makes `instance` the present run."""
        if self.current is not None:
            self.previous = self.current
        self.current = instance
        self.startup = self.liveness = self.readiness = None
        self.stopping = False
        self.stale = False

    def forget(self) -> None:
        """Takes back a run that was written down but never began."""
        self.current, self.previous = self.previous, None
        self.stopping = False


def part(obj: Object, name: str) -> Object:
    """An object-valued field, `{}` when it is absent or null."""
    return obj.get(name) or {}


def role_of(container: Object, field: str) -> Role:
    if field == "initContainers":
        return Role.SIDECAR if container.get("restartPolicy") == "Always" else Role.INIT
    return Role(field)


def containers_of(pod: Object) -> list[tuple[Object, Role]]:
    """Every container of the spec with its role: init containers, containers, ephemeral containers."""
    spec = meta.spec(pod)
    return [
        (container, role_of(container, field))
        for field in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(field) or ()
    ]


def container_of(pod: Object, name: str) -> Object | None:
    return next((container for container, _ in containers_of(pod) if container["name"] == name), None)


def field_path(pod: Object, name: str) -> str:
    """`involvedObject.fieldPath` of events about a container: `spec.containers{app}`."""
    spec = meta.spec(pod)
    for field_name in ("initContainers", "containers", "ephemeralContainers"):
        if any(container["name"] == name for container in spec.get(field_name) or ()):
            return f"spec.{field_name}{{{name}}}"
    return ""


def is_started(container: Object, slot: Slot) -> bool:
    """`containerStatus.started`: it runs, and its startup probe, if it has one, has succeeded."""
    return slot.running and ("startupProbe" not in container or slot.startup is True)


def is_ready(container: Object, slot: Slot) -> bool:
    """`containerStatus.ready` of a container that is meant to go on running."""
    return is_started(container, slot) and ("readinessProbe" not in container or slot.readiness is True)


def full_name(pod: Object) -> str:
    """How the kubelet names a pod in messages: `name_namespace(uid)`."""
    return f"{meta.name(pod)}_{meta.namespace(pod)}({meta.uid(pod)})"


def encode_slot(slot: Slot) -> dict[str, Any]:
    """The part of a slot that must survive the daemon, JSON-ready."""
    return {
        "name": slot.name,
        "role": slot.role,
        "current": slot.current and _encode_instance(slot.current),
        "previous": slot.previous and _encode_instance(slot.previous),
        "waiting": slot.waiting and list(slot.waiting),
        "restart_backoff": list(slot.restart_backoff),
        "pull_backoff": list(slot.pull_backoff),
        "pull_error": slot.pull_error,
        "retry_at": slot.retry_at,
    }


def decode_slot(body: dict[str, Any]) -> Slot:
    return Slot(
        name=body["name"],
        role=Role(body["role"]),
        current=Instance(**body["current"]) if body["current"] else None,
        previous=Instance(**body["previous"]) if body["previous"] else None,
        waiting=Waiting(*body["waiting"]) if body["waiting"] else None,
        restart_backoff=Backoff(*body["restart_backoff"]),
        pull_backoff=Backoff(*body["pull_backoff"]),
        pull_error=body["pull_error"],
        retry_at=body["retry_at"],
    )


def _encode_instance(instance: Instance) -> dict[str, Any]:
    return {name: getattr(instance, name) for name in Instance.__slots__}

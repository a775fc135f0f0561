"""`Pod.status` as the kubelet writes it: a pure function of the pod, of its containers' slots and of the time.

The rules for phases and conditions are those of Kubernetes' "Pod Lifecycle" page and of the kubelet's own messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from podling.api import meta
from podling.node import resize
from podling.node.lifecycle import initialized_once, may_restart
from podling.node.state import Instance, Role, Slot, Waiting, containers_of, is_ready, is_started, part
from podling.store.types import Object

OWN_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)
"""The conditions that the kubelet writes, in its order; all others belong to others and come first."""

RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")
"""The kubelet's too, while a resize is pending or in progress; they come first of all."""

FINAL = ("Succeeded", "Failed")

RUNTIME = "podling"
"""The scheme of `containerID`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node knows of a pod beside its containers."""

    slots: Mapping[str, Slot]
    started_at: float
    """When the node first saw the pod (`status.startTime`)."""
    host_ip: str
    ip: str = ""
    sandbox: bool = False
    """Whether it has its namespaces and its network now."""
    ended: bool = False
    """Nothing of it runs, and nothing will again."""
    failure: Waiting | None = None
    """Why the node itself ended it (`DeadlineExceeded`, `Evicted`); the phase is then Failed."""
    rejected: bool = False
    """Whether it was never taken, because of `failure`: then there is no more to say of it."""
    allocated: Mapping[str, Object] = field(default_factory=lambda: dict[str, Object]())
    """Resources granted, by container; what the spec says where absent."""
    resize_pending: Waiting | None = None
    """Why other resources that the spec wants are not granted."""
    resize_error: str = ""
    """Why granted resources could not be put into force."""


def pod_status(pod: Object, facts: Facts, now: datetime) -> Object:
    """The whole new status; times of conditions that did not turn are kept.

    A pod that is to be Succeeded or Failed is so when nothing of it runs any more; until then only its conditions tell.
    """
    if facts.rejected:
        return _rejected_status(pod, facts)
    statuses = _all_container_statuses(pod, facts)
    phase = _phase(pod, facts)
    over = facts.ended or phase not in FINAL
    status: Object = {"observedGeneration": meta.generation(pod)} if meta.generation(pod) else {}
    status["phase"] = phase if over else meta.status(pod).get("phase") or "Pending"
    status["conditions"] = _conditions(pod, facts, phase, now)
    if facts.failure is not None and over:
        status["reason"] = facts.failure.reason
        status["message"] = facts.failure.message
    status |= _addresses(facts)
    status["startTime"] = time_text(facts.started_at)
    status |= {field: items for field, items in statuses.items() if items}
    status["qosClass"] = meta.status(pod).get("qosClass") or "BestEffort"
    return status | _kept(pod)


def _rejected_status(pod: Object, facts: Facts) -> Object:
    reason, message = facts.failure or Waiting("UnexpectedAdmissionError")
    status: Object = {"observedGeneration": meta.generation(pod)} if meta.generation(pod) else {}
    status |= {"phase": "Failed", "reason": reason, "message": f"Pod was rejected: {message}"}
    foreign = [c for c in meta.conditions(pod) if c.get("type") not in OWN_CONDITIONS]
    if foreign:
        status["conditions"] = foreign
    status["startTime"] = time_text(facts.started_at)
    status["qosClass"] = meta.status(pod).get("qosClass") or "BestEffort"
    return status | _kept(pod)


def _kept(pod: Object) -> Object:
    """Fields of the status that others write."""
    names = ("nominatedNodeName", "resize", "resourceClaimStatuses", "extendedResourceClaimStatus")
    old = meta.status(pod)
    return {name: old[name] for name in names if name in old}


def _addresses(facts: Facts) -> Object:
    fields: Object = {"hostIP": facts.host_ip, "hostIPs": [{"ip": facts.host_ip}]}
    if facts.ip:
        fields |= {"podIP": facts.ip, "podIPs": [{"ip": facts.ip}]}
    return fields


def time_text(moment: float) -> str:
    return meta.timestamp(datetime.fromtimestamp(moment, UTC))


# Containers


def _all_container_statuses(pod: Object, facts: Facts) -> dict[str, list[Object]]:
    """Init containers in the order of the spec, the others by name."""
    groups: dict[str, list[Object]] = {
        "initContainerStatuses": [],
        "containerStatuses": [],
        "ephemeralContainerStatuses": [],
    }
    for container, role in containers_of(pod):
        status = _container_status(pod, container, facts.slots[container["name"]], facts)
        groups[_STATUS_FIELD[role]].append(status)
    groups["containerStatuses"].sort(key=_name)
    groups["ephemeralContainerStatuses"].sort(key=_name)
    return groups


_STATUS_FIELD = {
    Role.INIT: "initContainerStatuses",
    Role.SIDECAR: "initContainerStatuses",
    Role.MAIN: "containerStatuses",
    Role.EPHEMERAL: "ephemeralContainerStatuses",
}


def _name(status: Object) -> str:
    return status["name"]


def _container_status(pod: Object, container: Object, slot: Slot, facts: Facts) -> Object:
    run = slot.current
    state = _state(pod, container, slot, facts)
    status: Object = {
        "name": slot.name,
        "state": state,
        "lastState": _last_state(slot, state),
        "ready": _ready(container, slot),
        "restartCount": slot.restarts,
        "image": run.image if run else container["image"],
        "imageID": run.image_id if run else "",
        "started": is_started(container, slot),
    }
    if run is not None:
        status["containerID"] = container_id(run)
        status |= _resources(container, slot, facts)
        status["user"] = {"linux": {"uid": run.uid, "gid": run.gid, "supplementalGroups": list(run.groups)}}
    mounts = [_mount_status(mount) for mount in container.get("volumeMounts") or ()]
    if mounts:
        status["volumeMounts"] = mounts
    return status


def container_id(run: Instance) -> str:
    return f"{RUNTIME}://{run.id}"


def _ready(container: Object, slot: Slot) -> bool:
    if slot.role is Role.INIT:
        return slot.current is not None and slot.current.exit_code == 0
    return slot.role is not Role.EPHEMERAL and is_ready(container, slot)


def _resources(container: Object, slot: Slot, facts: Facts) -> Object:
    """What it was granted, and what its present run has."""
    granted = facts.allocated.get(slot.name, part(container, "resources"))
    used = slot.current.resources if slot.running and slot.current else None
    in_force = granted if used is None else used
    fields: Object = {"resources": {name: in_force[name] for name in ("limits", "requests") if in_force.get(name)}}
    if slot.running and granted.get("requests"):
        fields["allocatedResources"] = granted["requests"]
    return fields


def _mount_status(mount: Object) -> Object:
    status: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return status


def _state(pod: Object, container: Object, slot: Slot, facts: Facts) -> Object:
    run = slot.current
    if run is not None and run.running:
        return {"running": {"startedAt": time_text(run.started_at)}}
    coming_back = not facts.ended and not meta.deleting(pod) and _will_restart(pod, container, slot)
    if slot.waiting is not None and (run is None or coming_back):
        return {"waiting": _waiting(slot.waiting)}
    if run is not None and run.ended:
        return {"terminated": terminated(run)}
    if facts.ended and initialized_once(pod, facts.slots):
        return {"terminated": dict(_LOST)}
    init = any(role in (Role.INIT, Role.SIDECAR) for _, role in containers_of(pod))
    return {"waiting": {"reason": "PodInitializing" if init else "ContainerCreating"}}


_LOST = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
    "startedAt": None,
    "finishedAt": None,
}


def _waiting(waiting: Waiting) -> Object:
    return {"reason": waiting.reason, "message": waiting.message} if waiting.message else {"reason": waiting.reason}


def _will_restart(pod: Object, container: Object, slot: Slot) -> bool:
    if slot.current is None:
        return True
    if slot.role is Role.EPHEMERAL or (slot.role is Role.INIT and slot.current.exit_code == 0):
        return False
    return may_restart(container, pod, slot.current.exit_code or 0)


def _last_state(slot: Slot, state: Object) -> Object:
    """The end before the present state: that of the present run while it waits to be run again."""
    run = slot.current
    if "waiting" in state and run is not None and run.ended:
        return {"terminated": terminated(run)}
    return {"terminated": terminated(slot.previous)} if slot.previous is not None and slot.previous.ended else {}


def terminated(run: Instance) -> Object:
    state: Object = {
        "exitCode": run.exit_code,
        "reason": run.reason or ("Completed" if run.exit_code == 0 else "Error"),
        "startedAt": time_text(run.started_at),
        "finishedAt": time_text(run.finished_at),
        "containerID": container_id(run),
    }
    if run.message:
        state["message"] = run.message
    return state


# Phase


def _phase(pod: Object, facts: Facts) -> str:
    """A finished pod stays what it became."""
    old = meta.status(pod).get("phase")
    if old in FINAL:
        return old
    if facts.failure is not None:
        return "Failed"
    phase = _computed_phase(pod, facts)
    return "Failed" if facts.ended and phase in ("Pending", "Running") else phase


def _computed_phase(pod: Object, facts: Facts) -> str:
    initializing = _initialization(pod, facts)
    if initializing is not None:
        return initializing
    mains = [(c, facts.slots[c["name"]]) for c, role in containers_of(pod) if role is Role.MAIN]
    ends = [slot.current for _, slot in mains if slot.current is not None and slot.current.ended]
    if any(slot.current is None or (slot.pending and slot.previous is None) for _, slot in mains):
        return "Pending"
    if len(ends) < len(mains):
        return "Running"
    if not facts.ended and any(may_restart(c, pod, s.current.exit_code or 0) for c, s in mains if s.current):
        return "Running"
    return "Succeeded" if all(run.exit_code == 0 for run in ends) else "Failed"


def _initialization(pod: Object, facts: Facts) -> str | None:
    """The phase while init containers are not done; `None` when they are."""
    over = initialized_once(pod, facts.slots)
    for container, role in containers_of(pod):
        slot = facts.slots[container["name"]]
        run = slot.current
        if role is Role.INIT and not over:
            if (
                run is not None
                and run.ended
                and run.exit_code != 0
                and not may_restart(container, pod, run.exit_code or 0)
            ):
                return "Failed"
            if run is None or run.exit_code != 0:
                return "Pending"
        if role is Role.SIDECAR and not over and not is_started(container, slot):
            return "Pending"
    return None


# Conditions


def _conditions(pod: Object, facts: Facts, phase: str, now: datetime) -> list[Object]:
    ours = (*OWN_CONDITIONS, *RESIZE_CONDITIONS)
    foreign = [condition for condition in meta.conditions(pod) if condition.get("type") not in ours]
    containers_ready = _containers_ready(pod, facts, phase)
    found: dict[str, Object] = {
        "PodReadyToStartContainers": _verdict(facts.sandbox),
        "Initialized": _initialized(pod, facts, phase),
        "Ready": _ready_condition(pod, containers_ready),
        "ContainersReady": containers_ready,
        "PodScheduled": _verdict(True),
    }
    resizing = [_stamped(pod, type, verdict, now) for type, verdict in _resizing(pod, facts)]
    return resizing + foreign + [_stamped(pod, type, found[type], now) for type in OWN_CONDITIONS]


def _resizing(pod: Object, facts: Facts) -> Iterator[tuple[str, Object]]:
    """The conditions of a resize are there only while it is."""
    if facts.ended:
        return
    if facts.resize_pending is not None:
        yield "PodResizePending", _verdict(True, *facts.resize_pending)
    granted = resize.granted(pod, facts.allocated)
    if facts.resize_error:
        yield "PodResizeInProgress", _verdict(True, "Error", facts.resize_error)
    elif any(resize.unfinished(facts.slots[c["name"]], c) for c, _ in containers_of(granted)):
        yield "PodResizeInProgress", _verdict(True)


def _verdict(true: bool, reason: str = "", message: str = "") -> Object:
    verdict: Object = {"status": "True" if true else "False"}
    if reason:
        verdict["reason"] = reason
    if message:
        verdict["message"] = message
    return verdict


def _stamped(pod: Object, type: str, verdict: Object, now: datetime) -> Object:
    """The condition with its times: the moment of its last turn is kept while its status stays."""
    old = meta.condition(pod, type)
    stays = old is not None and old.get("status") == verdict["status"] and old.get("lastTransitionTime")
    condition: Object = {"type": type}
    if meta.generation(pod):
        condition["observedGeneration"] = meta.generation(pod)
    return condition | {
        "status": verdict["status"],
        "lastProbeTime": None,
        "lastTransitionTime": stays or meta.timestamp(now),
        **{key: value for key, value in verdict.items() if key != "status"},
    }


def _initialized(pod: Object, facts: Facts, phase: str) -> Object:
    if phase == "Succeeded":
        return _verdict(True, "PodCompleted")
    if initialized_once(pod, facts.slots):
        return _verdict(True)

    def incomplete(container: Object, slot: Slot) -> bool:
        return not (_ready(container, slot) if slot.role is Role.INIT else is_started(container, slot))

    names = _names(pod, facts, (Role.INIT, Role.SIDECAR), incomplete)
    if not names:
        return _verdict(True)
    return _verdict(False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(names)}]")


def _containers_ready(pod: Object, facts: Facts, phase: str) -> Object:
    if phase in FINAL:
        return _verdict(False, "PodCompleted" if phase == "Succeeded" else "PodFailed")
    names = _names(pod, facts, (Role.SIDECAR, Role.MAIN), lambda container, slot: not is_ready(container, slot))
    if not names:
        return _verdict(True)
    return _verdict(False, "ContainersNotReady", f"containers with unready status: [{' '.join(names)}]")


def _names(pod: Object, facts: Facts, roles: Sequence[Role], wanted: Callable[[Object, Slot], bool]) -> list[str]:
    return [
        container["name"]
        for container, role in containers_of(pod)
        if role in roles and wanted(container, facts.slots[container["name"]])
    ]


def _ready_condition(pod: Object, containers_ready: Object) -> Object:
    if containers_ready["status"] != "True":
        return containers_ready
    problems = [
        problem
        for gate in meta.spec(pod).get("readinessGates") or ()
        if (problem := _gate_problem(gate["conditionType"], meta.condition(pod, gate["conditionType"])))
    ]
    return _verdict(False, "ReadinessGatesNotReady", ", ".join(problems)) if problems else _verdict(True)


def _gate_problem(type: str, condition: Object | None) -> str:
    if condition is None:
        return f'corresponding condition of pod readiness gate "{type}" does not exist.'
    if condition.get("status") != "True":
        return f'the status of pod readiness gate "{type}" is not "True", but {condition.get("status")}'
    return ""

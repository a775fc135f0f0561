"""Pod: defaults, what a running pod may change, how long it may take to end, and how `kubectl get` shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field
from podling.api.meta import condition_is, timestamp
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import podannotations, poddefaults, podfeatures, podspec, podstatus, podupdate
from podling.kinds.core.containers import visit
from podling.kinds.core.podsecurity import app_armor
from podling.kinds.core.podwarnings import app_armor_annotation, warn
from podling.kinds.core.qos import qos_class
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column, since
from podling.kinds.validation.fields import entries, part, text, without
from podling.kinds.validation.meta import object_meta, whole
from podling.store.types import Object

# On the way to the store


def prepare(write: Write) -> None:
    """A new pod is pending, whatever it claims; a change through a subresource changes only that part."""
    if write.old is None:
        _prepare_create(write)
        return
    match write.subresource:
        case "status":
            _prepare_status(write, write.old)
        case "ephemeralcontainers":
            _keep_metadata(write.new, write.old)
            spec = {
                **write.old["spec"],
                "ephemeralContainers": entries(part(write.new, "spec"), "ephemeralContainers"),
            }
            write.new["spec"] = spec if spec["ephemeralContainers"] else without(spec, "ephemeralContainers")
        case "resize":
            _prepare_resize(write, write.old)
        case "binding":
            pass  # its creator changes only what a binding may change
        case _:
            write.new["status"] = part(write.old, "status")
            podfeatures.drop_disabled(part(write.new, "spec"), write.old["spec"])


def _prepare_create(write: Write) -> None:
    spec: Object = part(write.new, "spec")
    write.new["status"] = _first_status(write)
    podfeatures.drop_disabled(spec, None)
    _apply_label_keys(spec, part(write.new, "metadata", "labels"))
    _apply_app_armor(write, spec)


def _first_status(write: Write) -> Object:
    status: Object = {"phase": "Pending"}
    if part(write.new, "spec").get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": timestamp(write.now),
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    status["qosClass"] = qos_class(write.new)
    return status


def _apply_label_keys(spec: Object, labels: Object) -> None:
    """Terms that take their values from the pod's own labels get them written into their selectors."""
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = part(spec, "affinity", kind)
        for weighted in entries(affinity, "preferredDuringSchedulingIgnoredDuringExecution"):
            _apply_keys(part(weighted, "podAffinityTerm"), labels)
        for term in entries(affinity, "requiredDuringSchedulingIgnoredDuringExecution"):
            _apply_keys(term, labels)
    for constraint in entries(spec, "topologySpreadConstraints"):
        _apply_keys(constraint, labels)


def _apply_keys(term: Object, labels: Object) -> None:
    selector: Object | None = term.get("labelSelector")
    if selector is None:
        return
    expressions = [
        {"key": key, "operator": operator, "values": [labels[key]]}
        for keys, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in entries(term, keys)
        if key in labels
    ]
    if expressions:
        selector["matchExpressions"] = [*entries(selector, "matchExpressions"), *expressions]


def _apply_app_armor(write: Write, spec: Object) -> None:
    """Profiles that are written as annotations become fields."""
    if text(part(spec, "os"), "name") == "windows":
        return
    annotations = part(write.new, "metadata", "annotations")
    of_pod = part(spec, "securityContext").get("appArmorProfile")
    for _, container in visit(spec, ""):
        name_ = text(container, "name")
        written = annotations.get(podannotations.APP_ARMOR + name_)
        if written is None or part(container, "securityContext").get("appArmorProfile") is not None:
            continue
        profile = podannotations.app_armor_profile(written)
        if profile is not None and app_armor(profile, ""):
            profile = None
        if profile is None or profile != of_pod:
            write.warnings.append(app_armor_annotation(name_))
        if profile is not None and profile != of_pod:
            container["securityContext"] = {**part(container, "securityContext"), "appArmorProfile": profile}


def _prepare_status(write: Write, old: Object) -> None:
    """The class of service stays; neither a deletion nor an owner can come in through `/status`."""
    status: Object = write.new.setdefault("status", {})
    if not status.get("qosClass"):
        status["qosClass"] = part(old, "status").get("qosClass") or qos_class(old)
    _keep(write.new["metadata"], part(old, "metadata"), "ownerReferences")
    _keep_generations(status, part(old, "status"))
    podfeatures.drop_disabled_status(status, part(old, "status"))


def _keep_generations(status: Object, before: Object) -> None:
    """Who does not say which generation a status is about leaves what was said before."""
    if not status.get("observedGeneration") and before.get("observedGeneration"):
        status["observedGeneration"] = before["observedGeneration"]
    held: dict[str, list[int]] = {}
    for condition in entries(before, "conditions"):
        held.setdefault(text(condition, "type"), []).append(condition.get("observedGeneration") or 0)
    for condition in entries(status, "conditions"):
        seen = held.get(text(condition, "type"))
        generation = seen.pop(0) if seen else 0
        if generation and not condition.get("observedGeneration"):
            condition["observedGeneration"] = generation


def _keep(meta: Object, before: Object, *keys: str) -> None:
    for key in keys:
        if before.get(key):
            meta[key] = before[key]
        else:
            meta.pop(key, None)


def _keep_metadata(new: Object, old: Object) -> None:
    _keep(new["metadata"], part(old, "metadata"), "labels", "annotations", "finalizers", "ownerReferences")


def _prepare_resize(write: Write, old: Object) -> None:
    """Everything but the resources stays. Where the containers are others, validation has to see that."""
    new, before = part(write.new, "spec"), part(old, "spec")
    lists = ("containers", "initContainers")
    if any(len(entries(new, key)) != len(entries(before, key)) for key in lists):
        return
    spec = without(before, "resources")
    if new.get("resources") is not None:
        spec["resources"] = new["resources"]
    for key in lists:
        if before.get(key):
            spec[key] = _resized(new[key], before[key])
    write.new["spec"] = spec
    write.new["status"] = part(old, "status")
    _keep_metadata(write.new, old)


def _resized(new: Sequence[Object], old: Sequence[Object]) -> Sequence[Object]:
    if [text(c, "name") for c in new] != [text(c, "name") for c in old]:
        return new
    kept = [without(container, "resources", "resizePolicy") for container in old]
    return [
        {
            **held,
            "resources": part(container, "resources"),
            **({"resizePolicy": container["resizePolicy"]} if container.get("resizePolicy") else {}),
        }
        for held, container in zip(kept, new, strict=True)
    ]


def validate(write: Write) -> list[FieldError]:
    if write.old is None:
        return object_meta(write) + _validate_create(write.new)
    match write.subresource:
        case "status":
            return object_meta(write) + podstatus.rules(write.new, write.old)
        case "ephemeralcontainers":
            return object_meta(write) + whole(write) + podupdate.ephemeral_containers(write.new, write.old)
        case "resize":
            return object_meta(write) + whole(write) + podupdate.resizing(write.new, write.old)
        case "binding":
            return []
        case _:
            errors = object_meta(write) + whole(write) + podspec.pod(write.new, write.old["spec"])
            return errors + podupdate.update(write.new, write.old)


def _validate_create(obj: Object) -> list[FieldError]:
    spec = part(obj, "spec")
    errors = podspec.pod(obj)
    if spec.get("ephemeralContainers"):
        errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
    if text(spec, "nodeName") and spec.get("schedulingGates"):
        errors.append(forbidden_field("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return errors + podannotations.profiles_match(part(obj, "metadata", "annotations"), spec, "spec")


def graceful_deletion(obj: Object, grace: int | None) -> int:
    """The seconds that a pod gets to end: none when it never ran on a node, or has ended."""
    if not text(part(obj, "spec"), "nodeName") or text(part(obj, "status"), "phase") in ("Failed", "Succeeded"):
        return 0
    period = grace if grace is not None else part(obj, "spec").get("terminationGracePeriodSeconds", 30)
    return 1 if period < 0 else period


# How it is printed


def _columns() -> tuple[Column, ...]:
    restarts = (
        "The number of times the containers in this pod have been restarted "
        "and when the last container in this pod has restarted."
    )
    return (
        name_column(),
        Column("Ready", description="The aggregate readiness state of this pod for accepting traffic."),
        Column("Status", description="The aggregate status of the containers in this pod."),
        Column("Restarts", description=restarts),
        age_column(),
        Column("IP", description=doc("core.v1.PodStatus.podIP"), priority=1),
        Column("Node", description=doc("core.v1.PodSpec.nodeName"), priority=1),
        Column("Nominated Node", description=doc("core.v1.PodStatus.nominatedNodeName"), priority=1),
        Column("Readiness Gates", description=doc("core.v1.PodSpec.readinessGates"), priority=1),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    summary = _Summary(obj)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{restarts} ({since(summary.last_restart, now)} ago)"
    addresses: list[Object] = entries(status, "podIPs")
    return [
        name(obj),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        age(obj, now),
        text(addresses[0], "ip") or NONE if addresses else NONE,
        text(spec, "nodeName") or NONE,
        text(status, "nominatedNodeName") or NONE,
        _readiness_gates(obj),
    ]


def _readiness_gates(obj: Object) -> str:
    gates: list[Object] = entries(part(obj, "spec"), "readinessGates")
    true = sum(condition_is(obj, text(g, "conditionType")) for g in gates)
    return f"{true}/{len(gates)}" if gates else NONE


class _Summary:
    """The words and numbers of one line: why the pod is where it is, as `kubectl get pods` has always told it."""

    __slots__ = ("last_restart", "ready", "reason", "restarts", "total")

    def __init__(self, obj: Object) -> None:
        spec, status = part(obj, "spec"), part(obj, "status")
        sidecars = {text(c, "name") for c in entries(spec, "initContainers") if c.get("restartPolicy") == "Always"}
        self.total = len(entries(spec, "containers")) + len(sidecars)
        self.ready = 0
        self.restarts = 0
        self.last_restart = ""
        self.reason = text(status, "reason") or text(status, "phase")
        if any(
            c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated"
            for c in entries(status, "conditions")
        ):
            self.reason = "SchedulingGated"
        initializing = self._init(spec, status, sidecars)
        if not initializing or _initialized(obj):
            self._regular(obj, status, sidecars)
        self._deletion(obj, status)

    def _init(self, spec: Object, status: Object, sidecars: set[str]) -> bool:
        """Counts init containers; whether one of them still has to end (or, a sidecar, to start)."""
        latest = ""
        for index, state in enumerate(entries(status, "initContainerStatuses")):
            self.restarts += state.get("restartCount") or 0
            latest = max(latest, _last_finished(state))
            is_sidecar = text(state, "name") in sidecars
            if _ended_well(state):
                continue
            if is_sidecar and state.get("started"):
                self.ready += bool(state.get("ready"))
                continue
            self.reason = _init_reason(state, index, len(entries(spec, "initContainers")))
            self.last_restart = latest
            return True
        self.last_restart = latest
        return False

    def _regular(self, obj: Object, status: Object, sidecars: set[str]) -> None:
        """Once the pod is initialized only its own containers' restarts count, and those of sidecars."""
        self.restarts = sum(
            s.get("restartCount") or 0 for s in entries(status, "initContainerStatuses") if text(s, "name") in sidecars
        )
        self.last_restart = max(
            (_last_finished(s) for s in entries(status, "initContainerStatuses") if text(s, "name") in sidecars),
            default="",
        )
        running, failure = False, ""
        for state in reversed(entries(status, "containerStatuses")):
            self.restarts += state.get("restartCount") or 0
            self.last_restart = max(self.last_restart, _last_finished(state))
            waiting, ended = part(state, "state", "waiting"), part(state, "state").get("terminated")
            if text(waiting, "reason"):
                self.reason = waiting["reason"]
            elif ended is not None:
                self.reason = text(ended, "reason") or _exit_reason(ended)
                failure = self.reason if ended.get("exitCode") else failure
            elif state.get("ready") and part(state, "state").get("running") is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed":
            self.reason = _some_completed(failure, running=running, ready=condition_is(obj, "Ready"))

    def _deletion(self, obj: Object, status: Object) -> None:
        if not part(obj, "metadata").get("deletionTimestamp"):
            return
        if text(status, "reason") == "NodeLost":
            self.reason = "Unknown"
        elif text(status, "phase") not in ("Failed", "Succeeded"):
            self.reason = "Terminating"


def _initialized(obj: Object) -> bool:
    return condition_is(obj, "Initialized")


def _last_finished(state: Object) -> str:
    return text(part(state, "lastState", "terminated"), "finishedAt")


def _ended_well(state: Object) -> bool:
    ended = part(state, "state").get("terminated")
    return ended is not None and not ended.get("exitCode")


def _exit_reason(ended: Object) -> str:
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode') or 0}"


def _some_completed(failure: str, *, running: bool, ready: bool) -> str:
    """What a pod is called whose first container has completed: the others may be at work, or have failed."""
    if running and ready:
        return "Running"
    return failure or ("NotReady" if running else "Completed")


def _init_reason(state: Object, index: int, total: int) -> str:
    ended = part(state, "state").get("terminated")
    if ended is not None:
        return f"Init:{text(ended, 'reason') or _exit_reason(ended)}"
    waiting = text(part(state, "state", "waiting"), "reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{index}/{total}"


_ENDED: Final = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}


def row_conditions(obj: Object) -> list[Object]:
    """Tells clients which rows to grey out: pods that have ended."""
    phase = text(part(obj, "status"), "phase")
    if phase not in _ENDED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _ENDED[phase]}]


def _selects(where: str, key: str) -> Callable[[Object], str]:
    """A field selector that reads a text field of spec or status."""
    return lambda obj: text(part(obj, where), key)


def spec_changed(old: Object, new: Object) -> bool:
    """Being bound to a node is no new generation: what the pod is to be stays the same."""
    return {**part(old, "spec"), "nodeName": None} != {**part(new, "spec"), "nodeName": None}


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Pod",
        plural="pods",
        singular="pod",
        namespaced=True,
        schema="io.k8s.api.core.v1.Pod",
        short_names=("po",),
        categories=("all",),
        status=True,
        subresources=(
            "attach",
            "binding",
            "ephemeralcontainers",
            "eviction",
            "exec",
            "log",
            "portforward",
            "proxy",
            "resize",
        ),
        strategy=Strategy(
            default=poddefaults.pod,
            prepare=prepare,
            validate=validate,
            warn=warn,
            generation=spec_changed,
            resets={"": ("status",), "status": ("spec", "metadata.deletionTimestamp", "metadata.ownerReferences")},
            graceful_deletion=graceful_deletion,
            returns_deleted=True,
        ),
        columns=_columns(),
        row=row,
        row_conditions=row_conditions,
        selectable={
            "spec.host": _selects("spec", "nodeName"),
            "spec.nodeName": _selects("spec", "nodeName"),
            "spec.restartPolicy": _selects("spec", "restartPolicy"),
            "spec.schedulerName": _selects("spec", "schedulerName"),
            "spec.serviceAccountName": _selects("spec", "serviceAccountName"),
            "spec.hostNetwork": lambda obj: "true" if part(obj, "spec").get("hostNetwork") else "false",
            "status.phase": _selects("status", "phase"),
            "status.podIP": _selects("status", "podIP"),
            "status.podIPs": lambda _: "",
            "status.nominatedNodeName": _selects("status", "nominatedNodeName"),
        },
        indexed=("spec.nodeName",),
    )

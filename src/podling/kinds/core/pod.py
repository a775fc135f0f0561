"""Pod: defaults, what a running pod may change, how long it may take to end, and how `kubectl get` shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value
from podling.api.meta import condition_is, timestamp
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core import poddefaults, podspec, scheduling
from podling.kinds.core.podwarnings import warn
from podling.kinds.core.qos import qos_class
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column, since
from podling.kinds.validation import fields
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_UPDATABLE: Final = ",".join(
    (
        "`spec.containers[*].image`",
        "`spec.initContainers[*].image`",
        "`spec.activeDeadlineSeconds`",
        "`spec.tolerations` (only additions to existing tolerations)",
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )
)


# On the way to the store


def prepare(write: Write) -> None:
    """A new pod is pending, whatever it claims; a change through a subresource changes only that part."""
    if write.old is None:
        write.new["status"] = _first_status(write)
        return
    match write.subresource:
        case "status":
            _prepare_status(write, write.old)
        case "ephemeralcontainers":
            spec = {
                **write.old["spec"],
                "ephemeralContainers": entries(part(write.new, "spec"), "ephemeralContainers"),
            }
            write.new["spec"] = spec if spec["ephemeralContainers"] else _without(spec, "ephemeralContainers")
        case "resize":
            write.new["spec"] = _resized(part(write.new, "spec"), write.old["spec"])
        case "binding":
            pass  # its creator changes only what a binding may change
        case _:
            write.new["status"] = part(write.old, "status")


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


def _prepare_status(write: Write, old: Object) -> None:
    """The class of service stays; neither a deletion nor an owner can come in through `/status`."""
    status: Object = write.new.setdefault("status", {})
    status["qosClass"] = part(old, "status").get("qosClass") or qos_class(old)
    meta: Object = write.new["metadata"]
    owners = part(old, "metadata").get("ownerReferences")
    if owners:
        meta["ownerReferences"] = owners
    else:
        meta.pop("ownerReferences", None)


def _without(obj: Object, *keys: str) -> Object:
    return {k: v for k, v in obj.items() if k not in keys}


def _resized(new: Object, old: Object) -> Object:
    """The old spec with the new resources of the containers that are there by name."""
    spec = dict(old)
    if new.get("resources") is not None or old.get("resources") is not None:
        spec["resources"] = part(new, "resources")
    for key in ("containers", "initContainers"):
        if old.get(key) is None:
            continue
        wanted = {text(c, "name"): c for c in entries(new, key)}
        spec[key] = [_with_resources(c, wanted.get(text(c, "name"), c)) for c in old[key]]
    return spec


def _with_resources(container: Object, wanted: Object) -> Object:
    resized = {**container, "resources": part(wanted, "resources")}
    if wanted.get("resizePolicy"):
        resized["resizePolicy"] = wanted["resizePolicy"]
    return resized


def validate(write: Write) -> list[FieldError]:
    if write.old is None:
        return _validate_create(write)
    match write.subresource:
        case "status":
            return object_meta(write) + _validate_status(write.new, write.old)
        case "ephemeralcontainers":
            return _validate_ephemeral(write, write.old)
        case "resize":
            return _validate_resize(write, write.old)
        case "binding":
            return []
        case _:
            return _validate_update(write, write.old)


def _validate_create(write: Write) -> list[FieldError]:
    spec = part(write.new, "spec")
    errors = object_meta(write) + podspec.pod_spec(spec)
    if spec.get("ephemeralContainers"):
        errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
    if text(spec, "nodeName") and spec.get("schedulingGates"):
        errors.append(forbidden_field("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return errors


def _validate_update(write: Write, old: Object) -> list[FieldError]:
    before, after = old["spec"], part(write.new, "spec")
    errors = object_meta(write) + podspec.pod_spec(after)
    for key in ("containers", "initContainers"):
        wrong = _images(entries(after, key), entries(before, key), f"spec.{key}")
        errors += wrong
        if any(e.type == "FieldValueForbidden" for e in wrong):
            return errors
    wrong = _deadline(after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    if wrong:
        return errors + wrong
    errors += _only_added_tolerations(after, before)
    errors += _only_removed_gates(after, before)
    if _munged(after, before) != _comparable(before):
        detail = (
            f"pod updates may not change fields other than {_UPDATABLE}\n{_difference(_munged(after, before), before)}"
        )
        errors.append(forbidden_field("spec", detail))
    return errors


def _images(after: Sequence[Object], before: Sequence[Object], path: str) -> list[FieldError]:
    if len(after) != len(before):
        return [forbidden_field(path, "pod updates may not add or remove containers")]
    return [
        invalid_value(f"{at}.image", image, "must not have leading or trailing whitespace")
        for at, container in each(path, after)
        if (image := text(container, "image")) != image.strip()
    ]


def _deadline(after: int | None, before: int | None) -> list[FieldError]:
    """A deadline may be set, and shortened."""
    path = "spec.activeDeadlineSeconds"
    if after is not None:
        if not 0 <= after <= 2**31 - 1:
            return [invalid_value(path, after, "must be between 0 and 2147483647, inclusive")]
        if before is not None and before < after:
            return [invalid_value(path, after, "must be less than or equal to previous value")]
    elif before is not None:
        return [invalid_value(path, None, "must not update from a positive integer to nil value")]
    return []


def _only_added_tolerations(after: Object, before: Object) -> list[FieldError]:
    """Existing tolerations stay; only their `tolerationSeconds` may change."""
    kept = [_without(t, "tolerationSeconds") for t in entries(after, "tolerations")]
    for toleration in entries(before, "tolerations"):
        if _without(toleration, "tolerationSeconds") not in kept:
            detail = "existing toleration can not be modified except its tolerationSeconds"
            return [forbidden_field("spec.tolerations", detail)]
    return scheduling.tolerations(after.get("tolerations"), "spec.tolerations")


def _only_removed_gates(after: Object, before: Object) -> list[FieldError]:
    held = {text(g, "name") for g in entries(before, "schedulingGates")}
    added = [text(g, "name") for g in entries(after, "schedulingGates") if text(g, "name") not in held]
    if not added:
        return []
    shown = ",".join(added)
    return [
        forbidden_field("spec.schedulingGates", f"only deletion is allowed, but found new scheduling gates '{shown}'")
    ]


def _munged(after: Object, before: Object) -> Object:
    """The new spec with everything taken back that may change."""
    spec = _comparable(after)
    for key in ("containers", "initContainers"):
        if spec.get(key):
            spec[key] = [{**new, "image": text(old, "image")} for new, old in zip(spec[key], before[key], strict=True)]
    keys = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        keys.append("terminationGracePeriodSeconds")
    if before.get("schedulingGates"):
        keys += [k for k in ("nodeSelector", "affinity") if _only_narrowed(k, after, before)]
    for key in keys:
        spec.pop(key, None)
        if before.get(key):
            spec[key] = before[key]
    return spec


def _only_narrowed(key: str, after: Object, before: Object) -> bool:
    """A pod that is not yet offered to the scheduler may be held to fewer nodes, never to more."""
    if key == "nodeSelector":
        selector: Object = part(after, key)
        return all(selector.get(k) == v for k, v in part(before, key).items())
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    old_terms = part(before, key, "nodeAffinity", required).get("nodeSelectorTerms")
    new_terms = part(after, key, "nodeAffinity", required).get("nodeSelectorTerms")
    others = [_without(part(s, key), "nodeAffinity") for s in (after, before)]
    if others[0] != others[1]:
        return False
    if not old_terms:
        return True
    if not new_terms or len(new_terms) != len(old_terms):
        return False
    return all(_term_narrowed(new, old) for new, old in zip(new_terms, old_terms, strict=True))


def _term_narrowed(new: Object, old: Object) -> bool:
    for key in ("matchExpressions", "matchFields"):
        kept: list[Object] = entries(old, key)
        if entries(new, key)[: len(kept)] != kept:
            return False
    return True


def _comparable(spec: Object) -> Object:
    """Absent and empty are equal to Go."""
    return {k: v for k, v in spec.items() if v not in (None, "", [], False) and (v != {} or k == "securityContext")}


def _difference(after: Object, before: Object) -> str:
    changed = sorted(k for k in after.keys() | before.keys() if after.get(k) != before.get(k))
    return "".join(f"-{k}: {before.get(k)}\n+{k}: {after.get(k)}\n" for k in changed)


def _validate_status(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    after, before = part(new, "status"), part(old, "status")
    nominated = text(after, "nominatedNodeName")
    if nominated:
        errors += fields.check("status.nominatedNodeName", nominated, podspec.names.dns1123_subdomain)
    for key in ("podIPs", "hostIPs"):
        for at, item in each(f"status.{key}", after.get(key)):
            errors += fields.check(f"{at}.ip", text(item, "ip"), podspec.names.ip)
    policy = text(part(new, "spec"), "restartPolicy")
    errors += _no_resurrection(after, before, "containerStatuses", policy)
    return errors


def _no_resurrection(after: Object, before: Object, key: str, policy: str) -> list[FieldError]:
    """A container that has ended for good stays ended."""
    if policy == "Always":
        return []
    ended = {
        text(s, "name")
        for s in entries(before, key)
        if (found := part(s, "state").get("terminated")) is not None
        and not (policy == "OnFailure" and found.get("exitCode"))
    }
    return [
        forbidden_field(f"{at}.state", "may not be transitioned to non-terminated state")
        for at, status in each(f"status.{key}", after.get(key))
        if text(status, "name") in ended and part(status, "state").get("terminated") is None
    ]


def _validate_ephemeral(write: Write, old: Object) -> list[FieldError]:
    errors = object_meta(write)
    new_items: list[Object] = entries(part(write.new, "spec"), "ephemeralContainers")
    errors += podspec.pod_spec(part(write.new, "spec"))
    by_name = {text(c, "name"): c for c in new_items}
    path = "spec.ephemeralContainers"
    for container in entries(part(old, "spec"), "ephemeralContainers"):
        held = text(container, "name")
        if held not in by_name:
            errors.append(forbidden_field(path, f'existing ephemeral containers "{held}" may not be removed\n'))
        elif by_name[held] != container:
            detail = f'existing ephemeral containers "{held}" may not be changed\n'
            errors.append(forbidden_field(path, detail))
    return errors


_RESIZABLE: Final = ("cpu", "memory")


def _validate_resize(write: Write, old: Object) -> list[FieldError]:
    errors = object_meta(write) + podspec.pod_spec(part(write.new, "spec"))
    before = qos_class(old)
    if qos_class(write.new) != before:
        detail = "Pod QOS Class may not change as a result of resizing"
        errors.append(invalid_value("spec", qos_class(write.new), detail))
    for key in ("containers", "initContainers"):
        pairs = zip(entries(part(write.new, "spec"), key), entries(part(old, "spec"), key), strict=True)
        for index, (after, was) in enumerate(pairs):
            errors += _resize_of(after, was, f"spec.{key}[{index}].resources", key)
    return errors


def _resize_of(after: Object, before: Object, path: str, key: str) -> list[FieldError]:
    new, old = part(after, "resources"), part(before, "resources")
    errors: list[FieldError] = []
    if key == "initContainers" and after.get("restartPolicy") != "Always" and new != old:
        return [forbidden_field(path, "resources for non-sidecar init containers are immutable")]
    for kind in ("limits", "requests"):
        was, now = part(old, kind), part(new, kind)
        if _without(was, *_RESIZABLE) != _without(now, *_RESIZABLE):
            errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))
        for name_ in sorted(was.keys() - now.keys()):
            errors.append(forbidden_field(f"{path}.{kind}", f"resource {kind} cannot be removed ({name_})"))
    return errors


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
        text(addresses[0], "ip") if addresses else NONE,
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
        running = False
        for state in reversed(entries(status, "containerStatuses")):
            self.restarts += state.get("restartCount") or 0
            self.last_restart = max(self.last_restart, _last_finished(state))
            waiting, ended = part(state, "state", "waiting"), part(state, "state").get("terminated")
            if text(waiting, "reason"):
                self.reason = waiting["reason"]
            elif ended is not None:
                self.reason = text(ended, "reason") or _exit_reason(ended)
            elif state.get("ready") and part(state, "state").get("running") is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed" and running:
            self.reason = "Running" if condition_is(obj, "Ready") else "NotReady"

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
            graceful_deletion=graceful_deletion,
            returns_deleted=True,
        ),
        columns=_columns(),
        row=row,
        row_conditions=row_conditions,
        selectable={
            "spec.nodeName": _selects("spec", "nodeName"),
            "spec.restartPolicy": _selects("spec", "restartPolicy"),
            "spec.schedulerName": _selects("spec", "schedulerName"),
            "spec.serviceAccountName": _selects("spec", "serviceAccountName"),
            "spec.hostNetwork": lambda obj: "true" if part(obj, "spec").get("hostNetwork") else "false",
            "status.phase": _selects("status", "phase"),
            "status.podIP": _selects("status", "podIP"),
            "status.nominatedNodeName": _selects("status", "nominatedNodeName"),
        },
        indexed=("spec.nodeName",),
    )

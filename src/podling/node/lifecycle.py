"""Which containers of a pod are to be started, stopped or waited for: the kubelet's rules, pure.

`decide` looks at the spec and at what is known of each container and says what to do now. It is called after every
change; what it asks for is done, and then it is asked again. Rules: Kubernetes' "Pod Lifecycle", "Init Containers",
"Sidecar Containers" and container restart rules (KEP-5307).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import orjson

from podling.api import meta
from podling.node import backoff, resize
from podling.node.state import Role, Slot, Waiting, container_of, containers_of, full_name, is_started
from podling.store.types import Object

SHOWN = 1.0
"""Seconds for which `Error` or `ErrImagePull` is seen before the back-off's own reason takes its place."""

KillReason = Literal["", "LivenessProbe", "StartupProbe"]


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop a running container while the pod goes on."""

    name: str
    message: str
    reason: KillReason = ""


@dataclass(slots=True)
class Plan:
    """What to do now, in this order. `waiting` are containers in back-off, with what their status says;
    `wake_at` is the next moment (Unix seconds) at which the answer can change by time alone."""

    kill: list[Kill] = field(default_factory=lambda: list[Kill]())
    start: list[str] = field(default_factory=lambda: list[str]())
    waiting: dict[str, Waiting] = field(default_factory=lambda: dict[str, Waiting]())
    wake_at: float | None = None
    restart_all: str = ""
    """The container whose end means that all of them begin anew; then nothing else is to be done."""
    resize: bool = False
    """A running container is to have other resources."""
    stop_pod: bool = False
    """Nothing is left to run: the pod is finished, its sidecars are to be stopped."""


def spec_hash(container: Object) -> str:
    """Changes when the container must be replaced; resources may change in place."""
    fixed = {key: value for key, value in container.items() if key not in ("resources", "resizePolicy")}
    return hashlib.sha256(orjson.dumps(fixed, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def may_restart(container: Object, pod: Object, exit_code: int) -> bool:
    """Whether an ended container is to be run again: its own rules and policy first, then the pod's policy."""
    if _action(container, exit_code):
        return True
    match container.get("restartPolicy") or meta.spec(pod).get("restartPolicy", "Always"):
        case "Never":
            return False
        case "OnFailure":
            return exit_code != 0
        case _:
            return True


def _action(container: Object, exit_code: int) -> str:
    """Of the first rule that matches; `""` when none does."""
    rules: list[Object] = container.get("restartPolicyRules") or []
    return next((rule["action"] for rule in rules if _rule_matches(rule, exit_code)), "")


def _restarts_all(container: Object, slot: Slot) -> bool:
    run = slot.current
    if run is None or run.exit_code is None or slot.stale:
        return False
    return _action(container, run.exit_code) == "RestartAllContainers"


def _rule_matches(rule: Object, exit_code: int) -> bool:
    condition: Object = rule.get("exitCodes") or {}
    listed = exit_code in (condition.get("values") or ())
    return listed if condition.get("operator") == "In" else not listed


def may_restart_on_failure(container: Object, pod: Object) -> bool:
    """Whether a container that the node kills for its failing probe comes back."""
    return (container.get("restartPolicy") or meta.spec(pod).get("restartPolicy", "Always")) != "Never"


def initialized_once(pod: Object, slots: Mapping[str, Slot]) -> bool:
    """Whether any main container was ever started: from then on init containers are not looked at again."""
    return any(role is Role.MAIN and _begun(slots[c["name"]]) for c, role in containers_of(pod))


def _begun(slot: Slot) -> bool:
    """Whether it was started in the present sandbox."""
    return slot.current is not None and not slot.stale


def decide(pod: Object, slots: Mapping[str, Slot], now: float) -> Plan:
    """What to do for a pod that has its sandbox and is not being deleted."""
    plan = Plan()
    plan.restart_all = next((c["name"] for c, _ in containers_of(pod) if _restarts_all(c, slots[c["name"]])), "")
    if plan.restart_all:
        return plan
    _decide_ephemeral(plan, pod, slots, now)
    if _decide_init(plan, pod, slots, now):
        _decide_main(plan, pod, slots, now)
    return plan


def _decide_ephemeral(plan: Plan, pod: Object, slots: Mapping[str, Slot], now: float) -> None:
    for container, role in containers_of(pod):
        slot = slots[container["name"]]
        if role is Role.EPHEMERAL and slot.current is None:
            _start(plan, pod, slot, now)


def _decide_init(plan: Plan, pod: Object, slots: Mapping[str, Slot], now: float) -> bool:
    """Looks after init containers and sidecars; `True` when the main containers may run."""
    over = initialized_once(pod, slots)
    inits = [(c, slots[c["name"]], role) for c, role in containers_of(pod) if role in (Role.INIT, Role.SIDECAR)]
    for index, (container, slot, role) in enumerate(inits):
        if role is Role.SIDECAR:
            later_begun = over or any(_begun(later) for _, later, _ in inits[index + 1 :])
            if not _decide_sidecar(plan, pod, container, slot, now) and not later_begun:
                return False
        elif not over and not _decide_init_container(plan, pod, container, slot, now):
            return False
    return True


def _decide_init_container(plan: Plan, pod: Object, container: Object, slot: Slot, now: float) -> bool:
    """`True` when it has done its work."""
    if slot.current is not None and slot.current.exit_code == 0 and not slot.stale:
        return True
    if slot.current is None or slot.stale or not slot.current.ended:
        if not slot.running:
            _start(plan, pod, slot, now)
        return False
    if may_restart(container, pod, slot.current.exit_code or 0):
        _start(plan, pod, slot, now)
    else:
        plan.stop_pod = True
    return False


def _decide_sidecar(plan: Plan, pod: Object, container: Object, slot: Slot, now: float) -> bool:
    """`True` when what comes after it may begin."""
    if not slot.running:
        _start(plan, pod, slot, now)
        return False
    failure = _failure(container, slot)
    if failure is not None:
        plan.kill.append(_to_restart(failure))
        return False
    _decide_resize(plan, container, slot)
    return is_started(container, slot)


def _decide_main(plan: Plan, pod: Object, slots: Mapping[str, Slot], now: float) -> None:
    kept = False
    doomed: list[Kill] = []
    for container, role in containers_of(pod):
        if role is not Role.MAIN:
            continue
        slot = slots[container["name"]]
        if not slot.running:
            if (
                slot.current is None
                or slot.pending
                or slot.stale
                or may_restart(container, pod, slot.current.exit_code or 0)
            ):
                kept = True
                _start(plan, pod, slot, now)
            continue
        failure = _failure(container, slot)
        if failure is None:
            kept = True
            _decide_resize(plan, container, slot)
        elif failure.reason == "" or may_restart_on_failure(container, pod):
            kept = True
            doomed.append(_to_restart(failure))
        else:
            doomed.append(failure)
    if kept:
        plan.kill.extend(doomed)
    else:
        plan.stop_pod = True
        plan.start.clear()  # a sidecar that is down does not keep a finished pod alive


def _to_restart(failure: Kill) -> Kill:
    return Kill(failure.name, f"{failure.message}, will be restarted", failure.reason)


def _decide_resize(plan: Plan, container: Object, slot: Slot) -> None:
    """New resources come into force where it runs, or by a new run where its policy says so."""
    if resize.unfinished(slot, container):
        if resize.needs_restart(slot, container):
            plan.kill.append(Kill(slot.name, f"Container {slot.name} resize requires restart"))
        else:
            plan.resize = True


def _failure(container: Object, slot: Slot) -> Kill | None:
    """Why a running container must go, if it must."""
    name = slot.name
    if slot.current is not None and slot.current.spec_hash != spec_hash(container):
        return Kill(name, f"Container {name} definition changed")
    if slot.liveness is False:
        return Kill(name, f"Container {name} failed liveness probe", "LivenessProbe")
    if slot.startup is False:
        return Kill(name, f"Container {name} failed startup probe", "StartupProbe")
    return None


def _start(plan: Plan, pod: Object, slot: Slot, now: float) -> None:
    """Starts it, or says what it waits for after a failure."""
    if slot.pending:
        return
    if slot.current is not None and slot.current.ended:
        ready_at = backoff.until(slot.restart_backoff, slot.current.finished_at)
        if now < ready_at:
            _say_later(plan, slot, _crash_loop(pod, slot), slot.current.finished_at + SHOWN, now)
            _wake(plan, ready_at)
            return
    if now < slot.retry_at:
        if slot.waiting is not None and slot.waiting.reason == "ErrImagePull":
            _say_later(plan, slot, _pull_back_off(pod, slot), slot.pull_backoff.updated + SHOWN, now)
        _wake(plan, slot.retry_at)
        return
    plan.start.append(slot.name)


def _crash_loop(pod: Object, slot: Slot) -> Waiting:
    delay = duration(slot.restart_backoff.delay)
    message = f"back-off {delay} restarting failed container={slot.name} pod={full_name(pod)}"
    return Waiting("CrashLoopBackOff", message)


def _pull_back_off(pod: Object, slot: Slot) -> Waiting:
    image = (container_of(pod, slot.name) or {}).get("image", "")
    return Waiting("ImagePullBackOff", f'Back-off pulling image "{image}": {slot.pull_error}')


def _say_later(plan: Plan, slot: Slot, waiting: Waiting, moment: float, now: float) -> None:
    """The kubelet shows a failure as it happened, and the back-off from its next look on."""
    if now >= moment:
        plan.waiting[slot.name] = waiting
    else:
        _wake(plan, moment)


def _wake(plan: Plan, moment: float) -> None:
    plan.wake_at = moment if plan.wake_at is None else min(plan.wake_at, moment)


def duration(seconds: float) -> str:
    """As Go prints a duration of whole seconds: `10s`, `2m40s`, `5m0s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

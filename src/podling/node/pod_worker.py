"""One pod on this node: observe, decide, act, by one task that sleeps until something happens.

What can happen: the Pod object changes or goes, an object that it refers to changes, a container ends, a probe is
decided, a moment comes. Each only wakes the worker (`wake`), which then looks at everything and asks `lifecycle.decide`
what to do. What takes long (pulling, starting, stopping) runs in tasks of its own that wake the worker when done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from podling.api import meta
from podling.api.errors import ApiError
from podling.api.podresources import pod_requests
from podling.node import amounts, backoff, lifecycle, logs, resize, storage
from podling.node.admission import Holding, Refusal
from podling.node.checks import Outcome, Verdict, check_http, check_tcp, handler_of, http_target, tcp_target
from podling.node.container import shares_process_namespace
from podling.node.environment import PodContext
from podling.node.execution import check_exec
from podling.node.grpc_health import check_grpc
from podling.node.lifecycle import Kill, Plan
from podling.node.naming import host_name
from podling.node.payload import is_payload, references
from podling.node.probes import Kind, Note, Prober
from podling.node.publisher import Publisher
from podling.node.records import Record
from podling.node.starter import Setting, Starter, StartFailure, remove_old_runs, run_directory
from podling.node.state import (
    Instance,
    Role,
    Slot,
    Waiting,
    container_of,
    containers_of,
    field_path,
    full_name,
    is_ready,
    part,
)
from podling.node.status import Facts, container_id
from podling.node.stopper import MINIMUM_GRACE, Deadline, kill_container, stop_container
from podling.node.surroundings import AGENT, Surroundings
from podling.node.volumes import SetupError, Volumes
from podling.sandbox.client import SandboxError
from podling.sandbox.spec import ContainerState, Limits, PodSpec
from podling.store.types import Object, Uid

log = logging.getLogger(__name__)

DRAIN_PATIENCE = 0.5
"""Seconds for which a pod may finish the connections that it has, before it is told to stop anyway."""
DRAIN_FIRST_LOOK = 0.002
DRAIN_LAST_LOOK = 0.03
SETUP_RETRY_FIRST = 0.5
SETUP_RETRY_LAST = 122.0
"""Seconds between attempts to set up volumes and sandbox; doubled each time (kubelet's exponential back-off)."""
MOUNT_PATIENCE = 123.0
"""Seconds after which it is said that the pod's volumes are not there (kubelet's podAttachAndMountTimeout)."""
FAULT_PAUSE = 1.0
EVICTION_GRACE = 1.0
"""Seconds that a pod gets which writes more than it may."""
RESIZE_RETRY = 10.0
"""Seconds until resources that could not be put into force are tried again."""
MESSAGE_LIMIT = 4096
FALLBACK_LINES = 80
FALLBACK_BYTES = 2048


class Neighbourhood(Protocol):
    """The node, as one of its pods sees it."""

    def neighbours(self, uid: Uid) -> Sequence[Holding]:
        """All other pods that hold a part of the node."""
        ...

    def room_made(self) -> None:
        """The pod has ended and holds nothing any more."""
        ...


class PodWorker:
    """Makes one pod true. `record` and `slots` come from an earlier daemon when it is adopted."""

    def __init__(
        self,
        pod: Object,
        surroundings: Surroundings,
        neighbourhood: Neighbourhood,
        record: Record | None = None,
        slots: dict[str, Slot] | None = None,
    ) -> None:
        self.pod = pod
        self.uid: Uid = meta.uid(pod)
        self.slots: dict[str, Slot] = slots or {}
        self.record = record or Record(self.uid, meta.namespace(pod), meta.name(pod), surroundings.now())
        self.sandbox_ready = False
        self._with = surroundings
        self._neighbourhood = neighbourhood
        self._resize_pending: Waiting | None = None
        self._resizing = False
        self._resize_error = ""
        self._retry_resize_at = 0.0
        self._pod_limits = Limits()
        """Those of the pod's group, as far as this daemon has set them."""
        self._held: tuple[Object, dict[str, Object], Holding | None] = ({}, {}, None)
        """The pod, what was granted, and what follows from both."""
        self._starter = Starter(surroundings)
        self._volumes = Volumes(surroundings.volumes_directory(self.uid), surroundings.client, surroundings.images)
        self._publisher = Publisher(
            surroundings.client, meta.namespace(pod), meta.name(pod), self.uid, self.facts, surroundings.now
        )
        self._awake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._probers: dict[str, Prober] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._deadline: Deadline | None = None
        self._gone = False
        self._adopted = False
        self._deletion_asked = False
        self._withdrawn = False
        self._retry_setup = asyncio.Event()
        self._references: set[tuple[str, str]] | None = None
        self._volumes_stale = False
        self._publishes = record is not None or meta.status(pod).get("phase") not in ("Succeeded", "Failed")
        if not self._publishes:
            self.record.ended = True
        self._add_slots()

    # What others tell it

    def wake(self) -> None:
        self._awake.set()

    def update(self, pod: Object) -> None:
        """The Pod object has changed."""
        before, self.pod = self.pod, pod
        if not _matters(before, pod):
            if self._publishes and meta.condition(before, "Ready") != meta.condition(pod, "Ready"):
                self._publisher.request()  # the node controller may have said that the pod is not ready: it is
            return
        self._add_slots()
        self._references = None
        self._volumes_stale = True
        if self._deadline is not None:
            self._deadline.shorten(self._grace())
        self.wake()

    def gone(self) -> None:
        """The Pod object has left the store."""
        self._gone = True
        if self._deadline is not None:
            self._deadline.shorten(0)
        self.wake()

    def references_changed(self) -> None:
        """A ConfigMap, Secret or claim that the pod names has changed or appeared."""
        self._volumes_stale = True
        self._retry_setup.set()
        for slot in self.slots.values():
            if slot.waiting is not None and slot.waiting.reason == "CreateContainerConfigError":
                slot.retry_at = 0.0
        self.wake()

    def ended(self, state: ContainerState) -> None:
        """A container has ended (the zygote says so)."""
        slot = next((slot for slot in self.slots.values() if slot.current and slot.current.id == state["id"]), None)
        if slot is None or slot.current is None or slot.current.ended:
            return
        self._note_end(slot, slot.current, state)
        if slot.role in (Role.MAIN, Role.SIDECAR) and not self._terminating and self.sandbox_ready:
            self._spawn(f"withdraw {state['id']}", self._withdraw())
        self.wake()

    def references(self) -> set[tuple[str, str]]:
        """The objects whose changes concern it, as (resource, name) in its namespace."""
        if self._references is None:
            self._references = self._find_references()
        return self._references

    def _find_references(self) -> set[tuple[str, str]]:
        found = {ref for volume in meta.spec(self.pod).get("volumes") or () for ref in _volume_references(volume)}
        for container, _ in containers_of(self.pod):
            found |= set(_environment_references(container))
        return found

    def facts(self) -> Facts:
        """What the status is made of."""
        failure = self.record.failure
        return Facts(
            slots=self.slots,
            started_at=self.record.started_at,
            host_ip=self._with.host_ip,
            ip=self.record.ip,
            sandbox=self.sandbox_ready,
            ended=self.record.ended,
            failure=Waiting(*failure) if failure else None,
            rejected=self.record.rejected,
            allocated=self.record.allocated,
            resize_pending=self._resize_pending,
            resize_error=self._resize_error,
        )

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
    def waits_for_room(self) -> bool:
        """Whether a resize is deferred until other pods leave."""
        return self._resize_pending is not None and self._resize_pending.reason == "Deferred"

    @property
    def holds_room(self) -> bool:
        """Whether it counts for what other pods can get of the node: not once it has left the store, as the scheduler
        counts, though it may still be ending."""
        return not (self._gone or self.record.ended or self.record.rejected)

    def reject(self, refusal: Refusal) -> None:
        """The node does not take the pod; said before it runs."""
        self.record.failure = (refusal.reason, refusal.message)
        self.record.rejected = True
        self._tell("Warning", refusal.reason, refusal.message)

    # The task

    async def run(self) -> None:
        """Until the pod is gone from the store and from the machine."""
        self.wake()
        try:
            while not (self._gone and self.record.ended and not self._tasks):
                await self._awake.wait()
                self._awake.clear()
                await self._guarded_step()
            await self._clean_up()
        finally:
            self._stop_all_tasks()

    async def _guarded_step(self) -> None:
        try:
            await self._step()
        except Exception:  # one pod's fault must not end its supervision: said, then tried again
            log.exception("pod %s/%s", meta.namespace(self.pod), meta.name(self.pod))
            self._wake_in(FAULT_PAUSE)

    async def _step(self) -> None:
        if self._must_end() and not self.record.ended:
            self._once("end", self._end)
        elif self.record.ended:
            if meta.deleting(self.pod) and not self._gone and not self._deletion_asked:
                self._once("delete", self._delete_object)
        elif not self.sandbox_ready:
            self._once("set up", self._set_up)
        else:
            await self._follow_plan()
        if not self._publishes:
            return
        if self._tasks.keys() & {"start", "end"}:
            self._publisher.request_soon()
        else:
            self._publisher.request()

    async def _follow_plan(self) -> None:
        if self._volumes_stale:
            self._volumes_stale = False
            await self._refresh_volumes()
        now = self._with.now()
        self._consider_resize()
        self._note_resized()
        plan = lifecycle.decide(self.granted, self.slots, now)
        if plan.stop_pod:
            self._once("end", self._end)
            return
        if plan.restart_all:
            self._once("restart all", lambda: self._restart_all(plan.restart_all))
            return
        self._apply_waiting(plan)
        for kill in plan.kill:
            self._begin_kill(kill)
        if plan.start:
            self._once("start", lambda: self._start_all(plan.start))
        if plan.resize and now >= self._retry_resize_at:
            self._once("resize", self._resize)
        await self._readmit()
        retry = self._retry_resize_at if plan.resize and now < self._retry_resize_at else None
        self._set_timer([plan.wake_at, self._active_until(), self._renewal(), retry])

    def _must_end(self) -> bool:
        until = self._active_until()
        if until is not None and self._with.now() >= until and self.record.failure is None:
            text = "Pod was active on the node longer than the specified deadline"
            self.record.failure = ("DeadlineExceeded", text)
            self._tell("Normal", "DeadlineExceeded", text)
        return self._gone or meta.deleting(self.pod) or self.record.failure is not None

    def _renewal(self) -> float | None:
        """When a token is renewed: those live by the machine's time, as they are for programs that know no other."""
        moment = self._volumes.next_renewal()
        return None if moment is None else self._with.clock.of_host(moment)

    def _active_until(self) -> float | None:
        seconds = meta.spec(self.pod).get("activeDeadlineSeconds")
        return None if seconds is None else self.record.started_at + seconds

    @property
    def _terminating(self) -> bool:
        return "end" in self._tasks

    # Slots

    def _add_slots(self) -> None:
        for container, role in containers_of(self.pod):
            self.slots.setdefault(container["name"], Slot(container["name"], role))
        self.record.allocated = {**resize.wanted(self.pod), **self.record.allocated}

    def _save(self) -> None:
        self.record.save(self._with.pod_directory(self.uid), self.slots.values())

    def _context(self) -> PodContext:
        ip = self.record.ip
        return PodContext(self.granted, ip, self._with.host_ip, self._with.allocatable())

    # Setting up

    async def _set_up(self) -> None:
        """IP, volumes, sandbox; tried again for ever, with longer and longer pauses."""
        if not self._anything_to_run():
            self._once("end", self._end)
            return
        pause, patience = SETUP_RETRY_FIRST, self._with.clock.host() + MOUNT_PATIENCE
        while not self._must_end():
            try:
                await self._try_set_up()
                return
            except SetupError as error:
                self._tell("Warning", "FailedMount", str(error))
                if self._with.clock.host() >= patience:
                    patience = self._with.clock.host() + MOUNT_PATIENCE
                    self._tell("Warning", "FailedMount", _unmounted(error.volume))
            except (OSError, RuntimeError, SandboxError) as error:
                self._tell("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            self._retry_setup.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._retry_setup.wait()
            pause = min(pause * 2, SETUP_RETRY_LAST)

    def _anything_to_run(self) -> bool:
        """A pod whose work is done gets no new sandbox."""
        return any(
            slot.current is None
            or not slot.current.ended
            or lifecycle.may_restart(c, self.pod, slot.current.exit_code or 0)
            for c, role in containers_of(self.pod)
            if role is Role.MAIN
            for slot in (self.slots[c["name"]],)
        )

    async def _try_set_up(self) -> None:
        if self._shares_network():
            self.record.ip = self._with.host_ip
        else:
            self.record.ip = self._with.network.allocate(self.uid)
        await self._volumes.set_up(self._context(), self._with.clock.host())
        self._volumes_stale = False
        if any(slot.stale for slot in self.slots.values()):
            self._tell("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        self.record.sandbox = f"{self.uid}.{self.record.sandboxes}"
        self.record.sandboxes += 1
        self._save()
        spec = self._pod_spec()
        self._pod_limits = spec.get("limits", Limits())
        await self._with.sandbox.create_pod(spec)
        if not self._shares_network():
            await self._with.network.attach(self.record.ip, list(host_ports(self.pod, self._with.host_ip)))
        self.sandbox_ready = True

    def _shares_network(self) -> bool:
        return bool(meta.spec(self.pod).get("hostNetwork"))

    def _pod_spec(self) -> PodSpec:
        spec = meta.spec(self.pod)
        result = PodSpec(
            id=self.record.sandbox,
            hostname=host_name(self.pod, self._with.node_name),
            host_pid=bool(spec.get("hostPID")),
            host_ipc=bool(spec.get("hostIPC")),
            share_pid=shares_process_namespace(self.pod),
            cgroup=amounts.cgroup_path(self.pod),
            limits=amounts.pod_limits(self.granted),
        )
        if not self._shares_network():
            result["ip"] = self.record.ip
            result["gateway"] = self._with.network.gateway
        elif self._with.host_sandbox:
            result["network"] = self._with.host_sandbox
        sysctls = {entry["name"]: entry["value"] for entry in part(spec, "securityContext").get("sysctls") or ()}
        if sysctls:
            result["sysctls"] = sysctls
        return result

    async def _refresh_volumes(self) -> None:
        try:
            await self._volumes.set_up(self._context(), self._with.clock.host())
        except SetupError as error:
            self._tell("Warning", "FailedMount", str(error))

    # Starting

    def _apply_waiting(self, plan: Plan) -> None:
        for name, waiting in plan.waiting.items():
            slot = self.slots[name]
            if slot.waiting == waiting:
                continue
            slot.waiting = waiting
            self._tell_waiting(slot, waiting)

    def _tell_waiting(self, slot: Slot, waiting: Waiting) -> None:
        if waiting.reason == "CrashLoopBackOff":
            text = f"Back-off restarting failed container {slot.name} in pod {full_name(self.pod)}"
            self._tell("Warning", "BackOff", text, slot.name)
        else:
            image = (container_of(self.pod, slot.name) or {}).get("image", "")
            self._tell("Normal", "BackOff", f'Back-off pulling image "{image}"', slot.name)
            self._tell("Warning", "Failed", f"Error: {waiting.reason}", slot.name)

    async def _start_all(self, names: list[str]) -> None:
        """One after the other, as the kubelet does: a failure of one does not keep the next."""
        for name in names:
            container = container_of(self.granted, name)
            if container is None or self._must_end():
                continue
            await self._start_one(container, self.slots[name])
            if self._publishes:
                self._publisher.request()

    async def _start_one(self, container: Object, slot: Slot) -> None:
        setting = Setting(
            self._context(), self.record.sandbox, self._volumes, self._save, self._run_of, self._note_start
        )
        try:
            await self._starter.start(container, slot, setting)
        except StartFailure as failure:
            slot.waiting = Waiting(failure.reason, failure.message)
            if failure.reason == "PostStartHookError":
                self._begin_kill(Kill(slot.name, "FailedPostStartHook"))
        await remove_old_runs(self._with, self.pod, slot)

    def _run_of(self, name: str) -> str | None:
        slot = self.slots.get(name)
        return slot.current.id if slot is not None and slot.current is not None and slot.running else None

    def _note_start(self, slot: Slot, state: ContainerState) -> None:
        run = slot.current
        if run is None or run.id != state["id"]:
            return
        run.started_at = self._with.clock.of_host(state["started_at"])
        self._save()
        if not run.ended:
            self._begin_probes(slot, run)
        self.wake()

    # Resizing

    def _consider_resize(self) -> None:
        """Grants what the spec wants, or says why not."""
        wanted = resize.wanted(self.pod)
        if wanted == self.record.allocated:
            self._resize_pending = None
            return
        node = self._with.client.get("nodes", "", self._with.node_name) or {}
        pending = resize.verdict(self.pod, node, self._neighbourhood.neighbours(self.uid))
        if pending is not None:
            self._defer(pending)
            return
        self._resize_pending, self._resize_error, self._retry_resize_at = None, "", 0.0
        self.record.allocated = wanted
        self._resizing = True
        self._save()
        self._tell("Normal", "ResizeStarted", resize.summary("Pod resize started", self.pod))

    def _defer(self, pending: Waiting) -> None:
        if pending != self._resize_pending:
            self._resize_pending = pending
            text = resize.summary(f"Pod resize {pending.reason}", self.pod, pending.message)
            self._tell("Warning", f"Resize{pending.reason}", text)

    async def _resize(self) -> None:
        """Puts the granted resources into force; what fails is tried again."""
        pod = self.granted
        try:
            await self._apply_limits(pod)
        except SandboxError as error:
            self._retry_resize_at = self._with.now() + RESIZE_RETRY
            if self._resize_error != str(error):
                self._resize_error = str(error)
                self._tell("Warning", "ResizeError", resize.summary("Pod resize error", pod, str(error)))
            return
        self._resize_error = ""

    def _note_resized(self) -> None:
        pod = self.granted
        if self._resizing and not any(self._has_other(container) for container, _ in containers_of(pod)):
            self._resizing = False
            self._tell("Normal", "ResizeCompleted", resize.summary("Pod resize completed", pod))

    def _has_other(self, container: Object) -> bool:
        """Whether a container runs, or will run again, and has not got what it was granted."""
        run = self.slots[container["name"]].current
        if run is None or run.resources in (None, part(container, "resources")):
            return False
        return not run.ended or lifecycle.may_restart(container, self.pod, run.exit_code or 0)

    async def _apply_limits(self, pod: Object) -> None:
        """The pod's group is never narrower than its containers' groups."""
        sandbox, limits = self._with.sandbox, amounts.pod_limits(pod)
        await sandbox.update(self.record.sandbox, resize.between(self._pod_limits, limits))
        for container, _ in containers_of(pod):
            slot = self.slots[container["name"]]
            if slot.current and resize.unfinished(slot, container) and not resize.needs_restart(slot, container):
                await sandbox.update(self.record.sandbox, amounts.container_limits(container), slot.current.id)
                slot.current.resources = part(container, "resources")
                self._save()
        await sandbox.update(self.record.sandbox, limits)
        self._pod_limits = limits

    # Storage

    async def check_storage(self) -> None:
        """Evicts the pod when it has written more than it may."""
        if not self.sandbox_ready or self._must_end() or not storage.is_limited(self.pod):
            return
        message = await asyncio.to_thread(storage.excess, self.pod, self._places())
        if message is not None and not self._must_end():
            self.record.failure = ("Evicted", message)
            self._tell("Warning", "Evicted", message)
            self.wake()

    def _places(self) -> storage.Places:
        volumes = {v["name"]: self._volumes.path_of(v["name"]) for v in storage.on_disk(self.pod)}
        base = self._with.pod_directory(self.uid) / "containers"
        logs_base = self._with.log_directory(self.pod)
        return storage.Places(
            {name: path for name, path in volumes.items() if path is not None},
            {name: (base / name, logs_base / name) for name in self.slots},
        )

    # Ends

    def _note_end(self, slot: Slot, run: Instance, state: ContainerState) -> None:
        container = container_of(self.pod, slot.name) or {}
        run.started_at = run.started_at or self._moment(state, "started_at", run.created_at)
        run.exit_code = state.get("exit_code", 255)
        run.signal = state.get("signal", 0)
        run.finished_at = self._moment(state, "finished_at", self._with.now())
        run.reason = "OOMKilled" if state.get("oom_killed") else run.reason
        run.message = self._termination_message(container, slot, run)
        slot.readiness = slot.liveness = slot.startup = None
        prober = self._probers.pop(slot.name, None)
        if prober is not None:
            prober.stop()
        self.end_event(run).set()
        self._save()

    def _moment(self, state: ContainerState, field: Literal["started_at", "finished_at"], otherwise: float) -> float:
        """The zygote knows the machine's time only."""
        moment = state.get(field)
        return self._with.clock.of_host(moment) if moment else otherwise

    def _termination_message(self, container: Object, slot: Slot, run: Instance) -> str:
        file = run_directory(self._with, self.pod, slot.name, run) / "termination-log"
        message = _read_beginning(file)
        if message or run.exit_code == 0 or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return message
        return logs.last_output(self.log_path(slot.name, run.attempt), FALLBACK_LINES, FALLBACK_BYTES)

    def log_path(self, name: str, attempt: int) -> Path:
        return self._with.log_directory(self.pod) / name / f"{attempt}.log"

    def end_event(self, run: Instance) -> asyncio.Event:
        """Set when this run has ended."""
        event = self._ends.setdefault(run.id, asyncio.Event())
        if run.ended:
            event.set()
        return event

    # Probes

    def _begin_probes(self, slot: Slot, run: Instance) -> None:
        container = container_of(self.pod, slot.name)
        if container is None or slot.role in (Role.INIT, Role.EPHEMERAL):
            return

        async def check(probe: Object) -> Outcome:
            return await self._check(probe, container, run)

        prober = Prober(
            container,
            check,
            report=lambda kind, healthy: self._probed(slot, run, kind, healthy),
            tell=lambda note: self._tell_probe(slot, note),
            age=max(0.0, self._with.now() - run.started_at) / self._with.clock.pace,
            started=slot.startup is True,
            ready=slot.readiness is True,
        )
        self._probers[slot.name] = prober
        prober.start()

    def _probed(self, slot: Slot, run: Instance, kind: Kind, healthy: bool) -> None:
        if slot.current is run and getattr(slot, kind) is not healthy:
            setattr(slot, kind, healthy)
            self.wake()

    def _tell_probe(self, slot: Slot, note: Note) -> None:
        self._tell("Warning", note.reason, note.message, slot.name)

    async def _check(self, probe: Object, container: Object, run: Instance) -> Outcome:
        timeout = float(probe.get("timeoutSeconds", 1))
        kind = handler_of(probe)
        action = part(probe, kind)
        if kind == "exec":
            return await check_exec(self._with.sandbox, run, action.get("command") or [], timeout)
        if kind == "httpGet":
            target = http_target(action, container, self.record.ip)
            return _no_port(action) if target is None else await check_http(target, timeout, AGENT)
        if kind == "tcpSocket":
            place = tcp_target(action, container, self.record.ip)
            return _no_port(action) if place is None else await check_tcp(*place, timeout)
        if kind == "grpc":
            return await check_grpc(self.record.ip, action["port"], action.get("service") or "", timeout, AGENT)
        return Outcome(Verdict.UNKNOWN, f"missing probe handler for {full_name(self.pod)}:{container['name']}")

    # Traffic

    async def _withdraw(self) -> None:
        """Out of every service, until it is ready again."""
        if self.record.ip and not self._shares_network() and not self._withdrawn:
            self._withdrawn = True
            await self._with.network.withdraw(self.record.ip)

    async def _readmit(self) -> None:
        if self._withdrawn and self._serves():
            self._withdrawn = False
            await self._with.network.admit(self.record.ip)

    def _serves(self) -> bool:
        return not any(slot.stopping for slot in self.slots.values()) and all(
            is_ready(container, self.slots[container["name"]])
            for container, role in containers_of(self.pod)
            if role in (Role.MAIN, Role.SIDECAR)
        )

    async def _drain(self) -> None:
        """Returns when no new connection reaches the pod and those that waited have been accepted."""
        await self._withdraw()
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + DRAIN_PATIENCE, DRAIN_FIRST_LOOK
        while not self._shares_network() and loop.time() < until:
            if not await self._with.sandbox.listen_queue(self.record.sandbox):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, DRAIN_LAST_LOOK)

    # Stopping

    def _begin_kill(self, kill: Kill) -> None:
        slot = self.slots[kill.name]
        if slot.stopping or self._terminating:
            return
        slot.stopping = True
        self._tell("Normal", "Killing", kill.message, kill.name)
        self._once(f"stop {kill.name}", lambda: self._stop(slot, Deadline(self._grace(kill))))

    def _grace(self, kill: Kill | None = None) -> float:
        """Seconds; a probe may have its own, a delete overrules all."""
        if self._gone:
            return 0.0
        wanted = meta.metadata(self.pod).get("deletionGracePeriodSeconds")
        if wanted is None and kill is not None and kill.reason:
            container = container_of(self.pod, kill.name) or {}
            probe = "livenessProbe" if kill.reason == "LivenessProbe" else "startupProbe"
            wanted = part(container, probe).get("terminationGracePeriodSeconds")
        if wanted is None:
            wanted = meta.spec(self.pod).get("terminationGracePeriodSeconds", 30)
        if self.record.failure is not None and self.record.failure[0] == "Evicted":
            wanted = min(wanted, EVICTION_GRACE)
        return min(float(wanted), self._left_of_deletion())

    def _left_of_deletion(self) -> float:
        """Of a grace period that an earlier daemon began."""
        until = meta.metadata(self.pod).get("deletionTimestamp")
        if until is None or not self._adopted:
            return float("inf")
        return max(0.0, meta.parse_time(until).timestamp() - self._with.now()) / self._with.clock.pace

    async def _stop(
        self, slot: Slot, deadline: Deadline, turn: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        run, container = slot.current, container_of(self.pod, slot.name)
        if run is None or run.ended or container is None:
            return
        ended = self.end_event(run)
        prober = self._probers.get(slot.name)
        if prober is not None:
            prober.stop("liveness", "startup")
        await stop_container(
            container,
            run,
            ended,
            deadline,
            self._with.sandbox,
            ip=self.record.ip,
            turn=turn or _at_once,
            drain=self._drain if slot.role in (Role.MAIN, Role.SIDECAR) else _at_once,
            hook_failed=lambda: self._tell("Warning", "FailedPreStopHook", "PreStopHook failed", slot.name),
        )
        if not run.ended:
            slot.forget()

    async def _end(self) -> None:
        """Everything stops: containers, sandbox, volumes; what remains is the record and the logs."""
        await self._cancel("set up", "start", "restart all")
        self._deadline = Deadline(self._grace())
        await self._stop_containers(self._deadline)
        await self._remove_sandbox()
        self.record.ended = True
        self._neighbourhood.room_made()
        self._save()
        if self._publishes:
            self._publisher.request()
        await self._volumes.tear_down()
        directory = self._with.pod_directory(self.uid) / "containers"
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _stop_containers(self, deadline: Deadline) -> None:
        """Main containers at once, then sidecars, the last one first."""
        running = [slot for slot in self.slots.values() if slot.current is not None and not slot.current.ended]
        for slot in running:
            if not slot.stopping:
                self._tell("Normal", "Killing", f"Stopping container {slot.name}", slot.name)
            slot.stopping = True
        await asyncio.gather(*(self._stop_in_turn(slot, deadline, running) for slot in running))

    async def _stop_in_turn(self, slot: Slot, deadline: Deadline, running: list[Slot]) -> None:
        """A container that is being stopped already only gets its end sooner."""
        if slot.current is not None and f"stop {slot.name}" in self._tasks:
            ended = self.end_event(slot.current)
            if not await deadline.wait(ended, least=MINIMUM_GRACE):
                await kill_container(slot.current, ended, self._with.sandbox)
            return
        await self._stop(slot, deadline, self._turn_of(slot, running))

    async def _restart_all(self, cause: str) -> None:
        """Every container begins anew, init containers first, because one of them ended so (KEP-5532)."""
        await self._cancel("start")
        for slot in self.slots.values():
            if slot.running and slot.role is not Role.EPHEMERAL:
                self._begin_kill(Kill(slot.name, f"Container {cause} triggered a restart of all containers"))
        stops = [task for name, task in self._tasks.items() if name.startswith("stop ")]
        await asyncio.gather(*stops, return_exceptions=True)
        for slot in self.slots.values():
            if slot.role is not Role.EPHEMERAL:
                slot.stale = slot.current is not None
                slot.restart_backoff = slot.restart_backoff if slot.name == cause else backoff.NONE
        self._save()

    def _turn_of(self, slot: Slot, running: list[Slot]) -> Callable[[], Coroutine[Any, Any, None]]:
        if slot.role is not Role.SIDECAR:
            return _at_once
        order = [container["name"] for container, role in containers_of(self.pod) if role is Role.SIDECAR]
        later = set(order[order.index(slot.name) + 1 :])
        before = [other.current for other in running if other.role is Role.MAIN or other.name in later]

        async def wait() -> None:
            for run in before:
                if run is not None:
                    await self.end_event(run).wait()

        return wait

    async def _remove_sandbox(self) -> None:
        for prober in self._probers.values():
            prober.stop()
        self._probers.clear()
        if self.record.sandbox:
            if not self._shares_network():
                await self._withdraw()
                await self._with.network.detach(self.record.ip)
            await self._with.sandbox.remove_pod(self.record.sandbox)
            self.record.sandbox = ""
        if not self._shares_network():
            self._with.network.release(self.uid)
        self.sandbox_ready = False

    async def _delete_object(self) -> None:
        """The last act of a graceful deletion: with its final status written, the object goes."""
        if self._publishes:
            await self._publisher.flush()
        try:
            await self._with.client.delete(
                "pods", meta.namespace(self.pod), meta.name(self.pod), uid=self.uid, grace_seconds=0
            )
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise
        self._deletion_asked = True

    async def _clean_up(self) -> None:
        for directory in (self._with.pod_directory(self.uid), self._with.log_directory(self.pod)):
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    # Adoption

    def adopt(self, states: dict[str, ContainerState], sandbox_there: bool) -> None:
        """Takes over what an earlier daemon began: what runs goes on, what ended meanwhile is noted.

        `states` are the zygote's containers by id. Containers that it does not know died with an earlier zygote.
        """
        self._adopted = True
        self.sandbox_ready = sandbox_there and bool(self.record.sandbox) and not self.record.ended
        self._volumes_stale = True
        known = {status.get("containerID"): status for status in _old_statuses(self.pod)}
        for slot in self.slots.values():
            run = slot.current
            if run is not None and not run.ended:
                self._adopt_run(slot, run, states.get(run.id), known.get(container_id(run)) or {})
        if not self.sandbox_ready and not self.record.ended:
            self._lose_sandbox()
        self._save()

    def _adopt_run(self, slot: Slot, run: Instance, state: ContainerState | None, status: Object) -> None:
        if state is None and not run.started_at and self.sandbox_ready:
            slot.forget()
            return
        if state is None:
            run.reason = "Unknown"
            self._note_end(slot, run, ContainerState(id=run.id, pod="", pid=0, started_at=run.started_at))
        elif "exit_code" in state:
            self._note_end(slot, run, state)
        else:
            run.started_at = self._with.clock.of_host(state["started_at"])
            slot.startup = True if status.get("started") else None
            slot.readiness = True if status.get("ready") else None
            self._begin_probes(slot, run)

    def _lose_sandbox(self) -> None:
        """All starts anew in a new sandbox, init containers included; nobody waits in back-off for it."""
        self.record.sandbox = ""
        for slot in self.slots.values():
            slot.stale = slot.current is not None
            slot.restart_backoff = backoff.NONE

    # Tasks and timers

    def _once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begins a piece of work unless it is being done; the worker looks again when it ends."""
        if name not in self._tasks:
            self._spawn(name, work())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"{name} {self.uid}")
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._task_done(name, done))

    def _task_done(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if not task.cancelled() and task.exception() is not None:
            log.error("pod %s/%s: %s", meta.namespace(self.pod), meta.name(self.pod), name, exc_info=task.exception())
            self._wake_in(FAULT_PAUSE)
            return
        self.wake()

    async def _cancel(self, *names: str) -> None:
        tasks = [self._tasks[name] for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop_all_tasks(self) -> None:
        self._publisher.stop()
        for task in list(self._tasks.values()):
            task.cancel()
        for prober in self._probers.values():
            prober.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, moments: list[float | None]) -> None:
        """Wakes at the nearest moment (Unix seconds of the cluster)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        nearest = min((moment for moment in moments if moment is not None), default=None)
        if nearest is not None:
            self._wake_in(max(0.0, nearest - self._with.now()) / self._with.clock.pace + 0.001)

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)

    def _tell(self, type: str, reason: str, message: str, container: str = "") -> None:
        path = field_path(self.pod, container) if container else ""
        self._with.recorder(self.pod, type, reason, message, field_path=path)


def host_ports(pod: Object, host_ip: str) -> Iterator[tuple[str, int, int]]:
    """Protocol, port of the node, and the port of the pod that it leads to. Those of 127.0.0.1 lead from nowhere."""
    for container, role in containers_of(pod):
        for port in container.get("ports") or () if role in (Role.MAIN, Role.SIDECAR) else ():
            if port.get("hostPort") and port.get("hostIP") in (None, "", "0.0.0.0", host_ip):
                yield port.get("protocol", "TCP"), port["hostPort"], port["containerPort"]


def uid_of(sandbox: str) -> Uid:
    """The pod of a sandbox, by the sandbox's id."""
    return Uid(sandbox.rpartition(".")[0])


def _unmounted(volume: str) -> str:
    lists = f"unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[]"
    return f"Unable to attach or mount volumes: {lists}: context deadline exceeded"


async def _at_once() -> None:
    return None


def _no_port(action: Object) -> Outcome:
    return Outcome(Verdict.UNKNOWN, f'port "{action["port"]}" not found')


def _matters(before: Object, after: Object) -> bool:
    """Whether a change of the object is more than the node's own status."""
    if before.get("spec") != after.get("spec"):
        return True
    names = ("labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
    old, new = meta.metadata(before), meta.metadata(after)
    return any(old.get(name) != new.get(name) for name in names) or _gates(before) != _gates(after)


def _gates(pod: Object) -> list[Object | None]:
    return [meta.condition(pod, gate["conditionType"]) for gate in meta.spec(pod).get("readinessGates") or ()]


def _volume_references(volume: Object) -> set[tuple[str, str]]:
    if is_payload(volume):
        return set(references(volume))
    claim = part(volume, "persistentVolumeClaim").get("claimName")
    return {("persistentvolumeclaims", claim)} if claim else set()


def _environment_references(container: Object) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
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


def _old_statuses(pod: Object) -> list[Object]:
    status = meta.status(pod)
    return [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]


def _read_beginning(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MESSAGE_LIMIT).decode(errors="replace")
    except OSError:
        return ""

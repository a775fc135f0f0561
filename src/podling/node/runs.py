"""The runs of a pod's containers: what follows from their beginning and their end, and their probes between the two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from podling.api import meta
from podling.node import logs
from podling.node.checks import Outcome, Verdict, check_http, check_tcp, handler_of, http_target, tcp_target
from podling.node.execution import check_exec
from podling.node.grpc_health import check_grpc
from podling.node.local_pod import LocalPod
from podling.node.probes import Kind, Prober
from podling.node.starter import TERMINATION_LOG
from podling.node.state import Instance, Role, Slot, container_of, full_name, part
from podling.node.status import container_id
from podling.node.surroundings import AGENT, Surroundings
from podling.sandbox.spec import ContainerState
from podling.store.types import Object

MESSAGE_LIMIT = 4096
FALLBACK_LINES = 80
FALLBACK_BYTES = 2048
"""Of termination messages, as the kubelet takes them from the file and from the log."""


class Runs:
    """`wake` is called when what a probe says of a container has changed."""

    def __init__(self, local: LocalPod, surroundings: Surroundings, wake: Callable[[], None]) -> None:
        self._local = local
        self._with = surroundings
        self._wake = wake
        self._probers: dict[str, Prober] = {}
        self._ends: dict[str, asyncio.Event] = {}

    def of(self, state: ContainerState) -> Slot | None:
        """The slot whose present run this is, unless it has ended."""
        slots = self._local.slots.values()
        slot = next((slot for slot in slots if slot.current and slot.current.id == state["id"]), None)
        return None if slot is None or slot.current is None or slot.current.ended else slot

    def id_of(self, name: str) -> str | None:
        """Id of a container's present run while it runs."""
        slot = self._local.slots.get(name)
        return slot.current.id if slot is not None and slot.current is not None and slot.running else None

    # Beginning and end

    def note_start(self, slot: Slot, state: ContainerState) -> None:
        run = slot.current
        if run is None or run.id != state["id"]:
            return
        run.started_at = self._with.clock.of_host(state["started_at"])
        self._local.save()
        if not run.ended:
            self._begin_probes(slot, run)
        self._wake()

    def note_end(self, slot: Slot, run: Instance, state: ContainerState) -> None:
        run.started_at = run.started_at or self._moment(state, "started_at", run.created_at)
        run.exit_code = state.get("exit_code", 255)
        run.signal = state.get("signal", 0)
        run.finished_at = self._moment(state, "finished_at", self._with.now())
        run.reason = "OOMKilled" if state.get("oom_killed") else run.reason
        run.message = self._termination_message(slot, run)
        slot.readiness = slot.liveness = slot.startup = None
        prober = self._probers.pop(slot.name, None)
        if prober is not None:
            prober.stop()
        self.end_event(run).set()
        self._local.save()

    def end_event(self, run: Instance) -> asyncio.Event:
        """Set when this run has ended."""
        event = self._ends.setdefault(run.id, asyncio.Event())
        if run.ended:
            event.set()
        return event

    def _moment(self, state: ContainerState, field: Literal["started_at", "finished_at"], otherwise: float) -> float:
        """The zygote knows the machine's time only."""
        moment = state.get(field)
        return self._with.clock.of_host(moment) if moment else otherwise

    def _termination_message(self, slot: Slot, run: Instance) -> str:
        pod = self._local.pod
        message = _read_beginning(self._with.run_directory(pod, slot.name, run.attempt) / TERMINATION_LOG)
        policy = (container_of(pod, slot.name) or {}).get("terminationMessagePolicy")
        if message or run.exit_code == 0 or policy != "FallbackToLogsOnError":
            return message
        return logs.last_output(self._with.log_path(pod, slot.name, run.attempt), FALLBACK_LINES, FALLBACK_BYTES)

    # Adoption

    def adopt(self, states: dict[str, ContainerState], sandbox_ready: bool) -> None:
        """What runs goes on, what ended meanwhile is noted. `states` are the zygote's containers by id."""
        known = {status.get("containerID"): status for status in _old_statuses(self._local.pod)}
        for slot in self._local.slots.values():
            run = slot.current
            if run is None or run.ended:
                continue
            state = states.get(run.id)
            if state is not None and "exit_code" not in state:
                self._adopt_running(slot, run, state, known.get(container_id(run)) or {})
            elif state is not None:
                self.note_end(slot, run, state)
            elif not run.started_at and sandbox_ready:
                slot.forget()
            else:  # it died with an earlier zygote
                run.reason = "Unknown"
                self.note_end(slot, run, ContainerState(id=run.id, pod="", pid=0, started_at=run.started_at))

    def _adopt_running(self, slot: Slot, run: Instance, state: ContainerState, status: Object) -> None:
        run.started_at = self._with.clock.of_host(state["started_at"])
        slot.startup = True if status.get("started") else None
        slot.readiness = True if status.get("ready") else None
        self._begin_probes(slot, run)

    # Probes

    def _begin_probes(self, slot: Slot, run: Instance) -> None:
        container = container_of(self._local.pod, slot.name)
        if container is None or slot.role in (Role.INIT, Role.EPHEMERAL):
            return

        async def check(probe: Object) -> Outcome:
            return await self._check(probe, container, run)

        prober = Prober(
            container,
            check,
            report=lambda kind, healthy: self._probed(slot, run, kind, healthy),
            tell=lambda note: self._local.tell("Warning", note.reason, note.message, slot.name),
            age=max(0.0, self._with.now() - run.started_at) / self._with.clock.pace,
            started=slot.startup is True,
            ready=slot.readiness is True,
        )
        self._probers[slot.name] = prober
        prober.start()

    def _probed(self, slot: Slot, run: Instance, kind: Kind, healthy: bool) -> None:
        if slot.current is run and getattr(slot, kind) is not healthy:
            setattr(slot, kind, healthy)
            self._wake()

    async def _check(self, probe: Object, container: Object, run: Instance) -> Outcome:
        timeout = float(probe.get("timeoutSeconds", 1))
        kind = handler_of(probe)
        action, ip = part(probe, kind), self._local.record.ip
        if kind == "exec":
            return await check_exec(self._with.sandbox, run, action.get("command") or [], timeout)
        if kind == "httpGet":
            target = http_target(action, container, ip)
            return _no_port(action) if target is None else await check_http(target, timeout, AGENT)
        if kind == "tcpSocket":
            place = tcp_target(action, container, ip)
            return _no_port(action) if place is None else await check_tcp(*place, timeout)
        if kind == "grpc":
            return await check_grpc(ip, action["port"], action.get("service") or "", timeout, AGENT)
        text = f"missing probe handler for {full_name(self._local.pod)}:{container['name']}"
        return Outcome(Verdict.UNKNOWN, text)

    def stop_killing(self, slot: Slot) -> None:
        """Ends the probes that would have a container stopped which is being stopped; its readiness still counts."""
        prober = self._probers.get(slot.name)
        if prober is not None:
            prober.stop("liveness", "startup")

    def stop_probes(self) -> None:
        for prober in self._probers.values():
            prober.stop()
        self._probers.clear()


def _no_port(action: Object) -> Outcome:
    return Outcome(Verdict.UNKNOWN, f'port "{action["port"]}" not found')


def _old_statuses(pod: Object) -> list[Object]:
    status = meta.status(pod)
    return [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]


def _read_beginning(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MESSAGE_LIMIT).decode(errors="replace")
    except OSError:
        return ""

"""How the containers of a pod are stopped: one of them while the pod goes on, or all of them, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from podling.api import meta
from podling.node import backoff
from podling.node.chores import Chores
from podling.node.lifecycle import Kill
from podling.node.local_pod import LocalPod
from podling.node.runs import Runs
from podling.node.state import Role, Slot, container_of, containers_of, part
from podling.node.stopper import MINIMUM_GRACE, Deadline, kill_container, stop_container
from podling.node.surroundings import Surroundings
from podling.node.traffic import Traffic

EVICTION_GRACE = 1.0
"""Seconds that a pod gets which writes more than it may."""

Turn = Callable[[], Coroutine[Any, Any, None]]
"""Returns when a container may be told to stop."""


class Ending:
    def __init__(
        self, local: LocalPod, runs: Runs, traffic: Traffic, chores: Chores, surroundings: Surroundings
    ) -> None:
        self._local = local
        self._runs = runs
        self._traffic = traffic
        self._chores = chores
        self._with = surroundings
        self._deadline: Deadline | None = None
        """Of the whole pod."""

    # One container

    def kill(self, kill: Kill) -> None:
        """Begins to stop a container that runs, unless that has begun."""
        slot = self._local.slots[kill.name]
        if slot.stopping or self._deadline is not None:
            return
        slot.stopping = True
        self._local.tell("Normal", "Killing", kill.message, kill.name)
        self._chores.once(_stop_of(slot), lambda: self._stop(slot, Deadline(self._grace(kill)), _at_once))

    async def restart_all(self, cause: str) -> None:
        """Every container begins anew, init containers first, because one of them ended so (KEP-5532)."""
        slots = [slot for slot in self._local.slots.values() if slot.role is not Role.EPHEMERAL]
        for slot in slots:
            if slot.running:
                self.kill(Kill(slot.name, f"Container {cause} triggered a restart of all containers"))
        await self._chores.wait_for(*map(_stop_of, slots))
        for slot in slots:
            slot.stale = slot.current is not None
            slot.restart_backoff = slot.restart_backoff if slot.name == cause else backoff.NONE
        self._local.save()

    async def _stop(self, slot: Slot, deadline: Deadline, turn: Turn) -> None:
        run, container = slot.current, container_of(self._local.pod, slot.name)
        if run is None or run.ended or container is None:
            return
        self._runs.stop_killing(slot)
        await stop_container(
            container,
            run,
            self._runs.end_event(run),
            deadline,
            self._with.sandbox,
            ip=self._local.record.ip,
            turn=turn,
            drain=self._traffic.drain if slot.role in (Role.MAIN, Role.SIDECAR) else _at_once,
            hook_failed=lambda: self._local.tell("Warning", "FailedPreStopHook", "PreStopHook failed", slot.name),
        )
        if not run.ended:
            slot.forget()

    # All of them

    async def stop_all(self) -> None:
        """Main containers at once, then sidecars, the last one first. Returns when all have ended."""
        self._deadline = deadline = Deadline(self._grace())
        running = [slot for slot in self._local.slots.values() if slot.current is not None and not slot.current.ended]
        for slot in running:
            if not slot.stopping:
                self._local.tell("Normal", "Killing", f"Stopping container {slot.name}", slot.name)
            slot.stopping = True
        await asyncio.gather(*(self._stop_in_turn(slot, deadline, running) for slot in running))

    async def _stop_in_turn(self, slot: Slot, deadline: Deadline, running: list[Slot]) -> None:
        """A container that is being stopped already only gets its end sooner."""
        if slot.current is not None and _stop_of(slot) in self._chores:
            ended = self._runs.end_event(slot.current)
            if not await deadline.wait(ended, least=MINIMUM_GRACE):
                await kill_container(slot.current, ended, self._with.sandbox)
            return
        await self._stop(slot, deadline, self._turn_of(slot, running))

    def _turn_of(self, slot: Slot, running: list[Slot]) -> Turn:
        if slot.role is not Role.SIDECAR:
            return _at_once
        order = [container["name"] for container, role in containers_of(self._local.pod) if role is Role.SIDECAR]
        later = set(order[order.index(slot.name) + 1 :])
        before = [other.current for other in running if other.role is Role.MAIN or other.name in later]

        async def wait() -> None:
            for run in before:
                if run is not None:
                    await self._runs.end_event(run).wait()

        return wait

    # Time

    def hasten(self) -> None:
        """The pod has changed or is gone: what is being stopped may have less time left."""
        if self._deadline is not None:
            self._deadline.shorten(self._grace())

    def _grace(self, kill: Kill | None = None) -> float:
        """Seconds; a probe may have its own, a delete overrules all."""
        pod = self._local.pod
        if self._local.gone:
            return 0.0
        wanted = meta.metadata(pod).get("deletionGracePeriodSeconds")
        if wanted is None and kill is not None and kill.reason:
            container = container_of(pod, kill.name) or {}
            probe = "livenessProbe" if kill.reason == "LivenessProbe" else "startupProbe"
            wanted = part(container, probe).get("terminationGracePeriodSeconds")
        if wanted is None:
            wanted = meta.spec(pod).get("terminationGracePeriodSeconds", 30)
        failure = self._local.record.failure
        if failure is not None and failure[0] == "Evicted":
            wanted = min(wanted, EVICTION_GRACE)
        return min(float(wanted), self._left_of_deletion())

    def _left_of_deletion(self) -> float:
        """Of a grace period that an earlier daemon began."""
        until = meta.metadata(self._local.pod).get("deletionTimestamp")
        if until is None or not self._local.adopted:
            return float("inf")
        return max(0.0, meta.parse_time(until).timestamp() - self._with.now()) / self._with.clock.pace


def _stop_of(slot: Slot) -> str:
    return f"stop {slot.name}"


async def _at_once() -> None:
    return None

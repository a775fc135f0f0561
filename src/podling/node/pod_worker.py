"""One pod on this node: observe, decide, act, by one task that sleeps until something happens.

What can happen: the Pod object changes or goes, an object that it refers to changes, a container ends, a probe is
decided, a moment comes. Each only wakes the worker (`wake`), which then looks at everything and asks `lifecycle.decide`
what to do. What takes long (pulling, starting, stopping) runs as chores that wake the worker when done.

Each part of the work has its class: `PodSandbox` sets the pod up, `Starter` starts a container, `Runs` looks after what
runs, `Resizing` gives it other resources, `Ending` stops it, `Traffic` keeps requests away from what does not serve,
`Publisher` writes the status. They share the `LocalPod`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from podling.api import meta
from podling.api.errors import ApiError
from podling.node import lifecycle, storage
from podling.node.admission import Holding, Refusal
from podling.node.chores import FAULT_PAUSE, Chores
from podling.node.ending import Ending
from podling.node.lifecycle import Kill
from podling.node.local_pod import LocalPod
from podling.node.pod_sandbox import PodSandbox
from podling.node.publisher import Publisher
from podling.node.records import Record
from podling.node.resizing import Resizing
from podling.node.runs import Runs
from podling.node.starter import Setting, Starter, StartFailure, remove_old_runs
from podling.node.state import Role, Slot, Waiting, container_of, containers_of, full_name
from podling.node.status import Facts
from podling.node.surroundings import Surroundings
from podling.node.traffic import Traffic
from podling.sandbox.spec import ContainerState
from podling.store.types import Object, Uid

log = logging.getLogger(__name__)


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
        self.local = local = LocalPod(pod, surroundings, record, slots)
        self._with = surroundings
        self._neighbourhood = neighbourhood
        self._chores = Chores(f"pod {meta.namespace(pod)}/{meta.name(pod)}")
        self._sandbox = PodSandbox(local, surroundings)
        self._traffic = Traffic(local, surroundings)
        self._starter = Starter(surroundings)
        self.runs = Runs(local, surroundings, self.wake)
        self._ending = Ending(local, self.runs, self._traffic, self._chores, surroundings)
        self._resizing = Resizing(local, self._sandbox, surroundings, partial(neighbourhood.neighbours, local.uid))
        self._publisher = Publisher(
            surroundings.client, meta.namespace(pod), meta.name(pod), local.uid, self.facts, surroundings.now
        )
        self._deletion_asked = False
        self._publishes = record is not None or meta.status(pod).get("phase") not in ("Succeeded", "Failed")
        if not self._publishes:
            local.record.ended = True

    # What the node asks

    @property
    def sandbox_ready(self) -> bool:
        return self._sandbox.ready

    @property
    def waits_for_room(self) -> bool:
        """Whether a resize is deferred until other pods leave."""
        return self._resizing.deferred

    @property
    def holds_room(self) -> bool:
        """Whether it counts for what other pods can get of the node: not once it has left the store, as the scheduler
        counts, though it may still be ending."""
        return not (self.local.gone or self.local.record.ended or self.local.record.rejected)

    def facts(self) -> Facts:
        """What the status is made of."""
        record = self.local.record
        return Facts(
            slots=self.local.slots,
            started_at=record.started_at,
            host_ip=self._with.host_ip,
            ip=record.ip,
            sandbox=self._sandbox.ready,
            ended=record.ended,
            failure=Waiting(*record.failure) if record.failure else None,
            rejected=record.rejected,
            allocated=record.allocated,
            resize_pending=self._resizing.pending,
            resize_error=self._resizing.error,
        )

    # What the node tells

    def wake(self) -> None:
        self._chores.wake()

    def adopt(self, states: dict[str, ContainerState], sandbox_there: bool) -> None:
        """Takes over what an earlier daemon began: what runs goes on, what ended meanwhile is noted.

        `states` are the zygote's containers by id. Containers that it does not know died with an earlier zygote.
        """
        local, record = self.local, self.local.record
        local.adopted = True
        self._sandbox.ready = sandbox_there and bool(record.sandbox) and not record.ended
        self._sandbox.outdated()
        self.runs.adopt(states, self._sandbox.ready)
        if not self._sandbox.ready and not record.ended:
            local.lose_sandbox()
        local.save()

    def reject(self, refusal: Refusal) -> None:
        """The node does not take the pod; said before it runs."""
        self._fail(refusal.reason, refusal.message, "Warning")
        self.local.record.rejected = True

    def update(self, pod: Object) -> None:
        """The Pod object has changed."""
        before = self.local.pod
        self.local.replace(pod)
        if not _matters(before, pod):
            if self._publishes and meta.condition(before, "Ready") != meta.condition(pod, "Ready"):
                self._publisher.request()  # the node controller may have said that the pod is not ready: it is
            return
        self._sandbox.outdated()
        self._ending.hasten()
        self.wake()

    def gone(self) -> None:
        """The Pod object has left the store."""
        self.local.gone = True
        self._ending.hasten()
        self.wake()

    def references_changed(self) -> None:
        """A ConfigMap, Secret or claim that the pod names has changed or appeared."""
        self._sandbox.outdated()
        for slot in self.local.slots.values():
            if slot.waiting is not None and slot.waiting.reason == "CreateContainerConfigError":
                slot.retry_at = 0.0
        self.wake()

    def ended(self, state: ContainerState) -> None:
        """A container has ended (the zygote says so)."""
        slot = self.runs.of(state)
        if slot is None or slot.current is None:
            return
        self.runs.note_end(slot, slot.current, state)
        if slot.role in (Role.MAIN, Role.SIDECAR) and "end" not in self._chores and self._sandbox.ready:
            self._chores.once(f"withdraw {state['id']}", self._traffic.withdraw)
        self.wake()

    async def check_storage(self) -> None:
        """Evicts the pod when it has written more than it may."""
        local = self.local
        if not self._sandbox.ready or local.must_end or not storage.is_limited(local.pod):
            return
        places = storage.places(local.pod, self._sandbox.volumes, local.directory, local.log_directory)
        message = await asyncio.to_thread(storage.excess, local.pod, places)
        if message is not None and not local.must_end:
            self._fail("Evicted", message, "Warning")
            self.wake()

    # The task

    async def run(self) -> None:
        """Until the pod is gone from the store and from the machine."""
        self.wake()
        try:
            while not (self.local.gone and self.local.record.ended and self._chores.idle):
                await self._chores.woken()
                await self._guarded_step()
            for directory in (self.local.directory, self.local.log_directory):
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        finally:
            self._publisher.stop()
            self._chores.stop()
            self.runs.stop_probes()

    async def _guarded_step(self) -> None:
        try:
            await self._step()
        except Exception:  # one pod's fault must not end its supervision: said, then tried again
            log.exception("pod %s/%s", meta.namespace(self.local.pod), meta.name(self.local.pod))
            self._chores.wake_in(FAULT_PAUSE)

    async def _step(self) -> None:
        record = self.local.record
        if not record.ended:
            self._note_deadline()
        if self.local.must_end and not record.ended:
            self._chores.once("end", self._end)
        elif record.ended:
            if meta.deleting(self.local.pod) and not self.local.gone and not self._deletion_asked:
                self._chores.once("delete", self._delete_object)
        elif not self._sandbox.ready:
            self._chores.once("set up", self._set_up)
            self._wake_at(self._active_until())
        else:
            await self._follow_plan()
        if not self._publishes:
            return
        if "start" in self._chores or "end" in self._chores:
            self._publisher.request_soon()
        else:
            self._publisher.request()

    async def _follow_plan(self) -> None:
        await self._sandbox.refresh()
        now = self._with.now()
        self._resizing.consider()
        plan = lifecycle.decide(self.local.granted, self.local.slots, now)
        if plan.stop_pod:
            self._chores.once("end", self._end)
            return
        if plan.restart_all:
            self._chores.once("restart all", partial(self._restart_all, plan.restart_all))
            return
        for name, waiting in plan.waiting.items():
            self._wait(self.local.slots[name], waiting)
        for kill in plan.kill:
            self._ending.kill(kill)
        if plan.start:
            self._chores.once("start", partial(self._start_all, plan.start))
        retry_resize = self._resizing.retry_at if plan.resize else None
        if retry_resize is not None and now >= retry_resize:
            retry_resize = None
            self._chores.once("resize", self._resizing.apply)
        await self._traffic.readmit()
        self._wake_at(plan.wake_at, self._active_until(), self._sandbox.next_renewal(), retry_resize)

    def _wake_at(self, *moments: float | None) -> None:
        """At the nearest of them (Unix seconds of the cluster)."""
        nearest = min((moment for moment in moments if moment is not None), default=None)
        pace, now = self._with.clock.pace, self._with.now()
        self._chores.wake_in(None if nearest is None else max(0.0, nearest - now) / pace + 0.001)

    def _active_until(self) -> float | None:
        seconds = meta.spec(self.local.pod).get("activeDeadlineSeconds")
        return None if seconds is None else self.local.record.started_at + seconds

    def _note_deadline(self) -> None:
        until = self._active_until()
        if until is not None and self._with.now() >= until and self.local.record.failure is None:
            self._fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", "Normal")

    def _fail(self, reason: str, message: str, event_type: str) -> None:
        """The node itself ends the pod."""
        self.local.record.failure = (reason, message)
        self.local.tell(event_type, reason, message)

    # Beginning

    async def _set_up(self) -> None:
        """A pod whose work is done gets no new sandbox."""
        slots = self.local.slots
        mains = [(c, slots[c["name"]].current) for c, role in containers_of(self.local.pod) if role is Role.MAIN]
        if any(
            run is None or not run.ended or lifecycle.may_restart(container, self.local.pod, run.exit_code or 0)
            for container, run in mains
        ):
            await self._sandbox.set_up(lambda: self.local.must_end)
        else:
            self._chores.once("end", self._end)

    async def _start_all(self, names: Sequence[str]) -> None:
        """One after the other, as the kubelet does: a failure of one does not keep the next."""
        for name in names:
            container = container_of(self.local.granted, name)
            if container is None or self.local.must_end:
                continue
            await self._start_one(container, self.local.slots[name])
            if self._publishes:
                self._publisher.request()

    async def _start_one(self, container: Object, slot: Slot) -> None:
        local, runs = self.local, self.runs
        setting = Setting(
            local.context, local.record.sandbox, self._sandbox.volumes, local.save, runs.id_of, runs.note_start
        )
        try:
            await self._starter.start(container, slot, setting)
        except StartFailure as failure:
            slot.waiting = Waiting(failure.reason, failure.message)
            if failure.reason == "PostStartHookError":
                self._ending.kill(Kill(slot.name, "FailedPostStartHook"))
        await remove_old_runs(self._with, local.pod, slot)

    def _wait(self, slot: Slot, waiting: Waiting) -> None:
        """A container is not started now; told when the reason is another one than before."""
        if slot.waiting == waiting:
            return
        slot.waiting = waiting
        local = self.local
        if waiting.reason == "CrashLoopBackOff":
            text = f"Back-off restarting failed container {slot.name} in pod {full_name(local.pod)}"
            local.tell("Warning", "BackOff", text, slot.name)
        else:
            image = (container_of(local.pod, slot.name) or {}).get("image", "")
            local.tell("Normal", "BackOff", f'Back-off pulling image "{image}"', slot.name)
            local.tell("Warning", "Failed", f"Error: {waiting.reason}", slot.name)

    async def _restart_all(self, cause: str) -> None:
        await self._chores.cancel("start")
        await self._ending.restart_all(cause)

    # End

    async def _end(self) -> None:
        """Everything stops: containers, sandbox, volumes; what remains is the record and the logs."""
        local = self.local
        await self._chores.cancel("set up", "start", "restart all")
        await self._ending.stop_all()
        self.runs.stop_probes()
        await self._traffic.withdraw()
        await self._sandbox.remove()
        local.record.ended = True
        self._neighbourhood.room_made()
        local.save()
        if self._publishes:
            self._publisher.request()
        await self._sandbox.volumes.tear_down()
        await asyncio.to_thread(shutil.rmtree, local.directory / "containers", ignore_errors=True)

    async def _delete_object(self) -> None:
        """The last act of a graceful deletion: with its final status written, the object goes."""
        local = self.local
        if self._publishes:
            await self._publisher.flush()
        try:
            await self._with.client.delete(
                "pods", meta.namespace(local.pod), meta.name(local.pod), uid=local.uid, grace_seconds=0
            )
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise
        self._deletion_asked = True


def _matters(before: Object, after: Object) -> bool:
    """Whether a change of the object is more than the node's own status."""
    if before.get("spec") != after.get("spec"):
        return True
    names = ("labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
    old, new = meta.metadata(before), meta.metadata(after)
    return any(old.get(name) != new.get(name) for name in names) or _gates(before) != _gates(after)


def _gates(pod: Object) -> list[Object | None]:
    return [meta.condition(pod, gate["conditionType"]) for gate in meta.spec(pod).get("readinessGates") or ()]

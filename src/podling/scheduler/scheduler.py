"""The scheduler's loop: takes the next pod, decides, and carries the decision out (kube-scheduler).

Decisions are made one after the other on a snapshot in memory; bindings are sent without waiting for each other, so
that many share one commit. A decision that cannot be carried out puts the pod back into the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from podling.api import meta
from podling.api.client import Client, EventRecorder, Subscription
from podling.api.errors import ApiError
from podling.clock import Clock, Timer
from podling.controllers.pods import claims_of
from podling.controllers.runtime import Decision, Decisions, ObjectKey, key_of
from podling.scheduler.cache import CLAIMS, CLASSES, VOLUMES, Cache
from podling.scheduler.filters import is_bound
from podling.scheduler.framework import Bind, Preempt, Wait, priority
from podling.scheduler.queue import Happening, SchedulingQueue
from podling.scheduler.selection import decide
from podling.store.types import Change, Object

log = logging.getLogger(__name__)

NAME = "default-scheduler"
USER = "system:kube-scheduler"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
VOLUME_TIMEOUT = 600.0
"""Seconds that a pod waits for its volumes to be provisioned before it is tried anew."""


class Scheduler:
    """Runs from `start` to `stop`, on the event loop; idle, it costs nothing."""

    def __init__(self, client: Client, record: EventRecorder, clock: Clock, decisions: Decisions | None = None) -> None:
        self._client = client
        self._record = record
        self._clock = clock
        self._decisions = decisions or Decisions()
        self._cache = Cache(client)
        self._queue = SchedulingQueue()
        self._subscriptions: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._volumes_changed = asyncio.Event()
        self._stopped = False

    def start(self) -> None:
        handlers: list[tuple[str, Callable[[Change], None]]] = [
            ("namespaces", self._on_namespace),
            ("nodes", self._on_node),
            ("pods", self._on_pod),
            (CLAIMS, self._on_storage),
            (VOLUMES, self._on_storage),
            (CLASSES, self._on_storage),
        ]
        for resource, handler in handlers:
            self._subscriptions.append(self._client.subscribe(resource, handler))

    async def stop(self) -> None:
        self._stopped = True
        for subscription in self._subscriptions:
            subscription.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in [*self._tasks, *([self._loop] if self._loop else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def idle(self) -> bool:
        return not self._tasks and (self._loop is None or self._loop.done())

    # Changes

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _on_namespace(self, change: Change) -> None:
        name = change.entry.key.name
        if change.type == "DELETED":
            self._cache.namespaces.pop(name, None)
        else:
            self._cache.namespaces[name] = meta.labels(change.entry.object)
            self._happened(Happening.NAMESPACE)

    def _on_node(self, change: Change) -> None:
        node = change.entry.object
        if change.type == "DELETED":
            self._cache.remove_node(meta.name(node))
            return
        self._cache.put_node(node)
        old = change.previous.object if change.previous else None
        if old is None or _schedulable_parts(old) != _schedulable_parts(node):
            self._happened(Happening.NODE)

    def _on_storage(self, _change: Change) -> None:
        self._volumes_changed.set()
        self._happened(Happening.STORAGE)

    def _on_pod(self, change: Change) -> None:
        pod, key = change.entry.object, ObjectKey(change.entry.key.namespace, change.entry.key.name)
        ended = change.type == "DELETED" or meta.status(pod).get("phase") in ("Succeeded", "Failed")
        node = meta.spec(pod).get("nodeName")
        if ended:
            self._queue.remove(key)
            if self._cache.remove_pod(key):
                self._happened(Happening.POD_GONE)
        elif node:
            self._queue.remove(key)
            known = self._cache.assigned(key)
            self._cache.put_pod(pod, node)
            if not known or _labels_changed(change):
                self._happened(Happening.POD_PLACED)
        elif _wants_node(pod):
            self._on_waiting_pod(change, pod, key)

    def _on_waiting_pod(self, change: Change, pod: Object, key: ObjectKey) -> None:
        if self._cache.assigned(key):
            return  # its binding is on the way
        self._cache.nominate(pod)
        if change.previous is None or key not in self._queue or _scheduling_changed(change):
            self._queue.add(key, priority(pod), self._now())
            self._wake()

    def _happened(self, happening: Happening) -> None:
        self._queue.happened(happening, self._now())
        self._wake()

    # The loop

    def _wake(self) -> None:
        if not self._stopped and (self._loop is None or self._loop.done()):
            self._loop = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while (key := self._queue.pop(self._now())) is not None:
            try:
                await self._try(key)
            except Exception:  # one bad pod must not end scheduling: it is logged and tried again
                log.exception("scheduling %s failed", key)
                self._queue.give_back(key, frozenset(), self._now())
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._queue.next_due()
        if due is not None and not self._stopped:
            self._timer = self._clock.call_later(max(0.0, due - self._now()) + 0.001, self._wake)

    async def _try(self, key: ObjectKey) -> None:
        pod = self._client.get("pods", key.namespace, key.name)
        if pod is None or meta.deleting(pod) or not _wants_node(pod):
            self._queue.remove(key)
            return
        match decide(pod, self._cache.snapshot()):
            case Bind(node=node, why=why):
                self._remember(key, f"goes to node {node}: {why}")
                self._cache.put_pod(pod, node)
                self._spawn(self._bind(pod, node))
            case Preempt() as preempt:
                await self._preempt(pod, preempt)
                self._queue.give_back(key, preempt.plugins, self._now())
            case Wait(message=message, plugins=plugins, clear_nomination=clear):
                self._remember(key, f"waits: {message}")
                await self._tell_unschedulable(pod, message, nominated=None if clear else _nominated(pod))
                self._queue.give_back(key, plugins, self._now())

    def _remember(self, key: ObjectKey, sentence: str) -> None:
        self._decisions.add("pods", key, Decision(self._clock.now(), NAME, sentence))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Binding

    async def _bind(self, pod: Object, node: str) -> None:
        key = key_of(pod)
        try:
            await self._prepare_volumes(pod, node)
            await self._client.create("pods", _binding(pod, node), subresource="binding")
        except ApiError as error:
            await self._binding_failed(key, pod, f'running Bind plugin "DefaultBinder": {error.message}')
        except TimeoutError:
            why = 'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded'
            await self._binding_failed(key, pod, why)
        else:
            message = f"Successfully assigned {key} to {node}"
            self._record(pod, "Normal", "Scheduled", message, action="Binding")

    async def _binding_failed(self, key: ObjectKey, pod: Object, message: str) -> None:
        current = self._client.get("pods", key.namespace, key.name)
        if current is not None and meta.spec(current).get("nodeName"):
            return  # somebody else was faster, and its change has told us
        self._cache.remove_pod(key)
        if current is None:
            self._queue.remove(key)
            return
        await self._tell_unschedulable(current, message, nominated=None, reason="SchedulerError")
        self._queue.give_back(key, frozenset(), self._now())
        self._wake()

    async def _prepare_volumes(self, pod: Object, node: str) -> None:
        """Tells unbound claims which node was chosen, and waits until they are bound; meanwhile the pod tells it, too
        (KEP-5278)."""
        namespace, pod_name = key_of(pod)
        unbound = self._unbound(pod)
        if unbound and _nominated(pod) != node:
            expected: Object = {"status": {"nominatedNodeName": node}}
            await self._client.patch("pods", namespace, pod_name, expected, subresource="status", strategic=True)
        for name in unbound:
            patch: Object = {"metadata": {"annotations": {SELECTED_NODE: node}}}
            await self._client.patch(CLAIMS, namespace, name, patch)
        async with asyncio.timeout(VOLUME_TIMEOUT):
            while self._unbound(pod):
                self._volumes_changed.clear()
                await self._volumes_changed.wait()

    def _unbound(self, pod: Object) -> list[str]:
        found = ((name, self._client.get(CLAIMS, meta.namespace(pod), name)) for name in claims_of(pod))
        return [name for name, claim in found if claim is not None and not _is_told_bound(claim)]

    # No node

    async def _preempt(self, pod: Object, preempt: Preempt) -> None:
        self._remember(key_of(pod), f"preempts {len(preempt.victims)} pods on node {preempt.node}")
        try:
            for victim in preempt.victims:
                await self._evict(pod, victim, preempt.node)
        except ApiError as error:
            log.info("preempting for %s: %s", key_of(pod), error.message)
        await self._tell_unschedulable(pod, preempt.message, nominated=preempt.node)

    async def _evict(self, pod: Object, victim: Object, node: str) -> None:
        namespace, name = key_of(victim)
        if not meta.deleting(victim):
            condition: Object = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{NAME}: preempting to accommodate a higher priority pod",
                "lastTransitionTime": meta.timestamp(self._clock.now()),
            }
            await self._client.patch(
                "pods", namespace, name, {"status": {"conditions": [condition]}}, subresource="status", strategic=True
            )
            await self._client.delete("pods", namespace, name, uid=meta.uid(victim))
        message = f"Preempted by pod {meta.uid(pod)} on node {node}"
        self._record(victim, "Normal", "Preempted", message, action="Preempting")

    async def _tell_unschedulable(
        self, pod: Object, message: str, *, nominated: str | None, reason: str = "Unschedulable"
    ) -> None:
        self._record(pod, "Warning", "FailedScheduling", message, action="Scheduling")
        changes: Object = {}
        old = meta.condition(pod, "PodScheduled") or {}
        fresh = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        if {k: old.get(k) for k in fresh} != fresh:
            same = old.get("status") == "False"
            since = old.get("lastTransitionTime") if same else meta.timestamp(self._clock.now())
            changes["conditions"] = [{**fresh, "lastTransitionTime": since, "lastProbeTime": None}]
        if nominated != _nominated(pod):
            changes["nominatedNodeName"] = nominated
        if not changes:
            return
        namespace, name = key_of(pod)
        with contextlib.suppress(ApiError):  # gone or changed: its own change brings it back
            await self._client.patch("pods", namespace, name, {"status": changes}, subresource="status", strategic=True)


def _binding(pod: Object, node: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod)},
        "target": {"kind": "Node", "name": node},
    }


def _is_told_bound(claim: Object) -> bool:
    """Bound, and its status says so: the node goes by that, and would fail at first where the pod came sooner."""
    return is_bound(claim) and meta.status(claim).get("phase") == "Bound"


def _nominated(pod: Object) -> str | None:
    return meta.status(pod).get("nominatedNodeName") or None


def _wants_node(pod: Object) -> bool:
    spec = meta.spec(pod)
    return not spec.get("nodeName") and not spec.get("schedulingGates") and spec.get("schedulerName", NAME) == NAME


def _schedulable_parts(node: Object) -> tuple[object, ...]:
    """The parts of a node that decide whether pods fit."""
    spec = meta.spec(node)
    return (meta.labels(node), spec.get("taints"), spec.get("unschedulable"), meta.status(node).get("allocatable"))


def _labels_changed(change: Change) -> bool:
    return change.previous is not None and meta.labels(change.previous.object) != meta.labels(change.entry.object)


def _scheduling_changed(change: Change) -> bool:
    """Whether a waiting pod itself changed so that another try may end differently."""
    if change.previous is None:
        return True
    old, new = change.previous.object, change.entry.object
    return meta.spec(old) != meta.spec(new) or meta.labels(old) != meta.labels(new)

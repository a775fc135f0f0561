"""The kubelet as a whole: a worker for every pod that is bound to this node, and what the API's streams ask of it.

It watches pods of its name, hands events to their workers, adopts at its start what an earlier daemon left running, and
removes what nobody asks for any more. Stopping it stops no pod.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from podling.api import meta
from podling.api.client import Subscription
from podling.api.errors import ApiError, bad_request, internal, not_found
from podling.node import admission, logs
from podling.node.admission import Holding
from podling.node.interfaces import ExecProcess
from podling.node.logs import LogOptions
from podling.node.pod_sandbox import uid_of
from podling.node.pod_worker import PodWorker
from podling.node.records import Record, load_all
from podling.node.state import Instance, Slot
from podling.node.stats import ContainerKey, Meter, Metrics, Used
from podling.node.status import container_id
from podling.node.surroundings import Surroundings
from podling.node.volumes import remove_volumes
from podling.sandbox.cgroups import Usage
from podling.sandbox.client import NotFound, StartError
from podling.sandbox.spec import ContainerState, PodSpec
from podling.store.types import Change, ChangeType, Object, Uid

log = logging.getLogger(__name__)

STORAGE_EVERY = 10.0
"""Seconds between looks at what pods with such limits have written."""
REFERABLE = ("configmaps", "secrets", "persistentvolumeclaims")


class Node:
    """`await start()`, then it runs by itself until `await stop()`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._with = surroundings
        self._workers: dict[Uid, PodWorker] = {}
        self._tasks: dict[Uid, asyncio.Task[None]] = {}
        self._subscriptions: list[Subscription] = []
        self._meter = Meter(self.usage, surroundings.neighbours, surroundings.clock)
        self._records: dict[str, tuple[Record, dict[str, Slot]]] = {}
        self._states: dict[str, ContainerState] = {}
        self._sandboxes: set[str] = set()
        """Those of this node's pods, while it adopts them."""
        self._unhear: Callable[[], None] | None = None
        self._adopting = True
        self._storage_watch: asyncio.Task[None] | None = None

    # Life

    async def start(self) -> None:
        """Adopts, then follows the store."""
        self._unhear = self._with.sandbox.on_exit(self._container_ended)
        self._states = {state["id"]: state for state in await self._with.sandbox.containers()}
        self._records = {record.uid: (record, slots) for record, slots in load_all(self._with.directory / "pods")}
        everywhere = {pod["id"] for pod in await self._with.sandbox.pods()}
        self._sandboxes = {sandbox for sandbox in everywhere if uid_of(sandbox) in self._records}
        await self._make_host(everywhere)
        for record, _ in self._records.values():
            if record.ip and record.sandbox in self._sandboxes and record.ip != self._with.host_ip:
                self._with.network.restore(record.uid, record.ip)
        client = self._with.client
        self._subscriptions.append(client.subscribe("pods", self._pod_changed))
        await self._remove_orphans()
        self._subscriptions += [client.subscribe(resource, self._referred_changed) for resource in REFERABLE]
        self._meter.start()
        self._storage_watch = asyncio.get_running_loop().create_task(self._watch_storage())

    async def _make_host(self, sandboxes: Collection[str]) -> None:
        """The network that the node's own address is in, unless that is the machine's."""
        host = self._with.host_sandbox
        if not host:
            return
        if host not in sandboxes:
            network, name = self._with.network, self._with.node_name
            await self._with.sandbox.create_pod(
                PodSpec(id=host, hostname=name, ip=self._with.host_ip, gateway=network.gateway)
            )
        await self._with.network.attach(self._with.host_ip)

    async def stop(self) -> None:
        """Lets go of the pods, which run on."""
        if self._unhear is not None:
            self._unhear()
            self._unhear = None
        await self._meter.stop()
        if self._storage_watch is not None:
            self._storage_watch.cancel()
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drained(self) -> None:
        """Returns when nothing is left of the pods that it has, which others have deleted."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _remove_orphans(self) -> None:
        """Ends what runs for pods that are not in the store any more."""
        wanted = {worker.local.record.sandbox for worker in self._workers.values()}
        for sandbox in self._sandboxes - wanted:
            log.info("removing pod sandbox %s: its pod is gone", sandbox)
            await self._with.sandbox.remove_pod(sandbox)
        for uid, (record, _) in self._records.items():
            if Uid(uid) not in self._workers:
                await self._release_address(record)
        await self._remove_directories()
        self._adopting = False
        self._records.clear()
        self._states.clear()
        self._sandboxes.clear()

    async def _release_address(self, record: Record) -> None:
        if record.ip and record.sandbox in self._sandboxes:
            await self._with.network.detach(record.ip)
            self._with.network.release(record.uid)

    async def _remove_directories(self) -> None:
        """Those of pods that nobody knows; a removal that was cut short left some without their record."""
        for directory in _below(self._with.directory / "pods"):
            if Uid(directory.name) not in self._workers:
                await remove_volumes(self._with.volumes_directory(Uid(directory.name)))
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        for directory in _below(self._with.directory / "logs"):
            if Uid(directory.name.rpartition("_")[2]) not in self._workers:
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    # Events

    def _pod_changed(self, change: Change) -> None:
        pod = change.entry.object
        if meta.spec(pod).get("nodeName") != self._with.node_name:
            return
        worker = self._workers.get(meta.uid(pod))
        if change.type is ChangeType.DELETED:
            if worker is not None:
                worker.gone()
        elif worker is None:
            self._begin(pod)
        else:
            worker.update(pod)

    def _begin(self, pod: Object) -> None:
        uid = meta.uid(pod)
        record, slots = self._records.get(uid, (None, None))
        worker = PodWorker(pod, self._with, self, record, slots)
        if record is not None:
            worker.adopt(self._states, record.sandbox in self._sandboxes)
        elif not worker.local.record.ended:
            self._admit(worker)
        self._workers[uid] = worker
        task = asyncio.get_running_loop().create_task(worker.run(), name=f"pod {uid}")
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._worker_done(uid, done))

    def _admit(self, worker: PodWorker) -> None:
        node = self._with.client.get("nodes", "", self._with.node_name)
        if node is None:
            return
        refusal = admission.refusal(worker.local.pod, node, self.neighbours(worker.local.uid), self._with.matches_node)
        if refusal is not None:
            worker.reject(refusal)

    def neighbours(self, uid: Uid) -> list[Holding]:
        """What all other pods hold of the node's resources, until nothing of them runs."""
        return [w.local.holding for w in self._workers.values() if w.local.uid != uid and w.holds_room]

    def room_made(self) -> None:
        """What was deferred for want of room is looked at again."""
        for worker in self._workers.values():
            if worker.waits_for_room:
                worker.wake()

    def _worker_done(self, uid: Uid, task: asyncio.Task[None]) -> None:
        self._tasks.pop(uid, None)
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("worker of pod %s ended", uid, exc_info=task.exception())
        self._workers.pop(uid, None)

    def _referred_changed(self, change: Change) -> None:
        """A ConfigMap, Secret or claim: told to the pods that name it."""
        key = change.entry.key
        reference = (key.resource, key.name)
        for worker in self._workers.values():
            if meta.namespace(worker.local.pod) == key.namespace and reference in worker.local.references():
                worker.references_changed()

    def _container_ended(self, state: ContainerState) -> None:
        worker = self._workers.get(uid_of(state["pod"]))
        if worker is not None and worker.local.record.sandbox == state["pod"]:
            worker.ended(state)
        if self._adopting:
            self._states[state["id"]] = state

    # Usage

    @property
    def metrics(self) -> Metrics | None:
        """What pods and the node used lately; `None` in the first seconds."""
        return self._meter.metrics

    @property
    def used(self) -> Used:
        """What the node has used since it was started, and uses."""
        return self._meter.used

    async def usage(self) -> dict[ContainerKey, Usage]:
        """The counters of every running container now."""
        found: dict[ContainerKey, Usage] = {}
        for worker in list(self._workers.values()):
            if worker.sandbox_ready:
                used = await self._with.sandbox.stats(worker.local.record.sandbox)
                for slot in worker.local.slots.values():
                    if slot.current is not None and slot.current.id in used:
                        key = ContainerKey(
                            worker.local.record.namespace, worker.local.record.name, slot.name, slot.current.id
                        )
                        found[key] = used[slot.current.id]
        return found

    async def _watch_storage(self) -> None:
        while True:
            await asyncio.sleep(STORAGE_EVERY)
            for worker in list(self._workers.values()):
                await worker.check_storage()

    # Streams

    def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        """A container's output. Raises `ApiError` 400 or 404 at once, before the first chunk is asked for."""
        worker = self._worker(namespace, pod)
        fresh = self._with.client.get("pods", namespace, pod) or worker.local.pod
        identity = logs.logged_container(fresh, options.container, previous=options.previous)
        slot = worker.local.slots[options.container]
        run = next((run for run in (slot.current, slot.previous) if run and container_id(run) == identity), None)
        if run is None:
            raise bad_request(f'container "{options.container}" in pod "{pod}" is not available')
        path = self._with.log_path(worker.local.pod, slot.name, run.attempt)
        now = datetime.fromtimestamp(self._with.clock.host(), UTC)
        return logs.stream(path, options, now, lambda: run.running, worker.runs.end_event(run))

    async def exec(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, tty: bool, stdin: bool
    ) -> ExecProcess:
        """A process beside the container's own, with its environment. Raises `ApiError`."""
        run = self._running(namespace, pod, container)
        env = {**run.env, "TERM": run.env.get("TERM", "xterm")} if tty else run.env
        try:
            return await self._with.sandbox.exec(run.id, command, env=env, cwd=run.cwd, tty=tty, stdin=stdin)
        except StartError as error:
            refusal = internal(_exec_refusal(self._with.new_id(), error))
            raise internal(refusal.message) from error  # the kubelet wraps what its runtime's streaming server wrapped
        except NotFound as error:
            raise _no_container(container) from error

    async def attach(self, namespace: str, pod: str, container: str) -> ExecProcess:
        """The container's own input and output."""
        return await self._with.sandbox.attach(self._running(namespace, pod, container).id)

    async def dial(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A connection to a port of the pod, made inside it: also to what listens on 127.0.0.1 only.

        Raises `OSError` when it is refused.
        """
        worker = self._worker(namespace, pod)
        if not worker.sandbox_ready:
            raise bad_request(f"pod {pod} is not running")
        return await self._with.sandbox.dial(worker.local.record.sandbox, port)

    def _worker(self, namespace: str, pod: str) -> PodWorker:
        found = self._with.client.get("pods", namespace, pod)
        worker = self._workers.get(meta.uid(found)) if found is not None else None
        if worker is None:
            raise not_found("pods", "", pod)
        return worker

    def _running(self, namespace: str, pod: str, container: str) -> Instance:
        slot = self._worker(namespace, pod).local.slots.get(container)
        if slot is None or not slot.running:
            raise _no_container(container)
        return cast(Instance, slot.current)


def _below(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []


def _no_container(name: str) -> ApiError:
    return ApiError(404, "NotFound", f'container not found ("{name}")')


def _exec_refusal(id: str, error: StartError) -> str:
    """The sentence that reaches users through the kubelet and its runtime."""
    runtime = f"OCI runtime exec failed: exec failed: unable to start container process: {error}"
    return f'error executing command in container: failed to exec in container: failed to start exec "{id}": {runtime}'

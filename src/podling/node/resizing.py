"""A pod's resources on their way from the spec into force; the rules are those of `resize`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from podling.node import amounts, lifecycle, resize
from podling.node.admission import Holding
from podling.node.local_pod import LocalPod
from podling.node.pod_sandbox import PodSandbox
from podling.node.state import Waiting, containers_of, part
from podling.node.surroundings import Surroundings
from podling.sandbox.client import SandboxError
from podling.store.types import Object

RETRY_AFTER = 10.0
"""Seconds until resources that could not be put into force are tried again."""


class Resizing:
    """`pending` and `error` are what the status says of it; `neighbours` are the other pods on the node."""

    def __init__(
        self,
        local: LocalPod,
        sandbox: PodSandbox,
        surroundings: Surroundings,
        neighbours: Callable[[], Sequence[Holding]],
    ) -> None:
        self.pending: Waiting | None = None
        """Why what the spec wants is not granted."""
        self.error = ""
        """Why what is granted is not in force."""
        self.retry_at = 0.0
        """Unix seconds, after an error."""
        self._local = local
        self._sandbox = sandbox
        self._with = surroundings
        self._neighbours = neighbours
        self._under_way = False

    @property
    def deferred(self) -> bool:
        """Whether it waits until other pods leave."""
        return self.pending is not None and self.pending.reason == "Deferred"

    def consider(self) -> None:
        """Grants what the spec wants, or says why not; tells when all that was granted has come into force."""
        wanted = resize.wanted(self._local.pod)
        if wanted == self._local.record.allocated:
            self.pending = None
        else:
            self._decide(wanted)
        granted = self._local.granted
        if self._under_way and not any(self._lacks(container) for container, _ in containers_of(granted)):
            self._under_way = False
            self._local.tell("Normal", "ResizeCompleted", resize.summary("Pod resize completed", granted))

    def _decide(self, wanted: dict[str, Object]) -> None:
        pod = self._local.pod
        node = self._with.client.get("nodes", "", self._with.node_name) or {}
        pending = resize.verdict(pod, node, self._neighbours())
        if pending is not None:
            self._defer(pending)
            return
        self.pending, self.error, self.retry_at = None, "", 0.0
        self._local.record.allocated = wanted
        self._under_way = True
        self._local.save()
        self._local.tell("Normal", "ResizeStarted", resize.summary("Pod resize started", pod))

    def _defer(self, pending: Waiting) -> None:
        if pending != self.pending:
            self.pending = pending
            text = resize.summary(f"Pod resize {pending.reason}", self._local.pod, pending.message)
            self._local.tell("Warning", f"Resize{pending.reason}", text)

    def _lacks(self, container: Object) -> bool:
        """Whether a container runs, or will run again, and has not got what it was granted."""
        run = self._local.slots[container["name"]].current
        if run is None or run.resources in (None, part(container, "resources")):
            return False
        return not run.ended or lifecycle.may_restart(container, self._local.pod, run.exit_code or 0)

    async def apply(self) -> None:
        """Puts the granted resources into force; what fails is to be tried again."""
        pod = self._local.granted
        try:
            await self._apply_limits(pod)
        except SandboxError as error:
            self.retry_at = self._with.now() + RETRY_AFTER
            if self.error != str(error):
                self.error = str(error)
                self._local.tell("Warning", "ResizeError", resize.summary("Pod resize error", pod, str(error)))
            return
        self.error = ""

    async def _apply_limits(self, pod: Object) -> None:
        """The pod's group is never narrower than its containers' groups."""
        local, client, limits = self._local, self._with.sandbox, amounts.pod_limits(pod)
        await client.update(local.record.sandbox, resize.between(self._sandbox.limits, limits))
        for container, _ in containers_of(pod):
            slot = local.slots[container["name"]]
            if slot.current and resize.unfinished(slot, container) and not resize.needs_restart(slot, container):
                await client.update(local.record.sandbox, amounts.container_limits(container), slot.current.id)
                slot.current.resources = part(container, "resources")
                local.save()
        await client.update(local.record.sandbox, limits)
        self._sandbox.limits = limits

"""Writes a pod's status when it differs from what the store holds: one write at a time, the newest state always."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.node.status import Facts, pod_status
from podling.store.types import Object, Uid

log = logging.getLogger(__name__)

RETRY_AFTER = 1.0
SOON = 0.05
"""Seconds."""
CONFLICT_PAUSE = 0.002
"""Seconds: another write of the pod is being committed, for which the event loop must be let go."""


class Publisher:
    """`request()` after every change; a burst of changes becomes few writes.

    `request_soon()` while something is under way that will end with a `request()`: what lasts less than `SOON` seconds,
    as most starts and ends do, is told by one write instead of three.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        uid: Uid,
        facts: Callable[[], Facts],
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._uid = uid
        self._facts = facts
        self._now = now
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self._soon: asyncio.TimerHandle | None = None

    def request_soon(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(SOON, self.request)

    def request(self) -> None:
        self._forget_soon()
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def flush(self) -> None:
        """Returns when what is true now has been written, or the pod is gone."""
        self.request()
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    def _forget_soon(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def stop(self) -> None:
        self._forget_soon()
        if self._task is not None:
            self._task.cancel()

    async def _write_all(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._write()
            except ApiError as error:
                if error.reason == "NotFound":
                    return
                self._wanted = True
                conflict = error.reason == "Conflict"
                if not conflict:
                    log.warning("status of pod %s/%s: %s", self._namespace, self._name, error)
                await asyncio.sleep(CONFLICT_PAUSE if conflict else RETRY_AFTER)

    async def _write(self) -> None:
        pod = self._client.get("pods", self._namespace, self._name)
        if pod is None or meta.uid(pod) != self._uid:
            return
        status = pod_status(pod, self._facts(), datetime.fromtimestamp(self._now(), UTC))
        if status != pod.get("status"):
            await self._client.update_status("pods", with_status(pod, status))


def with_status(pod: Object, status: Object) -> Object:
    return {**pod, "status": status}

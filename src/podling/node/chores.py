"""The pieces of work that a pod's worker has under way, by name, and when it is to look again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

FAULT_PAUSE = 1.0
"""Seconds until the worker looks again after a fault."""

Work = Callable[[], Coroutine[Any, Any, None]]


class Chores:
    """Whatever ends, comes in time or is told only wakes the worker, which waits in `woken`."""

    def __init__(self, owner: str) -> None:
        """`owner` is named in the log."""
        self._owner = owner
        self._awake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._tasks

    def wake(self) -> None:
        self._awake.set()

    def wake_in(self, seconds: float | None) -> None:
        """Instead of the moment that was set before; `None`: at no moment."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.wake)

    async def woken(self) -> None:
        await self._awake.wait()
        self._awake.clear()

    def once(self, name: str, work: Work) -> None:
        """Begins a piece of work unless it is being done."""
        if name in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(work(), name=f"{name} {self._owner}")
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._done(name, done))

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: %s", self._owner, name, exc_info=task.exception())
            self.wake_in(FAULT_PAUSE)
            return
        self.wake()

    async def cancel(self, *names: str) -> None:
        tasks = [self._tasks[name] for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_for(self, *names: str) -> None:
        """Returns when these pieces of work, as far as they are under way, are done."""
        await asyncio.gather(*(self._tasks[name] for name in names if name in self._tasks), return_exceptions=True)

    def stop(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        self.wake_in(None)

"""Ends one container gracefully: `preStop`, out of the services, the stop signal, the grace period, SIGKILL.

The order is what makes a pod's end lose no request: first no new connection can reach it, then those that wait to be
accepted are accepted, and only then is the process told to stop. On one machine each step is known to be done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable

from podling.node.hooks import HookError, run_hook
from podling.node.interfaces import Sandbox
from podling.node.state import Instance, part
from podling.node.surroundings import AGENT
from podling.sandbox.client import NotFound
from podling.store.types import Object

log = logging.getLogger(__name__)

MINIMUM_GRACE = 2.0
"""Seconds that a container always has between the stop signal and SIGKILL (kubelet's minimumGracePeriodInSeconds)."""

KILL_PATIENCE = 10.0
"""Seconds to wait for the end after SIGKILL before asking again: a process in the kernel's hands ends late."""


class Deadline:
    """When SIGKILL comes, in the event loop's time. A later delete with less grace brings it nearer."""

    def __init__(self, seconds: float) -> None:
        self._at = asyncio.get_running_loop().time() + seconds
        self._nearer = asyncio.Event()

    @property
    def left(self) -> float:
        return self._at - asyncio.get_running_loop().time()

    def shorten(self, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        if at < self._at:
            self._at = at
            self._nearer.set()

    async def wait(self, event: asyncio.Event, least: float = 0.0) -> bool:
        """Waits for `event` until the deadline, but `least` seconds in any case; whether it came."""
        earliest = asyncio.get_running_loop().time() + least
        while not event.is_set():
            self._nearer.clear()
            left = max(self._at, earliest) - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await _first(event, self._nearer, timeout=left)
        return True


async def _first(*events: asyncio.Event, timeout: float) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def stop_container(
    container: Object,
    run: Instance,
    ended: asyncio.Event,
    deadline: Deadline,
    sandbox: Sandbox,
    *,
    ip: str,
    turn: Callable[[], Awaitable[None]],
    drain: Callable[[], Awaitable[None]],
    hook_failed: Callable[[], None],
) -> None:
    """Returns when the container has ended.

    `turn` returns when it may be told to stop (sidecars wait for the others), `drain` when no new connection comes.
    """
    hook = part(container, "lifecycle").get("preStop")
    if hook and deadline.left > 0:
        await _pre_stop(hook, container, run, ended, deadline, sandbox, ip, hook_failed)
    if deadline.left > 0:
        await _until(turn, ended, deadline)
    if not ended.is_set():
        await drain()
        await _signal(sandbox, run, signal_number(run.stop_signal), ended)
    if not await deadline.wait(ended, least=MINIMUM_GRACE):
        await kill_container(run, ended, sandbox)


async def kill_container(run: Instance, ended: asyncio.Event, sandbox: Sandbox) -> None:
    """SIGKILL, until it is over."""
    while not ended.is_set():
        await _signal(sandbox, run, signal.SIGKILL, ended)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_PATIENCE):
                await ended.wait()


async def _signal(sandbox: Sandbox, run: Instance, number: int, ended: asyncio.Event) -> None:
    """A container that the zygote does not know never began, or is over."""
    try:
        await sandbox.signal(run.id, number)
    except NotFound:
        ended.set()


async def _pre_stop(
    hook: Object,
    container: Object,
    run: Instance,
    ended: asyncio.Event,
    deadline: Deadline,
    sandbox: Sandbox,
    ip: str,
    failed: Callable[[], None],
) -> None:
    """The hook's time is part of the grace period."""

    async def run_it() -> None:
        try:
            await run_hook(hook, container, run, ip, sandbox, AGENT)
        except HookError as error:
            log.info("preStop of container %s: %s", container["name"], error)
            failed()

    await _until(run_it, ended, deadline)


async def _until(work: Callable[[], Awaitable[None]], ended: asyncio.Event, deadline: Deadline) -> None:
    """Does `work`, given up when the container ends by itself or the deadline comes."""
    done = asyncio.Event()

    async def do() -> None:
        try:
            await work()
        finally:
            done.set()

    async def note_end() -> None:
        await ended.wait()
        done.set()

    tasks = [asyncio.ensure_future(do()), asyncio.ensure_future(note_end())]
    try:
        await deadline.wait(done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def signal_number(name: str) -> int:
    """Of `SIGTERM`, `TERM` or `15`; SIGTERM for what is not known."""
    if name.isdigit():
        return int(name)
    text = name.upper()
    text = text if text.startswith("SIG") else f"SIG{text}"
    found = getattr(signal, text, None)
    if isinstance(found, signal.Signals):
        return int(found)
    if text.startswith("SIGRTMIN+") and text[9:].isdigit():
        return int(signal.SIGRTMIN) + int(text[9:])
    return int(signal.SIGTERM)

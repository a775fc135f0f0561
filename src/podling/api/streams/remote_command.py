"""exec and attach: a process in a container, joined to a client's channels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass

import orjson

from podling.api.errors import ApiError, internal
from podling.api.streams.backend import Process, Start
from podling.api.streams.channels import ERROR, RESIZE, STDERR, STDIN, STDOUT, Channels
from podling.api.streams.pipes import Feeder, pump
from podling.store.types import Object

_log = logging.getLogger(__name__)

SUCCESS: Object = {"metadata": {}, "status": "Success"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The streams that a client asks for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    def channels(self) -> frozenset[int]:
        """A terminal has no separate stderr."""
        wanted = {ERROR}
        if self.stdin:
            wanted.add(STDIN)
        if self.stdout:
            wanted.add(STDOUT)
        if self.stderr and not self.tty:
            wanted.add(STDERR)
        if self.tty:
            wanted.add(RESIZE)
        return frozenset(wanted)

    def first(self) -> int:
        """The first channel on which something may come."""
        return STDOUT if self.stdout else STDERR if self.stderr else ERROR


def exit_status(code: int) -> Object:
    """The `metav1.Status` from which kubectl takes its own exit code."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def run(start: Start, channels: Channels, wanted: Wanted) -> None:
    """Starts the process, joins it to the client, and tells how it ended. Returns when all is over."""
    try:
        process = await start()
    except ApiError as error:
        await channels.finish({**error.status(), "metadata": {}})
        return
    except OSError as error:
        await channels.finish({**internal(str(error)).status(), "metadata": {}})
        return
    session = _Session(process, channels, wanted)
    try:
        await session.run()
    finally:
        session.close()


class _Session:
    """One running process and one client."""

    def __init__(self, process: Process, channels: Channels, wanted: Wanted) -> None:
        self._process = process
        self._channels = channels
        self._wanted = wanted
        self._lost = asyncio.Event()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeder = self._make_feeder()
        channels.attach(self)

    def _make_feeder(self) -> Feeder | None:
        process, link = self._process, self._channels.link
        if process.stdin is not None:  # also where a client sees a terminal that the container does not have
            return Feeder(process.stdin, link.hold, link.release, terminal=False)
        if self._wanted.tty and self._wanted.stdin and process.stdout is not None:
            return Feeder(process.stdout, link.hold, link.release, terminal=True)
        return None

    # what the client sends

    def received(self, channel: int, data: bytes) -> None:
        if channel == STDIN and self._feeder is not None:
            self._feeder.feed(data)
        elif channel == RESIZE:
            self._resize(data)

    def ended(self, channel: int) -> None:
        if channel == STDIN and self._feeder is not None:
            self._feeder.end()

    def lost(self) -> None:
        self._lost.set()

    def _resize(self, data: bytes) -> None:
        try:
            size = orjson.loads(data)
            width, height = int(size["Width"]), int(size["Height"])
        except (ValueError, KeyError, TypeError):
            return
        if 0 < width < 1 << 16 and 0 < height < 1 << 16:
            task = asyncio.ensure_future(self._process.resize(width, height))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # what the process says

    async def run(self) -> None:
        output = asyncio.gather(self._pump(self._process.stdout, STDOUT), self._pump(self._process.stderr, STDERR))
        ending = asyncio.ensure_future(self._process.wait())
        losing = asyncio.ensure_future(self._lost.wait())
        await asyncio.wait([ending, losing], return_when=asyncio.FIRST_COMPLETED)
        losing.cancel()
        self._over.set()
        if not ending.done():
            await self._process.kill()  # it has nobody to talk to; what was only attached to goes on
            ending.cancel()
            output.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await output
            return
        with contextlib.suppress(OSError):
            await output
        await self._channels.finish(exit_status(ending.result()))

    async def _pump(self, descriptor: int | None, channel: int) -> None:
        if descriptor is None:
            return

        async def send(data: bytes) -> None:
            await self._channels.send(channel, data)

        await pump(descriptor, send, self._over)

    def close(self) -> None:
        if self._feeder is not None:
            self._feeder.close()
        for descriptor in (self._process.stdout, self._process.stderr):
            if descriptor is not None:
                os.close(descriptor)

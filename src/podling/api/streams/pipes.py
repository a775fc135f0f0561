"""Reading and writing a process's descriptors on the event loop, never faster than the other side takes it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable

CHUNK = 32 << 10
"""Bytes read at a time; what the real kubelet's clients send and expect as well."""
HIGH_WATER = 256 << 10
"""Bytes waiting for a process that does not read, from which on the client is held."""


async def pump(descriptor: int, send: Callable[[bytes], Awaitable[None]], stop: asyncio.Event) -> None:
    """Sends all that can be read, until its end, or until `stop` is set and nothing is left to read.

    `stop` is for descriptors that outlive their process: a background child may hold a pipe open for ever.
    """
    os.set_blocking(descriptor, False)
    while True:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            if stop.is_set():
                return
            await _readable(descriptor, stop)
            continue
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal whose last process is gone
                return
            raise
        if not data:
            return
        await send(data)


async def _readable(descriptor: int, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        loop.remove_reader(descriptor)


class Feeder:
    """Writes to a process's stdin; holds the client while too much waits.

    Owns the descriptor: it is closed when all is written after `end`, or by `close`.
    """

    def __init__(
        self, descriptor: int, hold: Callable[[], None], release: Callable[[], None], *, terminal: bool
    ) -> None:
        self._descriptor = descriptor
        self._terminal = terminal
        self._waiting = bytearray()
        self._hold, self._release = hold, release
        self._holding = False
        self._ending = False
        self._watching = False
        self._open = True
        os.set_blocking(descriptor, False)

    def feed(self, data: bytes) -> None:
        if not self._open or self._ending:
            return
        self._waiting += data
        self._write()
        if len(self._waiting) > HIGH_WATER and not self._holding:
            self._holding = True
            self._hold()

    def end(self) -> None:
        """The client will send no more. A terminal is told so by its end-of-file character."""
        if self._terminal:
            self.feed(b"\x04")
        self._ending = True
        if self._open and not self._waiting and not self._terminal:
            self.close()

    def _write(self) -> None:
        try:
            while self._waiting:
                written = os.write(self._descriptor, self._waiting[:CHUNK])
                del self._waiting[:written]
        except BlockingIOError:
            self._watch()
            return
        except OSError:  # the process has closed its stdin, or is gone: what it does not want is dropped
            self._waiting.clear()
        self._written()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            asyncio.get_running_loop().add_writer(self._descriptor, self._write)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_writer(self._descriptor)

    def _written(self) -> None:
        self._unwatch()
        if self._holding:
            self._holding = False
            self._release()
        if self._ending and not self._terminal:
            self.close()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._unwatch()
        if self._holding:
            self._holding = False
            self._release()
        if not self._terminal:  # a terminal's descriptor is shared with the reader, who closes it
            os.close(self._descriptor)

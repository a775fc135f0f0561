"""A container's output on its way to the log file and to whoever is attached."""

from __future__ import annotations

import os
import time
from collections import deque

from podling.sandbox.logs import LineEncoder, LogFile
from podling.sandbox.loop import READABLE, WRITABLE, Loop

READ_SIZE = 64 * 1024
"""Bytes taken per turn of the loop: a noisy container waits for its next turn like all others."""

SINK_LIMIT = 1024 * 1024
"""Bytes kept for an attached reader that does not read; then it is cut off."""

_DRAIN_TURNS = 64


class Sink:
    """The writing end of an attached reader's pipe."""

    def __init__(self, descriptor: int, loop: Loop) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._finished = False

    @property
    def open(self) -> bool:
        return self._descriptor >= 0

    def put(self, data: bytes) -> None:
        if not self.open:
            return
        self._waiting.append(data)
        self._size += len(data)
        self._flush()
        if self._size > SINK_LIMIT:
            self._close()

    def finish(self) -> None:
        """Close once everything is read."""
        self._finished = True
        self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting and self.open:
                written = os.write(self._descriptor, self._waiting[0])
                self._size -= written
                rest = self._waiting.popleft()[written:]
                if rest:
                    self._waiting.appendleft(rest)
        except BlockingIOError:
            self._loop.watch(self._descriptor, lambda _: self._flush(), WRITABLE)
            return
        except OSError:  # the reader is gone
            self._close()
            return
        if self.open:
            self._loop.forget(self._descriptor)
            if self._finished:
                self._close()

    def _close(self) -> None:
        if self.open:
            self._loop.forget(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._waiting.clear()


class Output:
    """One stream of a container: a pipe, or a terminal's master."""

    def __init__(self, stream: str, descriptor: int, log: LogFile | None, loop: Loop) -> None:
        self.stream = stream
        self.descriptor = descriptor
        self._log = log
        self._loop = loop
        self._encoder = LineEncoder(stream)
        self._sinks: list[Sink] = []
        os.set_blocking(descriptor, False)
        loop.watch(descriptor, lambda _: self._pump(), READABLE)

    def attach(self, sink: Sink) -> None:
        self._sinks = [old for old in self._sinks if old.open]
        if self.descriptor < 0:
            sink.finish()
        else:
            self._sinks.append(sink)

    def finish(self) -> None:
        """Take what is still in the pipe, after the end of its writer."""
        for _ in range(_DRAIN_TURNS):
            if not self._pump():
                break
        self._close()

    def _pump(self) -> bool:
        """Pass on what can be read in one go; False when there was nothing."""
        if self.descriptor < 0:
            return False
        try:
            data = os.read(self.descriptor, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last user of the terminal closed it
            data = b""
        if not data:
            self._close()
            return False
        if self._log is not None:
            self._log.write(self._encoder.feed(data, time.time_ns()))
        for sink in self._sinks:
            sink.put(data)
        return True

    def _close(self) -> None:
        if self.descriptor < 0:
            return
        self._loop.forget(self.descriptor)
        os.close(self.descriptor)
        self.descriptor = -1
        if self._log is not None:
            self._log.write(self._encoder.finish(time.time_ns()))
        for sink in self._sinks:
            sink.finish()
        self._sinks.clear()

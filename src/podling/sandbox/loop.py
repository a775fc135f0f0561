"""A loop over file descriptors, timers and ended children: what the zygote and the host helper run on.

asyncio would do the same with eight more megabytes and, in a process that forks all the time, with state that children
must not touch.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT


class Loop:
    """Callbacks run one after the other; none may block."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running = False

    def watch(self, descriptor: int, handler: Callable[[int], object], events: int = READABLE) -> None:
        """Call `handler(events)` whenever the descriptor is ready; again: with other events or another handler."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Stop watching; before the descriptor is closed, since its number may be given out again at once."""
        if self._handlers.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))

    def on_signals(self, handlers: dict[int, Callable[[], None]]) -> None:
        """Run a handler in the loop after a signal."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, _woken)

        def dispatch(_: int) -> None:
            with contextlib.suppress(BlockingIOError):
                for number in set(os.read(reader, 4096)):
                    if number in handlers:
                        handlers[number]()

        self.watch(reader, dispatch)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        self._running = True
        while self._running:
            for descriptor, events in self._epoll.poll(self._patience()):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    _guarded(lambda handler=handler, events=events: handler(events))
            while self._timers and self._timers[0][0] <= time.monotonic():
                _guarded(heapq.heappop(self._timers)[2])

    def _patience(self) -> float:
        if not self._timers:
            return -1
        return max(0.0, self._timers[0][0] - time.monotonic())


def _guarded(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:  # noqa: BLE001  one failed callback must not end the node; the log tells of it
        traceback.print_exc()
        sys.stderr.flush()


def _woken(number: int, frame: object) -> None:
    """The wake-up descriptor carries the signal's number; a handler must exist for Python to write it there."""

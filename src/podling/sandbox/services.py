"""Keeps the node's own processes running: the daemon and the proxy, started again when they end.

They live in the node's namespaces as children of the zygote, so that either may be killed without the other, or any
pod, noticing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import NotRequired, TypedDict

from podling.sandbox import syscalls
from podling.sandbox.loop import Loop

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
SETTLED_AFTER = 10.0
"""Seconds: a process that ran so long is started again after `FIRST_DELAY`, however often it ended before."""


class Service(TypedDict):
    """A process to keep running. JSON-ready."""

    name: str
    argv: list[str]
    env: dict[str, str]
    log: str
    """File that its output is appended to."""
    restart: NotRequired[bool]
    """Absent: true."""
    watched: NotRequired[str]
    """FIFO that the process holds open for writing, if somebody reads it: who waits for its start hears of its end."""


def next_delay(delay: float, ran_for: float, *, killed: bool = False) -> float:
    """Seconds to wait before the next start, after a wait of `delay` and a run of `ran_for` s.

    `killed`: by SIGKILL, which comes from outside and says nothing against another start.
    """
    return FIRST_DELAY if killed or ran_for >= SETTLED_AFTER else min(LONGEST_DELAY, delay * 2)


class Supervisor:
    """One service."""

    def __init__(self, service: Service, loop: Loop, adopt: Callable[[int, Callable[[int], None]], None]) -> None:
        """`adopt(pid, ended)` tells who reaps children to call `ended(status)`."""
        self.name = service["name"]
        self.pid: int | None = None
        self.starts = 0
        self._service = service
        self._loop = loop
        self._adopt = adopt
        self._delay = FIRST_DELAY / 2
        self._started = 0.0
        self._stopping = False

    def start(self) -> None:
        if self._stopping:
            return
        self._started = time.monotonic()
        self.starts += 1
        self.pid = os.fork()
        if self.pid == 0:
            _become(self._service)
        self._adopt(self.pid, self._ended)

    def stop(self) -> None:
        """Ask it to end, and start it no more."""
        self._stopping = True
        if self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)

    def _ended(self, status: int) -> None:
        self.pid = None
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if self._service.get("restart", True) and not self._stopping:
            self._delay = next_delay(self._delay, time.monotonic() - self._started, killed=killed)
            self._loop.later(self._delay, self.start)


def _become(service: Service) -> None:
    """In the child: its log, its own session, its program."""
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        log = os.open(service["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o640)
        for number, source in enumerate((null, log, log)):
            os.dup2(source, number, inheritable=True)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if "watched" in service:
            _hold_open(service["watched"])
        os.execvpe(service["argv"][0], service["argv"], service["env"])
    except OSError as error:
        os.write(2, f"podling: cannot start {service['name']}: {error}\n".encode())
    finally:
        os._exit(127)


def _hold_open(fifo: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads: the usual case of a restart
        os.set_inheritable(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), True)

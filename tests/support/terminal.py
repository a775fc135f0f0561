"""A program on a terminal of its own, as a person sits before it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.people import Person

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Terminal:
    """What the program has shown, and what is typed."""

    def __init__(self, descriptor: int, process: subprocess.Popen[str]) -> None:
        self._descriptor = descriptor
        self.process = process
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C: to everything in the foreground."""
        self.type("\x03")

    def wait_for(self, text: str, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.shown:
            assert self._read(deadline), f"{text!r} is not shown; only:\n{self.shown}"

    def end(self, timeout: float = 30) -> int:
        """Reads on until the program has ended; its exit code."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._descriptor, 65536) if ready else b""
        except OSError:  # nobody holds the other end any more
            data = b""
        self.shown += _ESCAPES.sub("", data.decode(errors="replace"))
        return bool(data)


@contextmanager
def terminal(person: Person, *args: str | Path) -> Generator[Terminal]:
    """Runs `args` as the person, in a session of its own whose terminal this is."""
    ours, theirs = pty.openpty()
    # a runner in the background hands down an ignored SIGINT, and a terminal's programs never have that
    look = ("env", "--default-signal=INT", "TERM=xterm-256color", "COLUMNS=120")
    own_session = ("setsid", "--ctty", "--wait")  # one has no terminal until it takes it
    process = person.start(*look, *own_session, *args, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)

"""What the streams need from the node, which they know only by these shapes."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Protocol


class Process(Protocol):
    """A running process whose descriptors belong to the caller, who closes them.

    With a terminal only `stdout` is set: its master, to be read and written.
    """

    @property
    def stdin(self) -> int | None: ...

    @property
    def stdout(self) -> int | None: ...

    @property
    def stderr(self) -> int | None: ...

    async def wait(self) -> int:
        """The exit code, as a shell shows it."""
        ...

    async def resize(self, width: int, height: int) -> None: ...

    async def kill(self) -> None: ...


Start = Callable[[], Awaitable[Process]]
"""Starts a process that was asked for and found possible. What it raises goes to the client's error channel."""

Dial = Callable[[int], Awaitable[socket.socket]]
"""A connection to a port of the pod, as made inside it. Raises `OSError`."""

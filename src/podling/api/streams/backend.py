"""What the streams need from the node, which they know only by these shapes."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
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


class PodStreams(Protocol):
    """The node. Each method raises `ApiError` where the pod or container is not there or does not run."""

    def exec(
        self, namespace: str, pod: str, container: str, args: Sequence[str], *, stdin: bool, tty: bool
    ) -> Start: ...

    def attach(self, namespace: str, pod: str, container: str, *, stdin: bool, tty: bool) -> Start: ...

    def port_forward(self, namespace: str, pod: str) -> Dial: ...

"""Joins two TCP connections: what one side says the other hears, with back-pressure and half-close.

Plain asyncio protocols: no copy beyond the kernel's own, no task per connection after the dial. A reader is paused
while the other side's buffer is full; the end of one direction is passed on while the other still flows; a reset is
passed on as a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import cast

Dial = Callable[[socket.socket], Awaitable[socket.socket]]
"""Given the accepted connection, returns the connected other one (non-blocking). Raises `OSError`."""

_BUFFER = 256 * 1024
"""Bytes that may wait for a slow reader before its source is paused."""

_NOT_YET = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET, errno.ETIMEDOUT})
_PATIENCE = (0.0, 0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between attempts to reach a service: a backend that just died is replaced in the slots meanwhile."""


async def dial(ip: str, port: int) -> socket.socket:
    """A connection from here. Raises `OSError`."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (ip, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def dial_service(ip: str, port: int) -> socket.socket:
    """A connection to a service. Nothing has been said yet, so a backend that refuses costs the client no more than
    another attempt, which the slots lead elsewhere. Raises `OSError` when it stays refused."""
    for pause in _PATIENCE:
        try:
            return await dial(ip, port)
        except OSError as error:
            if error.errno not in _NOT_YET:
                raise
        await asyncio.sleep(pause)
    return await dial(ip, port)


class _End(asyncio.Protocol):
    """One of the two connections. What it hears before the other is there waits.

    Reading is paused only once something was heard: pausing in `connection_made` has no effect before Python 3.12.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._other: _End | None = None
        self._early: list[bytes] = []
        self._ended = False
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_BUFFER)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def socket(self) -> socket.socket:
        return cast(socket.socket, self._transport.get_extra_info("socket"))

    @property
    def _transport(self) -> asyncio.Transport:
        assert self.transport is not None
        return self.transport

    def join(self, other: _End) -> None:
        """From now on what this one hears is said by the other, beginning with what was heard already."""
        self._other = other
        if self._early:
            other._transport.write(b"".join(self._early))
            self._early.clear()
        if self._lost or (self._ended and other._ended):
            other._transport.close()
        elif self._ended:
            other._say_end()
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other._transport.write(data)
        else:
            self._early.append(data)
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The other direction stays open until it ends too."""
        self._ended = True
        other = self._other
        if other is None:
            return True
        if other._ended:
            other._transport.close()
            return False
        other._say_end()
        return True

    def _say_end(self) -> None:
        with contextlib.suppress(OSError):
            self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        other, self._other = self._other, None
        if other is None:
            return
        if exc is None:
            other._transport.close()
        else:
            other.reset()

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other._transport.resume_reading()

    def reset(self) -> None:
        """Ends the connection so that the peer knows it did not end well."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class Splice(_End):
    """The accepted end: dials the other one and joins both."""

    def __init__(self, dial: Dial, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._dial = dial
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            connection = await self._dial(self.socket)
        except OSError:
            self.reset()
            return
        if self._transport.is_closing():
            connection.close()
            return
        _, far = await asyncio.get_running_loop().create_connection(_End, sock=connection)
        far.join(self)
        self.join(far)


class Listener:
    """Accepts on a listening socket and splices each connection to where `dial` leads."""

    def __init__(self, server: asyncio.Server, tasks: set[asyncio.Task[None]]) -> None:
        self._server = server
        self._tasks = tasks

    @classmethod
    async def start(cls, listening: socket.socket, dial: Dial) -> Listener:
        """Owns `listening` from now on."""
        listening.setblocking(False)
        tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.get_running_loop().create_server(
            lambda: Splice(dial, tasks), sock=listening, backlog=4096
        )
        return cls(server, tasks)

    def close(self) -> None:
        """Accepts no more; joined connections go on."""
        self._server.close()

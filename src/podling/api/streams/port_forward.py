"""port-forward: TCP connections into a pod, carried by one connection of the client.

SPDY (alone, or tunnelled through binary WebSocket messages): for each TCP connection the client opens an `error` and a
`data` stream with one `requestid`. WebSocket `v4.channel.k8s.io` (the official Python client): channels 2i for data and
2i+1 for errors of the i-th port, each opened by us with the port's number.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

from podling.api.http import Request
from podling.api.streams import spdy, websocket
from podling.api.streams.backend import Dial
from podling.api.streams.channels import BASE64_V4, accept_spdy
from podling.api.streams.link import Link

TUNNEL = "SPDY/3.1+portforward.k8s.io"
SPDY_PROTOCOL = "portforward.k8s.io"


class _Connection(asyncio.Protocol):
    """One TCP connection into the pod. What the pod sends goes to `send`; what the client sends, to `feed`."""

    def __init__(
        self, link: Link, send: Callable[[bytes], None], sent_all: Callable[[], None], over: Callable[[], None]
    ) -> None:
        self._link = link
        self._send, self._sent_all, self._over = send, sent_all, over
        self._transport: asyncio.Transport | None = None
        self._early = bytearray()
        self._ended = False
        self._received_all = False
        self._holding = False
        self._drain: asyncio.Task[None] | None = None

    async def open(self, connected: socket.socket) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, sock=connected)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        if self._early:
            transport.write(bytes(self._early))
            self._early.clear()
        if self._ended:
            self._write_eof()

    def data_received(self, data: bytes) -> None:
        self._send(data)
        if self._drain is None and self._transport is not None:
            self._transport.pause_reading()
            self._drain = asyncio.ensure_future(self._drained())

    async def _drained(self) -> None:
        await self._link.drain()
        self._drain = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Keeps the other direction open, until the client has ended it as well."""
        self._received_all = True
        self._sent_all()
        return not self._ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        if not self._received_all:
            self._sent_all()
        self._over()

    def pause_writing(self) -> None:
        if not self._holding:
            self._holding = True
            self._link.hold()

    def resume_writing(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._holding:
            self._holding = False
            self._link.release()

    def feed(self, data: bytes) -> None:
        if self._transport is None:
            self._early += data
        else:
            self._transport.write(data)

    def end(self) -> None:
        """The client will send no more on it."""
        self._ended = True
        if self._transport is not None:
            self._write_eof()

    def _write_eof(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._received_all:
            self._transport.close()
        else:
            self._transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _SpdyForward:
    """Pairs of streams, each a TCP connection. `write` sends framed bytes, `link` is for backpressure."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._framing = spdy.Spdy()
        self._errors: dict[str, int] = {}
        self._connections: dict[int, _Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.link: Link
        self.write: Callable[[bytes], None]

    def receive(self, data: bytes) -> None:
        try:
            spdy.tell(self._framing, data, self, self.write)
        except spdy.ProtocolError:
            self.link.close()

    # What the framing tells of its streams

    def opened(self, stream: int, headers: dict[str, str]) -> None:
        self.write(self._framing.reply(stream))
        identity = headers.get("requestid", "")
        if headers.get("streamtype") == "error":
            self._errors[identity] = stream
            return
        error = self._errors.pop(identity, None)
        port = headers.get("port", "")
        if error is None or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            self.write(self._framing.reset(stream))
            return
        connection = _Connection(
            self.link,
            lambda data: self.write(self._framing.data(stream, data)),
            lambda: self.write(self._framing.data(stream, b"", end=True)),
            lambda: self._over(stream, error),
        )
        self._connections[stream] = connection
        task = asyncio.ensure_future(self._connect(connection, stream, error, int(port)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def received(self, stream: int, data: bytes) -> None:
        if stream in self._connections:
            self._connections[stream].feed(data)

    def ended(self, stream: int) -> None:
        if stream in self._connections:
            self._connections[stream].end()

    def reset(self, stream: int) -> None:
        if stream in self._connections:
            self._connections[stream].close()

    # Connections

    async def _connect(self, connection: _Connection, stream: int, error: int, port: int) -> None:
        try:
            await connection.open(await self._dial(port))
        except OSError as problem:
            self._connections.pop(stream, None)
            self.write(self._framing.data(error, failure(port, problem).encode(), end=True))
            self.write(self._framing.reset(stream))

    def _over(self, stream: int, error: int) -> None:
        if self._connections.pop(stream, None) is not None:
            self.write(self._framing.data(error, b"", end=True))

    def lost(self) -> None:
        for connection in list(self._connections.values()):
            connection.close()
        for task in self._tasks:
            task.cancel()


def failure(port: int, problem: OSError) -> str:
    reason = (problem.strerror or str(problem)).lower()
    return (
        f"an error occurred forwarding {port} -> {port}: error forwarding port {port} to pod: "
        f"failed to connect to localhost:{port} inside namespace: {reason}"
    )


def over_spdy(request: Request, dial: Dial) -> None:
    """Begins SPDY on the request's connection."""
    forward = _SpdyForward(dial)
    forward.link = Link(request, forward.receive, forward.lost)
    forward.write = forward.link.write
    forward.write(accept_spdy(SPDY_PROTOCOL))


def over_tunnel(request: Request, dial: Dial) -> None:
    """Begins SPDY inside the binary messages of a WebSocket (KEP-4006)."""
    forward = _SpdyForward(dial)
    outer = websocket.WebSocket()

    def receive(data: bytes) -> None:
        try:
            for message in outer.receive(data):
                forward.receive(message)
        except websocket.ProtocolError:
            forward.link.close()
        forward.link.write(outer.outgoing)
        outer.outgoing = b""
        if outer.closed:
            forward.link.close()

    forward.link = Link(request, receive, forward.lost)
    forward.write = lambda data: forward.link.write(outer.message(data))
    forward.link.write(websocket.accept(request.header(b"sec-websocket-key"), TUNNEL))


class _ChannelForward:
    """WebSocket channels: a fixed pair for each port, one TCP connection each."""

    def __init__(self, request: Request, protocol: str, dial: Dial, ports: list[int]) -> None:
        self._socket = websocket.WebSocket(encoded=protocol == BASE64_V4)
        self._dial = dial
        self.link = Link(request, self._receive, self._lost)
        self.link.write(websocket.accept(request.header(b"sec-websocket-key"), protocol))
        self._connections = [self._connection(2 * index) for index in range(len(ports))]
        self._tasks = [asyncio.ensure_future(self._connect(index, port)) for index, port in enumerate(ports)]

    def _connection(self, channel: int) -> _Connection:
        return _Connection(self.link, lambda data: self._send(channel, data), self._finish, self._finish)

    async def _connect(self, index: int, port: int) -> None:
        data, error = 2 * index, 2 * index + 1
        for channel in (data, error):
            self._send(channel, struct.pack("<H", port))
        try:
            await self._connections[index].open(await self._dial(port))
        except OSError as problem:
            self._send(error, failure(port, problem).encode())

    def _send(self, channel: int, data: bytes) -> None:
        self.link.write(self._socket.message(bytes((channel,)) + data))

    def _receive(self, data: bytes) -> None:
        try:
            for message in self._socket.receive(data):
                index = message[0] // 2 if message else -1
                if len(message) > 1 and message[0] % 2 == 0 and index < len(self._connections):
                    self._connections[index].feed(message[1:])
        except websocket.ProtocolError:
            self.link.close()
        self.link.write(self._socket.outgoing)
        self._socket.outgoing = b""
        if self._socket.closed:
            self.link.close()

    def _finish(self) -> None:
        self.link.write(self._socket.close())
        self.link.close()

    def _lost(self) -> None:
        for connection in self._connections:
            connection.close()
        for task in self._tasks:
            task.cancel()


def over_channels(request: Request, protocol: str, dial: Dial, ports: list[int]) -> None:
    _ChannelForward(request, protocol, dial, ports)

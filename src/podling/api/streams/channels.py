"""stdin, stdout, stderr, error and resize as numbered channels, over WebSocket or over SPDY."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import orjson

from podling.api.http import Request
from podling.api.streams import spdy, websocket
from podling.api.streams.link import Link
from podling.store.types import Object

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE = 255
"""WebSocket v5: the message names a channel that will get nothing more (KEP-4006)."""
STREAM_TYPES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
STREAMS_PATIENCE = 30.0
"""Seconds in which a SPDY client has to open its streams."""

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
V3, V2, V1 = "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"
BASE64_V4, BASE64_V1 = "v4.base64.channel.k8s.io", "base64.channel.k8s.io"
UNNAMED = ""
"""What a client speaks that names nothing: the first version, in binary."""


def resizes(protocol: str) -> bool:
    """Whether a SPDY client of that protocol has a channel for the size of its terminal."""
    return protocol in (V5, V4, V3)


def outcome(protocol: str, status: Object) -> bytes:
    """What the error channel says at the end: a Status, before version 4 its message and nothing of a success."""
    if protocol in (V5, V4, BASE64_V4):
        return orjson.dumps(status)
    return b"" if status.get("status") == "Success" else str(status.get("message", "")).encode()


class Receiver(Protocol):
    """What a session makes of what the client sends."""

    def received(self, channel: int, data: bytes) -> None: ...

    def ended(self, channel: int) -> None: ...

    def lost(self) -> None:
        """The client is gone."""
        ...


class Channels(Protocol):
    """One client's end of a remote command."""

    @property
    def link(self) -> Link: ...

    def attach(self, receiver: Receiver) -> None:
        """From now on `receiver` hears of everything, first of what has come already."""
        ...

    async def send(self, channel: int, data: bytes) -> None:
        """Returns when the client can take more."""
        ...

    async def finish(self, status: Object) -> None:
        """Sends the outcome on the error channel and ends the connection."""
        ...


class _Mailbox:
    """Keeps what comes before there is a receiver."""

    def __init__(self) -> None:
        self._receiver: Receiver | None = None
        self._early: list[Callable[[Receiver], None]] = []

    def attach(self, receiver: Receiver) -> None:
        self._receiver = receiver
        early, self._early = self._early, []
        for call in early:
            call(receiver)

    def tell(self, call: Callable[[Receiver], None]) -> None:
        if self._receiver is not None:
            call(self._receiver)
        else:
            self._early.append(call)


class WebSocketChannels:
    """The first byte of each message is its channel. An empty one on `first` tells that all is ready."""

    def __init__(self, request: Request, protocol: str, first: int = ERROR) -> None:
        self._protocol = protocol
        self._socket = websocket.WebSocket(encoded=protocol in (BASE64_V4, BASE64_V1))
        self._mailbox = _Mailbox()
        self._gone = asyncio.Event()
        self.link = Link(request, self._bytes, self._lost)
        accepted = websocket.accept(request.header(b"sec-websocket-key"), protocol)
        self.link.write(accepted + self._socket.message(bytes((first,))))

    def attach(self, receiver: Receiver) -> None:
        self._mailbox.attach(receiver)

    def _bytes(self, data: bytes) -> None:
        try:
            for message in self._socket.receive(data):
                self._message(message)
        except websocket.ProtocolError:
            self.link.close()
        self.link.write(self._socket.outgoing)
        self._socket.outgoing = b""
        if self._socket.closed:
            self.link.close()

    def _message(self, message: bytes) -> None:
        if not message:
            return
        channel, data = message[0], message[1:]
        if channel == CLOSE and data and self._protocol == V5:
            self._mailbox.tell(lambda r: r.ended(data[0]))
        elif data:
            self._mailbox.tell(lambda r: r.received(channel, data))

    def _lost(self) -> None:
        self._gone.set()
        self._mailbox.tell(lambda r: r.lost())

    async def send(self, channel: int, data: bytes) -> None:
        self.link.write(self._socket.message(bytes((channel,)) + data))
        await self.link.drain()

    async def finish(self, status: Object) -> None:
        if told := outcome(self._protocol, status):
            await self.send(ERROR, told)
        self.link.write(self._socket.close())
        await close_politely(self.link, self._gone)


class SpdyChannels:
    """Each channel is a stream that the client opens and names in its `streamtype` header."""

    def __init__(self, request: Request, protocol: str, wanted: frozenset[int]) -> None:
        self._protocol = protocol
        self._framing = spdy.Spdy()
        self._mailbox = _Mailbox()
        self._streams: dict[int, int] = {}
        self._channels: dict[int, int] = {}
        self._wanted = wanted if resizes(protocol) else wanted - {RESIZE}
        self._complete = asyncio.Event()
        self._gone = asyncio.Event()
        self.link = Link(request, self._bytes, self._lost)
        self.link.write(accept_spdy(protocol))

    async def complete(self) -> bool:
        """Whether the client has opened all the streams that it asked for, in time."""
        try:
            async with asyncio.timeout(STREAMS_PATIENCE):
                await self._complete.wait()
        except TimeoutError:
            self.link.close()
            return False
        return not self.link.closed

    def attach(self, receiver: Receiver) -> None:
        self._mailbox.attach(receiver)

    def _bytes(self, data: bytes) -> None:
        try:
            spdy.tell(self._framing, data, self, self.link.write)
        except spdy.ProtocolError:
            self.link.close()

    # What the framing tells of its streams

    def opened(self, stream: int, headers: dict[str, str]) -> None:
        channel = STREAM_TYPES.get(headers.get("streamtype", ""))
        if channel is None or channel not in self._wanted or channel in self._streams:
            self.link.write(self._framing.reset(stream))
            return
        self._streams[channel] = stream
        self._channels[stream] = channel
        self.link.write(self._framing.reply(stream))
        if self._wanted <= self._streams.keys():
            self._complete.set()

    def received(self, stream: int, data: bytes) -> None:
        channel = self._channels.get(stream)
        if channel is not None:
            self._mailbox.tell(lambda r: r.received(channel, data))

    def ended(self, stream: int) -> None:
        channel = self._channels.get(stream)
        if channel is not None:
            self._mailbox.tell(lambda r: r.ended(channel))

    def reset(self, stream: int) -> None:
        self.ended(stream)

    def _lost(self) -> None:
        self._gone.set()
        self._complete.set()
        self._mailbox.tell(lambda r: r.lost())

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams.get(channel)
        if stream is not None:
            self.link.write(self._framing.data(stream, data))
            await self.link.drain()

    async def finish(self, status: Object) -> None:
        for channel in (STDOUT, STDERR):
            if channel in self._streams:
                self.link.write(self._framing.data(self._streams[channel], b"", end=True))
        if ERROR in self._streams:
            self.link.write(self._framing.data(self._streams[ERROR], outcome(self._protocol, status), end=True))
        await self.link.drain()
        await close_politely(self.link, self._gone)


def accept_spdy(protocol: str) -> bytes:
    """The `101` that begins SPDY."""
    chosen = f"X-Stream-Protocol-Version: {protocol}\r\n" if protocol else ""
    head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    return f"{head}{chosen}\r\n".encode("latin-1")


async def close_politely(link: Link, gone: asyncio.Event, patience: float = 2.0) -> None:
    """Lets the client end the connection, so that it has read everything; ends it ourselves if it does not."""
    try:
        async with asyncio.timeout(patience):
            await gone.wait()
    except TimeoutError:
        link.close()

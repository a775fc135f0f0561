"""SPDY/3.1 framing for a server, sans I/O: bytes in, events out; calls in, bytes out.

Just what Kubernetes' clients use (github.com/moby/spdystream): streams opened by the client, data both ways,
half-close, reset and ping. Flow-control windows are not kept by either side; the connection under it pushes back.
Header blocks are compressed with one zlib context for the connection and the protocol's own dictionary
(draft-mbelshe-httpbis-spdy-00, section 2.6.10.1).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Protocol

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY, HEADERS = 1, 2, 3, 6, 7, 8
FIN = 0x01
VERSION = 0x8003
HEAD = 8
"""Bytes before a frame's payload."""
MAX_FRAME = 1 << 20
"""Longest payload taken: clients send at most 32 KiB at a time, and nobody may fill our memory."""
MAX_HEADERS = 64 << 10
"""Longest header block, decompressed."""
STREAM_MASK = 0x7FFFFFFF
INVALID_STREAM = 2
"""RST_STREAM status."""


class ProtocolError(Exception):
    """The other side does not speak SPDY/3.1; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    stream: int
    headers: dict[str, str]
    ended: bool


@dataclass(frozen=True, slots=True)
class DataReceived:
    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int


@dataclass(frozen=True, slots=True)
class PingReceived:
    """To be answered with `answer` at once."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Goaway:
    pass


Event = StreamOpened | DataReceived | StreamReset | PingReceived | Goaway


class Streams(Protocol):
    """What a server makes of a client's streams."""

    def opened(self, stream: int, headers: dict[str, str]) -> None: ...

    def received(self, stream: int, data: bytes) -> None: ...

    def ended(self, stream: int) -> None:
        """The client will send no more on it."""
        ...

    def reset(self, stream: int) -> None:
        """Neither side is to send on it any more."""
        ...


@cache
def _dictionary() -> bytes:
    return files("podling.api.streams").joinpath("spdy-dictionary.bin").read_bytes()


class Spdy:
    """The state of one connection's framing."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=_dictionary())
        self._deflate = zlib.compressobj(zdict=_dictionary())

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events that `data` completes. Raises `ProtocolError`."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEAD:
            length = int.from_bytes(buffer[5:HEAD], "big")
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes")
            if len(buffer) < HEAD + length:
                return
            word, flags = struct.unpack_from(">IB", buffer)
            payload = bytes(buffer[HEAD : HEAD + length])
            frame = bytes(buffer[: HEAD + length])
            del buffer[: HEAD + length]
            event = (
                self._control(word & 0xFFFF, flags, payload, frame)
                if word >> 31
                else DataReceived(word & STREAM_MASK, payload, bool(flags & FIN))
            )
            if event is not None:
                yield event

    def _control(self, kind: int, flags: int, payload: bytes, frame: bytes) -> Event | None:
        try:
            if kind == SYN_STREAM:
                stream = struct.unpack_from(">I", payload)[0] & STREAM_MASK
                return StreamOpened(stream, self._headers(payload[10:]), bool(flags & FIN))
            if kind == HEADERS:
                self._headers(payload[4:])  # the compression context must see every block
            elif kind == RST_STREAM:
                return StreamReset(struct.unpack_from(">I", payload)[0] & STREAM_MASK)
            elif kind == PING:
                return PingReceived(frame)
            elif kind == GOAWAY:
                return Goaway()
        except struct.error as error:
            raise ProtocolError(f"a short frame of type {kind}") from error
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise ProtocolError(f"headers that cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise ProtocolError("headers that are too long")
        strings = _strings(plain)
        return {name.lower(): value for name, value in zip(strings, strings, strict=False)}

    def reply(self, stream: int) -> bytes:
        """Accepts a stream, with no headers."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(SYN_REPLY, struct.pack(">I", stream) + block)

    def data(self, stream: int, data: bytes, *, end: bool = False) -> bytes:
        return struct.pack(">II", stream, (FIN << 24 if end else 0) | len(data)) + data

    def reset(self, stream: int, status: int = INVALID_STREAM) -> bytes:
        return _control(RST_STREAM, struct.pack(">II", stream, status))


def tell(framing: Spdy, data: bytes, streams: Streams, write: Callable[[bytes], object]) -> None:
    """Tells `streams` what the client's `data` completes; pings are answered. Raises `ProtocolError`."""
    for event in framing.receive(data):
        match event:
            case StreamOpened(stream, headers, ended):
                streams.opened(stream, headers)
                if ended:
                    streams.ended(stream)
            case DataReceived(stream, chunk, ended):
                if chunk:
                    streams.received(stream, chunk)
                if ended:
                    streams.ended(stream)
            case StreamReset(stream):
                streams.reset(stream)
            case PingReceived(answer):
                write(answer)
            case Goaway():
                pass


def _control(kind: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", VERSION, kind, len(payload)) + payload


def _strings(plain: bytes) -> Iterator[str]:
    """Names and values in turn; each has its length before it, the block their number."""
    position = 4
    while position + 4 <= len(plain):
        length = struct.unpack_from(">I", plain, position)[0]
        position += 4
        yield plain[position : position + length].decode("latin-1")
        position += length

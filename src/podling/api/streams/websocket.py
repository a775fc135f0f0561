"""A WebSocket (RFC 6455) on a connection that HTTP has given up; the framing is wsproto's."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import RemoteProtocolError

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_MESSAGE = 4 << 20
"""Bytes of a message in pieces; clients send at most 32 KiB."""
NORMAL_CLOSURE = 1000


_ZERO = ord("0")


class ProtocolError(Exception):
    """The other side broke the protocol; the connection cannot go on."""


def accept(key: str, protocol: str) -> bytes:
    """The `101` that answers a handshake."""
    token = base64.b64encode(hashlib.sha1(key.encode("latin-1") + _MAGIC, usedforsecurity=False).digest())
    chosen = b"Sec-WebSocket-Protocol: %b\r\n" % protocol.encode("latin-1") if protocol else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (token, chosen)
    )


class WebSocket:
    """The server's side, sans I/O. `outgoing` holds what has to be sent after a `receive`.

    With `encoded` messages are text, for browsers of old: a digit for the first byte (a channel), the rest in base64.
    """

    def __init__(self, *, encoded: bool = False) -> None:
        self._encoded = encoded
        self._connection = Connection(ConnectionType.SERVER)
        self._parts: list[bytes] = []
        self._size = 0
        self.closed = False
        self.outgoing = b""

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The messages that `data` completes, text as UTF-8. Raises `ProtocolError`."""
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, BytesMessage | TextMessage):
                    yield from self._message(event)
                elif isinstance(event, Ping):
                    if not self.closed:
                        self.outgoing += self._connection.send(event.response())
                elif isinstance(event, CloseConnection):
                    if not self.closed:
                        self.outgoing += self._connection.send(event.response())
                    self.closed = True
        except RemoteProtocolError as error:
            raise ProtocolError(str(error)) from error

    def _message(self, event: BytesMessage | TextMessage) -> Iterator[bytes]:
        part = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self._size += len(part)
        if self._size > MAX_MESSAGE:
            raise ProtocolError(f"a message of more than {MAX_MESSAGE} bytes")
        self._parts.append(part)
        if event.message_finished:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            yield _decoded(whole) if self._encoded and whole else whole

    def message(self, data: bytes) -> bytes:
        if self.closed:
            return b""
        if self._encoded:
            text = chr(_ZERO + data[0]) + base64.b64encode(data[1:]).decode()
            return self._connection.send(TextMessage(data=text))
        return self._connection.send(BytesMessage(data=data))

    def text(self, data: bytes) -> bytes:
        return b"" if self.closed else self._connection.send(TextMessage(data=data.decode()))

    def close(self) -> bytes:
        if self.closed:
            return b""
        self.closed = True
        return self._connection.send(CloseConnection(code=NORMAL_CLOSURE))


def _decoded(message: bytes) -> bytes:
    if message[0] < _ZERO:
        raise ProtocolError("no channel in front of a message")
    try:
        return bytes((message[0] - _ZERO,)) + base64.b64decode(message[1:], validate=True)
    except ValueError as error:
        raise ProtocolError(str(error)) from error

"""Answers that go on, over a WebSocket instead of HTTP, as browsers read them: watches, and logs."""

from __future__ import annotations

import base64
from collections.abc import Callable

from podling.api.http import MAX_UNSENT, Request
from podling.api.streams import websocket
from podling.api.streams.link import Link


def asks_for_websocket(request: Request) -> bool:
    return bool(request.upgrade) and request.header(b"upgrade").lower() == "websocket"


class OutputSocket:
    """What `podling.api.http.Stream` is over HTTP: what is written goes out as messages of bytes, in base64 where the
    client asks for that (`k8s.io/apiserver/pkg/util/wsstream`)."""

    def __init__(self, request: Request) -> None:
        self._socket = websocket.WebSocket()
        self._connection = request.connection
        self.on_close: Callable[[], None] | None = None
        self._link = Link(request, self._received, self._lost)
        offered = request.header(b"sec-websocket-protocol")
        chosen = offered if "," not in offered else ""
        self._encoded = chosen == "base64.binary.k8s.io"
        self._link.write(websocket.accept(request.header(b"sec-websocket-key"), chosen))

    def write(self, data: bytes) -> None:
        """Sends it; a reader who is too far behind loses the connection instead."""
        if self._connection.unsent > MAX_UNSENT:
            self._connection.abort()
            return
        self._link.write(self._messages(data))

    def _messages(self, data: bytes) -> bytes:
        return self._socket.text(base64.b64encode(data)) if self._encoded else self._socket.message(data)

    async def drain(self) -> None:
        await self._link.drain()

    def close(self) -> None:
        self.on_close = None
        self._link.write(self._socket.close())
        self._link.close()

    def _received(self, data: bytes) -> None:
        """Nothing is expected but the end."""
        try:
            for _ in self._socket.receive(data):
                pass
        except websocket.ProtocolError:
            self._link.close()
        self._link.write(self._socket.outgoing)
        self._socket.outgoing = b""
        if self._socket.closed:
            self._link.close()

    def _lost(self) -> None:
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()


class EventSocket(OutputSocket):
    """Of a watch: a message of text for each line."""

    def _messages(self, data: bytes) -> bytes:
        return b"".join(self._socket.text(line) for line in data.splitlines())

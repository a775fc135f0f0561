"""A watch over a WebSocket: one message for each event, as browsers read them."""

from __future__ import annotations

from collections.abc import Callable

from podling.api.http import MAX_UNSENT, Request
from podling.api.streams import websocket
from podling.api.streams.link import Link


def asks_for_websocket(request: Request) -> bool:
    return bool(request.upgrade) and request.header(b"upgrade").lower() == "websocket"


class EventSocket:
    """What `podling.api.http.Stream` is to a watch over HTTP."""

    def __init__(self, request: Request) -> None:
        self._socket = websocket.WebSocket()
        self._connection = request.connection
        self.on_close: Callable[[], None] | None = None
        self._link = Link(request, self._received, self._lost)
        offered = request.header(b"sec-websocket-protocol")
        chosen = offered if "," not in offered else ""
        self._link.write(websocket.accept(request.header(b"sec-websocket-key"), chosen))

    def write(self, data: bytes) -> None:
        """Sends lines; a reader who is too far behind loses the connection instead."""
        if self._connection.unsent > MAX_UNSENT:
            self._connection.abort()
            return
        self._link.write(b"".join(self._socket.text(line) for line in data.splitlines()))

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

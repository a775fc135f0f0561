"""A connection that ends leaves nothing behind that a garbage collection would have to find."""

import asyncio
import gc
import weakref

from podling.api.http import Connection, HttpServer, Request


class _Transport(asyncio.Transport):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


def test_a_watcher_that_leaves_is_forgotten_at_once() -> None:
    left: list[str] = []

    def serve(request: Request) -> None:
        stream = request.stream(200, "application/json")
        stream.on_close = lambda: left.append(f"gone, {stream.closed}")

    connection = Connection(HttpServer(serve))
    connection.connection_made(_Transport())
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    known = weakref.ref(connection)
    gc.disable()
    try:
        connection.connection_lost(None)
        del connection
        assert known() is None
    finally:
        gc.enable()
    assert left == ["gone, True"]

"""A connection that HTTP has given up: bytes both ways, with backpressure both ways."""

from __future__ import annotations

from collections.abc import Callable

from podling.api.http import Request


class Link:
    """`receive` gets what comes, `lost` is called once when the connection ends, whoever ends it."""

    def __init__(self, request: Request, receive: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._connection = request.connection
        self._lost = lost
        self._holds = 0
        self.closed = False
        self._transport = request.take_over(receive, self._ended)

    def _ended(self) -> None:
        self.closed = True
        self._lost()

    def write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Returns when the other side has taken most of what was written, or is gone."""
        await self._connection.drain()

    def hold(self) -> None:
        """Reads nothing more until as many `release` as `hold` were called."""
        self._holds += 1
        if self._holds == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def release(self) -> None:
        self._holds -= 1
        if self._holds == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """After what was written has been sent."""
        self._transport.close()

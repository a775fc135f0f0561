"""Requests that another server answers: how its answer, or the stream that it becomes, gets back to the client; and
answers that are read here."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import httptools

from podling.api.errors import ApiError
from podling.api.http import Request, Stream

CHUNK = 64 << 10
HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "content-length", "authorization", "host"),
    }
)
"""Headers of one connection only (RFC 9110, 7.6.1), and those that were meant for the API server."""


async def answer(request: Request, reader: asyncio.StreamReader) -> None:
    """Hands on an answer as it comes. Raises ApiError (502) where there is none."""
    await _Answer(request).run(reader)


class _Answer:
    """An HTTP answer on its way back; httptools calls the `on_*` methods."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._stream: Stream | None = None
        self._complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        kept = [(n, v) for n, v in self._headers if n.lower() not in HOP_BY_HOP and n.lower() != "content-type"]
        media_type = next((v for n, v in self._headers if n.lower() == "content-type"), "application/octet-stream")
        self._stream = self._request.stream(self._parser.get_status_code(), media_type, kept)

    def on_body(self, body: bytes) -> None:
        if self._stream is not None:
            self._stream.write(body)

    def on_message_complete(self) -> None:
        self._complete = True

    async def run(self, reader: asyncio.StreamReader) -> None:
        while not self._complete:
            data = await reader.read(CHUNK)
            if not data:
                break
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                if self._stream is None:
                    raise ApiError(502, "", f"error trying to reach service: {error}") from error
                break
            if self._stream is not None:
                if self._stream.closed:
                    return
                await self._stream.drain()
        if self._stream is None:
            raise ApiError(502, "", "error trying to reach service: EOF")
        self._stream.close()


async def tunnel(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes both ways until either side ends."""
    gone = asyncio.Event()
    transport = request.take_over(writer.write, gone.set)

    async def back() -> None:
        while data := await reader.read(CHUNK):
            transport.write(data)
            await request.connection.drain()

    returning, leaving = asyncio.ensure_future(back()), asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait([returning, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (returning, leaving):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await returning
        transport.close()


class CutShort(OSError):
    """The connection ended before the answer did."""


class Whole:
    """An answer that is read to its end; httptools calls the `on_*` methods. One without a length ends with the
    connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._complete = False
        self._has_end = False
        self.status = 0
        self.kind = ""
        """Its content type."""
        self.body = bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.kind = value.decode("latin-1")
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_end = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self._complete = True

    async def read(self, reader: asyncio.StreamReader, largest: int) -> None:
        while not self._complete and (data := await reader.read(CHUNK)):
            self._parser.feed_data(data)
            if len(self.body) > largest:
                raise OSError(f"more than {largest} bytes")
        if not self._complete and (self._has_end or not self.status):
            raise CutShort("unexpected EOF" if self.status else "EOF")


async def ask(
    address: str,
    port: int,
    request: bytes,
    *,
    largest: int,
    context: ssl.SSLContext | None = None,
    name: str | None = None,
) -> Whole:
    """The answer to a request that closes its connection; the caller bounds the time.

    `name` is what the server's certificate is checked for. Raises `OSError`, also for an answer of more than `largest`
    bytes, as `CutShort` for one that does not end; and `httptools.HttpParserError`.
    """
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
    try:
        writer.write(request)
        await writer.drain()
        whole = Whole()
        await whole.read(reader, largest)
        return whole
    finally:
        writer.close()


def any_certificate() -> ssl.SSLContext:
    """TLS with a pod: nobody tells who signs pods' certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

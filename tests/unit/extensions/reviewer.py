"""A webhook on the loopback: answers reviews over TLS."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from podling.auth import pki
from podling.store.types import Object


@asynccontextmanager
async def webhook(
    directory: Path, answer: Callable[[Object], Object], change: Object | None = None
) -> AsyncIterator[tuple[str, str]]:
    """A server that answers the request of a review with what `answer` says; gives its URL and its CA. `change` is made
    to the whole of what it answers."""
    keys = pki.ensure(directory / "pki", server_names=["127.0.0.1", "localhost"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(keys.server_cert, keys.server_key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        review = orjson.loads(await reader.readexactly(length))
        request = review.pop("request")
        body = orjson.dumps({**review, "response": {"uid": request["uid"], **answer(request)}, **(change or {})})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"https://127.0.0.1:{port}/hook", base64.b64encode(keys.ca_cert.read_bytes()).decode()
    finally:
        server.close()
        await server.wait_closed()

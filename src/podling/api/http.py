"""HTTP/1.1 for the API server: one `asyncio.Protocol` per connection, parsed by httptools.

A web framework would cost half of the throughput and give nothing that an API server needs; what it does need is
here: kept-alive and pipelined connections, chunked bodies, `Expect: 100-continue`, limits, client certificates,
streams that drop a reader who is too slow, and connections that a handler takes over after an upgrade.

An application is a function of a `Request`. It answers with `Request.respond`, `Request.stream` or
`Request.take_over`, at once (it then returns `None`) or in a coroutine that it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import itertools
import ssl
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

import httptools

MAX_BODY = 3 << 20
"""Bytes of a request body, as in Kubernetes (`MaxRequestBodyBytes`)."""
MAX_HEAD = 1 << 20
"""Bytes of the request line and headers together (Go's `DefaultMaxHeaderBytes`)."""
MAX_UNSENT = 16 << 20
"""Bytes that a stream's reader may lag behind before it is cut off."""
GZIP_FROM = 128 << 10
"""Answers longer than this are compressed for those who accept it, as Kubernetes does."""
PIECE = 128 << 10
"""Bytes that long answers are written by: whole, they would be copied and encrypted into ever new memory, and getting
that from the kernel costs more than the encryption."""
MAX_PIPELINED = 32
"""Requests of one connection that may wait behind the one in work; more are left in the socket."""

Observer = Callable[["Request", int], None]
"""Is told of every answer: the request and the status."""
Application = Callable[["Request"], Coroutine[Any, Any, None] | None]
Headers = Sequence[tuple[str, str]]
Certificate = Mapping[str, Any]
"""The shape of `ssl.SSLSocket.getpeercert()`, and under `FINGERPRINT` the SHA-256 of the whole in hexadecimal."""
FINGERPRINT = "sha256"

_LONGEST_AUDIT_ID = 64

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_NO_BODY = frozenset({204, 304})


class Pieces(NamedTuple):
    """A long body that is put together while it is written; `length` in bytes."""

    length: int
    parts: Iterable[bytes]


class Request:
    """A request as it was read; header names are in lower case, repeated headers joined by commas."""

    __slots__ = (
        "answered",
        "body",
        "connection",
        "headers",
        "info",
        "keep_alive",
        "method",
        "notices",
        "path",
        "query",
        "started",
        "upgrade",
        "warnings",
    )

    def __init__(self, connection: Connection, method: str, target: bytes, headers: dict[bytes, bytes]) -> None:
        path, _, query = target.partition(b"?")
        self.connection = connection
        self.method = method
        text = path.decode("latin-1")
        self.path = unquote(text) if "%" in text else text
        self.query = query.decode("latin-1")
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.upgrade = False
        self.answered = False
        self.started = time.perf_counter()
        self.notices: Headers = ()
        """Headers that go with the answer, whatever it is."""
        self.warnings: Sequence[str] = ()
        """What its sender is told besides, also when it is refused."""
        self.info: Any = None
        """For the application: what it made of the path."""

    def header(self, name: bytes) -> str:
        """A header's value, `""` if absent; `name` in lower case."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else ""

    @property
    def certificate(self) -> Certificate | None:
        """The client's verified certificate."""
        return self.connection.certificate

    def respond(
        self, status: int, body: bytes | Pieces, content_type: str = "application/json", headers: Headers = ()
    ) -> None:
        """Answers; compresses where that is wanted and pays."""
        length = body.length if isinstance(body, Pieces) else len(body)
        if length > GZIP_FROM and self._accepts_gzip():
            body = gzip.compress(_whole(body), compresslevel=1, mtime=0)
            headers = (*headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
        self.connection.respond(self, status, body, content_type, headers)

    def _accepts_gzip(self) -> bool:
        accepted = self.headers.get(b"accept-encoding", b"")
        return any(coding.strip() == b"gzip" for coding in accepted.split(b","))

    def stream(self, status: int, content_type: str, headers: Headers = ()) -> Stream:
        """Begins a chunked answer."""
        self.answered = True
        return Stream(self, status, content_type, headers)

    def take_over(self, receiver: Callable[[bytes], None], closed: Callable[[], None]) -> asyncio.Transport:
        """Ends HTTP on this connection: what comes is given to `receiver`, also what came already.

        The caller writes the answer (`101`) to the transport himself, before anything else.
        """
        self.answered = True
        return self.connection.take_over(receiver, closed)


def _lines(headers: Headers) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers]) if headers else ""


def _whole(body: bytes | Pieces) -> bytes:
    return b"".join(body.parts) if isinstance(body, Pieces) else body


class Stream:
    """A chunked answer in the making. `closed` is true when the reader is gone."""

    def __init__(self, request: Request, status: int, content_type: str, headers: Headers) -> None:
        self._request = request
        self._connection = request.connection
        self._head_only = request.method == "HEAD"
        self.on_close: Callable[[], None] | None = None
        """Called once when the reader goes away; not after `close()`."""
        extra = self._connection.general(request, headers) + _lines(request.notices) + _lines(headers)
        head = f"Content-Type: {content_type}\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"
        self._connection.write(_STATUS_LINES[status] + head.encode())
        self._connection.streaming = self
        self._connection.observe(request, status)

    @property
    def closed(self) -> bool:
        return self._connection.streaming is not self

    def write(self, data: bytes) -> None:
        """Sends a chunk; a reader who is too far behind loses the connection instead."""
        if self.closed or self._head_only or not data:
            return
        if self._connection.unsent > MAX_UNSENT:
            self._connection.abort()
            return
        self._connection.write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))

    def lost(self) -> None:
        """The reader is gone."""
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()

    async def drain(self) -> None:
        """Returns when the reader has caught up (or is gone): for whoever can wait instead of dropping."""
        await self._connection.drain()

    def close(self) -> None:
        """Ends the answer in order."""
        if self.closed:
            return
        self.on_close = None
        self._connection.streaming = None
        self._connection.write(b"0\r\n\r\n")
        self._connection.finish(self._request)


def _cut(body: bytes) -> Iterator[memoryview]:
    view = memoryview(body)
    return (view[start : start + PIECE] for start in range(0, len(view), PIECE))


def _verified(tls: ssl.SSLObject) -> Certificate | None:
    """The client's certificate as Python shows it, and its fingerprint; `None` where there is none."""
    shown, binary = tls.getpeercert(), tls.getpeercert(binary_form=True)
    if not shown or not binary:
        return None
    return {**shown, FINGERPRINT: hashlib.sha256(binary).hexdigest()}


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._receiver: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._early = bytearray()
        self._upgrading = False
        self._refused = False
        self._paused_writing: asyncio.Future[None] | None = None
        self.streaming: Stream | None = None
        self.certificate: Certificate | None = None
        self.peer = ""
        """The client's address."""
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._in_head = True
        self._head_size = 0
        self._body_size = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.opened(self)
        tls = cast("ssl.SSLObject | None", transport.get_extra_info("ssl_object"))
        if tls is not None:
            self.certificate = _verified(tls)
        peer = cast("tuple[str, int] | str | None", transport.get_extra_info("peername"))
        self.peer = peer[0] if isinstance(peer, tuple) else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.gone(self)
        stream, self.streaming = self.streaming, None
        if stream is not None:
            stream.lost()
        if self._on_lost is not None:
            self._on_lost()
        if self._paused_writing is not None and not self._paused_writing.done():
            self._paused_writing.set_result(None)
        self._waiting.clear()
        self._break_cycles()

    def _break_cycles(self) -> None:
        """Connections hold much and come by the thousand: they go when they end, not with a collection later."""
        self._parser = cast(httptools.HttpRequestParser, None)
        self._current = self._receiver = self._on_lost = None

    def pause_writing(self) -> None:
        if self._paused_writing is None:
            self._paused_writing = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        paused, self._paused_writing = self._paused_writing, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver(data)
        elif self._upgrading:
            self._early += data
        elif not self._refused:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[cast(int, upgrade.args[0]) :])
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(400, str(error))
        else:
            self._count_head(len(data))

    def _count_head(self, size: int) -> None:
        """Counts what came while the head is not complete: the parser itself would keep any amount."""
        if self._in_head:
            self._head_size += size
            if self._head_size > MAX_HEAD and not self._refused:
                self._refuse(431, "Request Header Fields Too Large")

    def _after_upgrade(self, rest: bytes) -> None:
        if self._receiver is not None:
            if rest:
                self._receiver(rest)
        else:
            self._upgrading = True
            self._early += rest

    # httptools callbacks

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        before = self._headers.get(name)
        self._headers[name] = value if before is None else b"%b, %b" % (before, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if not self._refused and self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        if self._body_size <= MAX_BODY:
            self._body.append(body)
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        if self._refused:
            return
        request = Request(self, self._parser.get_method().decode(), self._target, self._headers)
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request.keep_alive = self._parser.should_keep_alive()
        request.upgrade = self._parser.should_upgrade()
        too_large = self._body_size > MAX_BODY
        self._begin()
        if too_large:
            self._refuse_body(request)
        elif self._current is None:
            self._run(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= MAX_PIPELINED:
                self._transport.pause_reading()

    def _refuse_body(self, request: Request) -> None:
        self._current = request
        message = f"Request entity too large: limit is {MAX_BODY}"
        body = (
            '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
            f'"message":"{message}","reason":"RequestEntityTooLarge","code":413}}\n'
        )
        self.respond(request, 413, body.encode(), "application/json", ())

    def _refuse(self, status: int, message: str) -> None:
        self._refused = True
        body = f"{status} {message}".encode()
        head = f"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(_STATUS_LINES[status] + head.encode() + body)
        self._transport.close()

    # answering

    def _run(self, request: Request) -> None:
        self._current = request
        self._server.run(request)

    def respond(self, request: Request, status: int, body: bytes | Pieces, content_type: str, headers: Headers) -> None:
        request.answered = True
        self.observe(request, status)
        extra = self.general(request, headers) + _lines(request.notices) + _lines(headers)
        if not self._keeps(request):
            extra += "Connection: close\r\n"
        length = body.length if isinstance(body, Pieces) else len(body)
        about = "" if status in _NO_BODY else f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n"
        head = _STATUS_LINES[status] + f"{about}{extra}\r\n".encode()
        if request.method == "HEAD" or status in _NO_BODY:
            self.write(head)
        elif length <= PIECE:
            self.write(head + _whole(body))
        else:
            self.write(head)
            for piece in body.parts if isinstance(body, Pieces) else _cut(body):
                self.write(piece)
        self.finish(request)

    def general(self, request: Request, headers: Headers) -> str:
        """Headers of every answer, unless it has them itself: when, under which id, and that it is not to be kept."""
        number = self._server.next_number()
        given = request.headers.get(b"audit-id")
        audit = given[:_LONGEST_AUDIT_ID].decode("latin-1") if given else f"{self._server.audit_ids}{number:012x}"
        dated = f"Audit-Id: {audit}\r\nDate: {self._server.date()}\r\n"
        if headers:
            names = {name.lower() for name, _ in headers}
            if "date" in names:
                dated = f"Audit-Id: {audit}\r\n"
            if "cache-control" in names:
                return dated
        return f"{dated}Cache-Control: no-cache, private\r\n"

    def observe(self, request: Request, status: int) -> None:
        if self._server.observer is not None:
            self._server.observer(request, status)

    def finish(self, request: Request) -> None:
        """The answer is complete: the next request, or the end of the connection."""
        self._current = None
        if not self._keeps(request):
            self._transport.close()
        elif self._waiting:
            if len(self._waiting) == MAX_PIPELINED:
                self._transport.resume_reading()
            self._run(self._waiting.popleft())

    def _keeps(self, request: Request) -> bool:
        return request.keep_alive and not request.upgrade

    def write(self, data: bytes | memoryview) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    @property
    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    async def drain(self) -> None:
        while self._paused_writing is not None:
            await self._paused_writing
            if self._transport.is_closing():
                return

    def abort(self) -> None:
        self._transport.abort()

    def take_over(self, receiver: Callable[[bytes], None], closed: Callable[[], None]) -> asyncio.Transport:
        self._receiver = receiver
        self._on_lost = closed
        if self._early:
            early = bytes(self._early)
            self._early.clear()
            asyncio.get_running_loop().call_soon(receiver, early)
        return self._transport

    def shut_down(self) -> None:
        """Ends the connection as soon as that does no harm: streams at once, an answer in work first."""
        if self.streaming is not None:
            self.streaming.close()
        if self._current is None or self._receiver is not None:
            self._transport.close()
        else:
            self._current.keep_alive = False


class HttpServer:
    """Listening sockets and their connections."""

    def __init__(self, application: Application, observer: Observer | None = None) -> None:
        self._application = application
        self.observer = observer
        self._connections: set[Connection] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._empty: asyncio.Event = asyncio.Event()
        self.next_number = itertools.count(1).__next__
        self.audit_ids = str(uuid.uuid4())[:24]
        """How the ids of all requests begin that do not bring one."""
        self._second = 0
        self._date = ""

    def date(self) -> str:
        """The machine's time, as HTTP writes it."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def run(self, request: Request) -> None:
        """Starts a request. Its work goes on when the client leaves: a write begun is a write finished."""
        work = self._application(request)
        if work is not None:
            task = asyncio.get_running_loop().create_task(work)
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    def _connection(self) -> Connection:
        return Connection(self)

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listens; returns the port (a free one for 0). Raises `OSError`."""
        server = await asyncio.get_running_loop().create_server(
            self._connection, host, port, ssl=tls, reuse_address=True, backlog=512
        )
        self._servers.append(server)
        return cast(int, server.sockets[0].getsockname()[1])

    async def listen_on(self, sock: Any, *, tls: ssl.SSLContext | None = None) -> None:
        """Serves a listening socket that was made elsewhere."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(self._connection, sock=sock, ssl=tls, backlog=512))

    async def close(self, *, grace: float = 2.0) -> None:
        """Stops listening, lets answers in work finish for `grace` seconds, and closes the rest."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.shut_down()
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace)
        for connection in list(self._connections):
            connection.abort()

"""exec, attach and port-forward against real processes and sockets, over every protocol that clients speak."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
import uvloop
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from podling.api.errors import ApiError
from podling.api.http import HttpServer, Request
from podling.api.streams import spdy
from podling.api.streams.backend import Process
from podling.api.streams.events import OutputSocket
from podling.api.streams.negotiation import serve_port_forward, serve_remote_command, wanted
from podling.api.streams.websocket import WebSocket
from support.system import wait_until


@dataclass
class LocalProcess:
    """A process of this machine in the shape that the node gives."""

    child: subprocess.Popen[bytes]
    stdin: int | None
    stdout: int | None
    stderr: int | None
    size: tuple[int, int] | None = None

    async def wait(self) -> int:
        code = await asyncio.to_thread(self.child.wait)
        return code if code >= 0 else 128 - code

    async def resize(self, width: int, height: int) -> None:
        self.size = (width, height)

    async def kill(self) -> None:
        os.killpg(self.child.pid, signal.SIGKILL)


class Attachment(LocalProcess):
    """To something that goes on when nobody looks at it any more."""

    async def wait(self) -> int:
        return await asyncio.get_running_loop().create_future()

    async def kill(self) -> None:
        pass


def run(script: str, *, stdin: bool, tty: bool) -> LocalProcess:
    if tty:
        master, slave = pty.openpty()
        child = subprocess.Popen(
            ["sh", "-c", script],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        return LocalProcess(child, None, master, None)
    pipes = [os.pipe() for _ in range(3)]
    child = subprocess.Popen(
        ["sh", "-c", script],
        stdin=pipes[0][0] if stdin else subprocess.DEVNULL,
        stdout=pipes[1][1],
        stderr=pipes[2][1],
        start_new_session=True,
    )
    for unused in (pipes[0][0], pipes[1][1], pipes[2][1]):
        os.close(unused)
    if not stdin:
        os.close(pipes[0][1])
    return LocalProcess(child, pipes[0][1] if stdin else None, pipes[1][0], pipes[2][0])


@dataclass
class Server:
    port: int
    processes: list[LocalProcess]


@contextlib.asynccontextmanager
async def serving(
    script: str = "", dial: Callable[[int], Awaitable[socket.socket]] | None = None, *, attached: bool = False
) -> AsyncGenerator[Server]:
    processes: list[LocalProcess] = []

    async def handle(request: Request) -> None:
        query = parse_qs(request.query, keep_blank_values=True)
        try:
            if dial is not None:
                serve_port_forward(request, dial, query)
                return
            streams = wanted(query)

            async def start() -> Process:
                if script == "missing":
                    raise ApiError(500, "InternalError", "no such program")
                process = run(script, stdin=streams.stdin, tty=streams.tty and not attached)
                processes.append(process)
                if not attached:
                    return process
                return Attachment(process.child, process.stdin, process.stdout, process.stderr)

            await serve_remote_command(request, start, streams)
        except ApiError as error:
            request.respond(error.code, orjson.dumps(error.status()), headers=error.headers)

    def application(request: Request) -> Coroutine[Any, Any, None]:
        return handle(request)

    server = HttpServer(application)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield Server(port, processes)
    finally:
        await server.close(grace=0)
        async with asyncio.timeout(5):
            for process in processes:
                await process.wait()


class WebSocketClient:
    """The client's end of a WebSocket, message by message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.reader, self.writer, self.head = reader, writer, head
        self._connection = Connection(ConnectionType.CLIENT)
        self._messages: list[bytes] = []
        self.closed = False

    @classmethod
    async def open(cls, port: int, query: str, protocol: str) -> WebSocketClient:
        key = base64.b64encode(os.urandom(16)).decode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"{f'Sec-WebSocket-Protocol: {protocol}' if protocol else 'X-None: 1'}\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        return cls(reader, writer, head)

    def send(self, data: bytes, *, text: bool = False) -> None:
        message = TextMessage(data=data.decode()) if text else BytesMessage(data=data)
        self.writer.write(self._connection.send(message))

    async def messages(self) -> AsyncGenerator[bytes]:
        part = b""
        while data := await self.reader.read(65536):
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, BytesMessage | TextMessage):
                    part += event.data.encode() if isinstance(event.data, str) else bytes(event.data)
                    if event.message_finished:
                        yield part
                        part = b""
                elif isinstance(event, CloseConnection):
                    self.writer.write(self._connection.send(event.response()))
                    self.writer.close()
                    return

    async def collect(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        async for message in self.messages():
            found[message[0]] = found.get(message[0], b"") + message[1:]
        return found


class SpdyClient:
    """The client's end of SPDY/3.1: opens streams, gathers what each one gets."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        dictionary = files("podling.api.streams").joinpath("spdy-dictionary.bin").read_bytes()
        self._compress = zlib.compressobj(zdict=dictionary)
        self._send = send
        self._framing = spdy.Spdy()
        self._next = 1
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()

    def open(self, **headers: str) -> int:
        stream, self._next = self._next, self._next + 2
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name, value):
                block += struct.pack(">I", len(text)) + text.encode()
        packed = self._compress.compress(block) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        payload = struct.pack(">IIH", stream, 0, 0) + packed
        self._send(struct.pack(">HHI", 0x8003, spdy.SYN_STREAM, len(payload)) + payload)
        return stream

    def write(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self._send(self._framing.data(stream, data, end=end))

    def receive(self, data: bytes) -> None:
        for event in self._framing.receive(data):
            if isinstance(event, spdy.DataReceived):
                self.data[event.stream] = self.data.get(event.stream, b"") + event.data
                if event.ended:
                    self.ended.add(event.stream)
            elif isinstance(event, spdy.StreamReset):
                self.reset.add(event.stream)


async def open_spdy(
    port: int, query: str, protocol: str
) -> tuple[SpdyClient, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n"
        f"{f'X-Stream-Protocol-Version: {protocol}' if protocol else 'X-None: 1'}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101"), head
    return SpdyClient(writer.write), reader, writer


async def read_until(client: SpdyClient, reader: asyncio.StreamReader, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            data = await reader.read(65536)
            assert data, "the server ended the connection"
            client.receive(data)


def test_output_and_exit_code_arrive_on_their_channels() -> None:
    async def scenario() -> None:
        async with serving("echo out; echo err >&2; exit 3") as server:
            client = await WebSocketClient.open(server.port, "stdout=true&stderr=true", "v5.channel.k8s.io")
            assert "Sec-WebSocket-Protocol: v5.channel.k8s.io" in client.head
            found = await client.collect()
            assert (found[1], found[2]) == (b"out\n", b"err\n")
            status = orjson.loads(found[3])
            assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]

    uvloop.run(scenario())


@pytest.mark.parametrize("protocol", ["", "channel.k8s.io", "soap.k8s.io, channel.k8s.io"])
def test_before_version_4_the_error_channel_tells_a_sentence(protocol: str) -> None:
    async def scenario() -> None:
        sentence = b"command terminated with non-zero exit code: exit status 3"
        for command, words in (("echo out; exit 3", sentence), ("true", None)):
            async with serving(command) as server:
                client = await WebSocketClient.open(server.port, "stdout=true", protocol)
                assert ("Sec-WebSocket-Protocol: channel.k8s.io" in client.head) is bool(protocol)
                assert (await client.collect()).get(3) == words

    uvloop.run(scenario())


@pytest.mark.parametrize("protocol", ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"])
def test_channels_in_base64_are_text(protocol: str) -> None:
    async def scenario() -> None:
        async with serving("head -c 5; exit 1") as server:
            client = await WebSocketClient.open(server.port, "stdin=1&stdout=1", protocol)
            client.send(b"0" + base64.b64encode(b"hello"), text=True)
            found = [(message[:1], base64.b64decode(message[1:])) async for message in client.messages()]
            assert (b"1", b"hello") in found
            assert (found[-1][0], b"exit status 1" in found[-1][1]) == (b"3", True)
            assert found[-1][1].startswith(b"{") is protocol.startswith("v4.")

    uvloop.run(scenario())


def test_stdin_ends_when_the_client_closes_its_channel() -> None:
    async def scenario() -> None:
        async with serving("cat") as server:
            client = await WebSocketClient.open(server.port, "stdin=1&stdout=1", "v5.channel.k8s.io")
            client.send(b"\x00hello")
            client.send(b"\xff\x00")
            found = await client.collect()
            assert found[1] == b"hello"
            assert orjson.loads(found[3])["status"] == "Success"

    uvloop.run(scenario())


@pytest.mark.parametrize("size", [8 << 20])
def test_much_data_passes_unharmed_both_ways(size: int) -> None:
    async def scenario() -> None:
        payload = os.urandom(size)
        async with serving("cat") as server:
            client = await WebSocketClient.open(server.port, "stdin=1&stdout=1", "v5.channel.k8s.io")

            async def feed() -> None:
                for start in range(0, size, 32000):
                    client.send(b"\x00" + payload[start : start + 32000])
                    await client.writer.drain()
                client.send(b"\xff\x00")

            feeding = asyncio.ensure_future(feed())
            found = await client.collect()
            await feeding
            assert found[1] == payload

    uvloop.run(scenario())


def test_a_terminal_echoes_resizes_and_reports_its_end() -> None:
    async def scenario() -> None:
        async with serving("read line; echo got $line; exit 7") as server:
            client = await WebSocketClient.open(server.port, "stdin=1&stdout=1&tty=1", "v4.channel.k8s.io")
            client.send(b'\x04{"Width":120,"Height":40}')
            client.send(b"\x00word\n")
            found = await client.collect()
            assert b"got word\r\n" in found[1]
            assert orjson.loads(found[3])["details"]["causes"][0]["message"] == "7"
            assert server.processes[0].size == (120, 40)

    uvloop.run(scenario())


def test_a_process_ends_with_its_client() -> None:
    async def scenario() -> None:
        async with serving("echo ready; sleep 1000") as server:
            client = await WebSocketClient.open(server.port, "stdout=1", "v5.channel.k8s.io")
            messages = client.messages()
            assert [await anext(messages), await anext(messages)] == [b"\x01", b"\x01ready\n"]
            client.writer.close()
            assert await server.processes[0].wait() == 128 + signal.SIGKILL

    uvloop.run(scenario())


@pytest.mark.parametrize("query", ["stdin=1&stdout=1&stderr=1", "stdin=1&stdout=1&tty=1"])
def test_who_stops_watching_leaves_nothing_behind_and_ends_nothing(query: str) -> None:
    async def scenario() -> None:
        async with serving("echo ready; read never", attached=True) as server:
            client = await WebSocketClient.open(server.port, query, "v5.channel.k8s.io")
            messages = client.messages()
            assert [await anext(messages), await anext(messages)] == [b"\x01", b"\x01ready\n"]
            process = server.processes[0]
            assert process.stdin is not None
            spare = os.dup(process.stdin)  # else it would end with its input
            client.writer.close()
            ours = (process.stdin, process.stdout, process.stderr)
            await asyncio.to_thread(wait_until, lambda: not any(map(_is_open, ours)))
            assert process.child.poll() is None
            os.close(spare)

    uvloop.run(scenario())


def _is_open(descriptor: int | None) -> bool:
    assert descriptor is not None
    return Path(f"/proc/self/fd/{descriptor}").exists()


def test_a_background_child_that_holds_the_pipe_does_not_hold_the_client() -> None:
    async def scenario() -> None:
        async with serving("sleep 30 & echo $!") as server:
            client = await WebSocketClient.open(server.port, "stdout=1", "v5.channel.k8s.io")
            async with asyncio.timeout(5):
                found = await client.collect()
            os.kill(int(found[1]), signal.SIGKILL)

    uvloop.run(scenario())


def test_what_cannot_be_started_is_told_on_the_error_channel() -> None:
    async def scenario() -> None:
        async with serving("missing") as server:
            client = await WebSocketClient.open(server.port, "stdout=1", "v5.channel.k8s.io")
            status = orjson.loads((await client.collect())[3])
            assert (status["status"], status["message"]) == ("Failure", "no such program")

    uvloop.run(scenario())


@pytest.mark.parametrize("protocol", ["", "binary.k8s.io", "base64.binary.k8s.io"])
def test_logs_are_messages_of_bytes(protocol: str) -> None:
    def application(request: Request) -> None:
        stream = OutputSocket(request)
        stream.write(b"one\ntwo\n")
        stream.close()

    async def scenario() -> None:
        server = HttpServer(application)
        client = await WebSocketClient.open(await server.listen("127.0.0.1", 0), "", protocol)
        messages = [message async for message in client.messages()]
        assert messages == [base64.b64encode(b"one\ntwo\n") if protocol.startswith("base64") else b"one\ntwo\n"]
        await server.close(grace=0)

    uvloop.run(scenario())


@pytest.mark.parametrize("protocol", ["", "channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io"])
def test_older_spdy_clients_are_served_too(protocol: str) -> None:
    async def scenario() -> None:
        async with serving("cat; exit 2") as server:
            client, reader, writer = await open_spdy(server.port, "stdin=1&stdout=1", protocol)
            error, stdin, stdout = (client.open(streamtype=kind) for kind in ("error", "stdin", "stdout"))
            client.write(stdin, b"hello", end=True)
            await read_until(client, reader, lambda: error in client.ended)
            assert (client.data[stdout], client.data[error]) == (
                b"hello",
                b"command terminated with non-zero exit code: exit status 2",
            )
            writer.close()

    uvloop.run(scenario())


def test_the_same_over_spdy() -> None:
    async def scenario() -> None:
        async with serving("cat; echo err >&2; exit 4") as server:
            query = "stdin=true&stdout=true&stderr=true"
            client, reader, writer = await open_spdy(server.port, query, "v4.channel.k8s.io, v3.channel.k8s.io")
            error, stdin = client.open(streamtype="error"), client.open(streamtype="stdin")
            stdout, stderr = client.open(streamtype="stdout"), client.open(streamtype="stderr")
            client.write(stdin, b"through", end=True)
            await read_until(client, reader, lambda: error in client.ended)
            assert (client.data[stdout], client.data[stderr]) == (b"through", b"err\n")
            assert orjson.loads(client.data[error])["details"]["causes"][0]["message"] == "4"
            writer.close()

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("query", "protocol", "code"),
    [("", "v5.channel.k8s.io", "400"), ("stdout=1", "soap.k8s.io", "400")],
)
def test_what_cannot_be_served_is_refused_before_the_upgrade(query: str, protocol: str, code: str) -> None:
    async def scenario() -> None:
        async with serving("true") as server:
            client = await WebSocketClient.open(server.port, query, protocol)
            assert client.head.split()[1] == code
            client.writer.close()

    uvloop.run(scenario())


def test_a_ping_that_crosses_our_farewell_needs_no_answer() -> None:
    server = WebSocket()
    client = Connection(ConnectionType.CLIENT)
    server.close()
    assert list(server.receive(client.send(Ping(payload=b"still there?")))) == []
    assert server.outgoing == b""


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 64, b"\x80\x03\x00\x01\x00\xff\xff\xff" * 4, b"\x81\xff" + b"\xff" * 200]
)
@pytest.mark.parametrize("kind", ["spdy", "websocket"])
def test_garbage_ends_the_connection_and_nothing_else(garbage: bytes, kind: str) -> None:
    async def scenario() -> None:
        async with serving("cat") as server:
            if kind == "spdy":
                _, reader, writer = await open_spdy(server.port, "stdin=1&stdout=1", "v4.channel.k8s.io")
            else:
                client = await WebSocketClient.open(server.port, "stdin=1&stdout=1", "v5.channel.k8s.io")
                reader, writer = client.reader, client.writer
            writer.write(garbage)
            writer.write_eof()
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()

    uvloop.run(scenario())


@contextlib.asynccontextmanager
async def echo_server() -> AsyncGenerator[Callable[[int], Awaitable[socket.socket]]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"<" + await reader.read() + b">")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]

    async def dial(wanted_port: int) -> socket.socket:
        if wanted_port != 8080:
            raise ConnectionRefusedError(111, "Connection refused")
        connection = socket.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        return connection

    async with server:
        yield dial


async def forwarded(client: SpdyClient, read: Callable[[Callable[[], bool]], Awaitable[None]]) -> None:
    for request in ("0", "1"):
        error = client.open(streamtype="error", port="8080", requestid=request)
        data = client.open(streamtype="data", port="8080", requestid=request)
        client.write(data, b"x" * 100_000, end=True)
        await read(lambda: error in client.ended and data in client.ended)  # noqa: B023  read returns before the next
        assert client.data[data] == b"<" + b"x" * 100_000 + b">"
        assert not client.data.get(error)
    error = client.open(streamtype="error", port="9", requestid="2")
    client.open(streamtype="data", port="9", requestid="2")
    await read(lambda: error in client.ended)
    assert b"connection refused" in client.data[error]


def test_ports_are_forwarded_over_spdy() -> None:
    async def scenario() -> None:
        async with echo_server() as dial, serving(dial=dial) as server:
            client, reader, writer = await open_spdy(server.port, "", "portforward.k8s.io")
            await forwarded(client, lambda done: read_until(client, reader, done))
            writer.close()

    uvloop.run(scenario())


def test_ports_are_forwarded_over_spdy_inside_websocket() -> None:
    async def scenario() -> None:
        async with echo_server() as dial, serving(dial=dial) as server:
            outer = await WebSocketClient.open(server.port, "", "SPDY/3.1+portforward.k8s.io")
            client = SpdyClient(outer.send)
            messages = outer.messages()

            async def read(done: Callable[[], bool]) -> None:
                async with asyncio.timeout(10):
                    while not done():
                        client.receive(await anext(messages))

            await forwarded(client, read)
            outer.writer.close()

    uvloop.run(scenario())


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", ""])
def test_ports_are_forwarded_over_websocket_channels(protocol: str) -> None:
    async def scenario() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello " + await reader.readline())
            await writer.drain()
            writer.close()

        pod = await asyncio.start_server(greet, "127.0.0.1", 0)

        async def dial(port: int) -> socket.socket:
            connection = socket.socket()
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, pod.sockets[0].getsockname())
            return connection

        async with pod, serving(dial=dial) as server:
            client = await WebSocketClient.open(server.port, "ports=80", protocol)
            client.send(b"\x00you\n")
            found = await client.collect()
            assert found[0] == struct.pack("<H", 80) + b"hello you\n"
            assert found[1] == struct.pack("<H", 80)

    uvloop.run(scenario())

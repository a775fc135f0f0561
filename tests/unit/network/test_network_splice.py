"""Two connections joined, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from podling.network.splice import Listener, dial

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def settled() -> None:
    """Lets the loop see every end of a connection that is on its way; on loopback none takes time."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def spliced(
    serve: Serve, delay: float = 0.0
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's streams to a listener that is spliced to `serve`."""
    served: list[asyncio.Task[None]] = []

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        await serve(reader, writer)
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    front = listening()

    async def later(_: socket.socket) -> socket.socket:
        await asyncio.sleep(delay)
        return await dial("127.0.0.1", port)

    listener = await Listener.start(front, later)
    reader, writer = await asyncio.open_connection(*front.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        listener.close()
        server.close()
        await asyncio.gather(*served)
        await settled()


def test_what_one_side_says_the_other_hears() -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async def work() -> bytes:
        async with spliced(upper) as (reader, writer):
            writer.write(b"hello\n")
            return await reader.read()

    assert asyncio.run(work()) == b"HELLO\n"


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_what_a_client_says_before_there_is_anybody_to_hear_it_is_not_lost(size: int) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.readexactly(size)
        writer.write(str(len(heard)).encode())
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    async def work() -> bytes:
        async with spliced(count, delay=0.05) as (reader, writer):
            writer.write(b"x" * size)
            return await reader.read()

    assert asyncio.run(work()) == str(size).encode()


def test_both_sides_are_closed_when_both_ended_before_they_met() -> None:
    closed: asyncio.Future[None]

    async def work() -> bytes:
        nonlocal closed
        closed = asyncio.get_running_loop().create_future()

        async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"bye")
            writer.write_eof()
            assert await reader.read() == b"hi"
            writer.close()
            closed.set_result(None)

        async with spliced(short, delay=0.05) as (reader, writer):
            writer.write(b"hi")
            writer.write_eof()
            said = await reader.read()
            await closed
            return said

    assert asyncio.run(work()) == b"bye"


def test_a_client_that_has_said_everything_still_gets_its_answer() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())
        writer.close()

    async def work() -> bytes:
        async with spliced(count) as (reader, writer):
            writer.write(b"x" * 1_000_000)
            writer.write_eof()
            return await reader.read()

    assert asyncio.run(work()) == b"1000000"


def test_a_server_that_has_said_everything_still_hears() -> None:
    heard: asyncio.Future[bytes]

    async def work() -> tuple[bytes, bytes]:
        nonlocal heard
        heard = asyncio.get_running_loop().create_future()

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"welcome")
            writer.write_eof()
            heard.set_result(await reader.read())
            writer.close()

        async with spliced(greet) as (reader, writer):
            said = await reader.read()
            writer.write(b"thanks")
            writer.write_eof()
            return said, await heard

    assert asyncio.run(work()) == (b"welcome", b"thanks")


def test_a_slow_reader_slows_the_writer_instead_of_filling_memory() -> None:
    async def work() -> tuple[int, int]:
        sent = 0
        go = asyncio.Event()
        done = asyncio.Event()

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.transport.set_write_buffer_limits(0)
            for _ in range(1000):
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
                if sent == 65536:
                    go.set()
            writer.close()
            done.set()

        async with spliced(pour) as (reader, _):
            await go.wait()
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.05)
            stalled = sent
            total = 0
            while piece := await reader.read(1 << 20):
                total += len(piece)
            await done.wait()
            return stalled, total

    stalled, total = asyncio.run(work())
    assert total == 65_536_000
    assert stalled < total / 2


def test_a_reset_is_passed_on_as_a_reset() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def work() -> None:
        async with spliced(slam) as (reader, writer):
            writer.write(b"x")
            await reader.read()

    with pytest.raises(ConnectionResetError):
        asyncio.run(work())


def test_a_client_is_reset_when_there_is_nobody_to_talk_to() -> None:
    async def nobody(_: socket.socket) -> socket.socket:
        raise ConnectionRefusedError

    async def work() -> None:
        front = listening()
        listener = await Listener.start(front, nobody)
        reader, writer = await asyncio.open_connection(*front.getsockname())
        try:
            await reader.read()
        finally:
            writer.close()
            listener.close()
            await settled()

    with pytest.raises(ConnectionResetError):
        asyncio.run(work())


def test_many_connections_at_once_do_not_mix() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async def work() -> list[bool]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=500)
        port = server.sockets[0].getsockname()[1]
        front = listening()
        listener = await Listener.start(front, lambda _: dial("127.0.0.1", port))
        address = front.getsockname()

        async def ask(number: int) -> bool:
            reader, writer = await asyncio.open_connection(*address)
            said = f"{number}".encode() * 2000
            writer.write(said)
            writer.write_eof()
            heard = await reader.read()
            writer.close()
            return heard == said

        same = await asyncio.gather(*(ask(number) for number in range(200)))
        listener.close()
        server.close()
        await settled()
        return list(same)

    assert all(asyncio.run(work()))

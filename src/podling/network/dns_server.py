"""Answers DNS questions over UDP and TCP; asks the host for names that are not the cluster's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from podling.network.dns import (
    Answer,
    BadQuery,
    ClusterNames,
    Code,
    Elsewhere,
    Query,
    Type,
    address_record,
    encode_response,
    parse_query,
)

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses (IPv4 and IPv6) that the host knows for a name; [] for none. Raises `OSError` when it cannot tell."""

_KEEP_FOUND = 30.0
_KEEP_MISSING = 5.0
_KEEP_AT_MOST = 4096
_IDLE = 10.0
"""Seconds after which a silent TCP client is left."""


class HostNames:
    """The host's resolver with a small memory, so that a busy client does not ask the host each time. Questions for one
    name that come together are asked once."""

    def __init__(self, resolve: Resolve, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolve = resolve
        self._clock = clock
        self._known: dict[str, tuple[float, Sequence[str]]] = {}
        self._asked: dict[str, asyncio.Task[Sequence[str]]] = {}

    async def addresses(self, name: str) -> Sequence[str]:
        """Raises `OSError`."""
        until, addresses = self._known.get(name, (0.0, ()))
        if until > self._clock():
            return addresses
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asked.pop(name, None))
        return await asyncio.shield(task)

    async def _ask(self, name: str) -> Sequence[str]:
        addresses = await self._resolve(name)
        while len(self._known) >= _KEEP_AT_MOST:
            del self._known[next(iter(self._known))]
        self._known[name] = (self._clock() + (_KEEP_FOUND if addresses else _KEEP_MISSING), addresses)
        return addresses


class DnsServer:
    """Serves `names` on any number of addresses."""

    def __init__(self, names: ClusterNames, host: HostNames) -> None:
        self._names = names
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._datagrams: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []

    async def listen(self, ip: str, port: int = 53) -> None:
        """Answers on this address, UDP and TCP. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(ip, port))
        self._datagrams.append(transport)
        self._servers.append(await asyncio.start_server(self._converse, ip, port, backlog=256))

    def close(self) -> None:
        for transport in self._datagrams:
            transport.close()
        for server in self._servers:
            server.close()

    def respond(self, data: bytes, reply: Callable[[bytes], None], *, datagram: bool) -> None:
        """Calls `reply` with the answer: at once if it is ours to give, else when the host has told."""
        try:
            query = parse_query(data)
        except BadQuery as bad:
            if bad.reply is not None:
                reply(bad.reply)
            return
        found = self._names.resolve(query.name, query.type)
        if isinstance(found, Answer):
            reply(encode_response(query, found, datagram=datagram))
            return
        task = asyncio.get_running_loop().create_task(self._respond_later(query, found, reply, datagram=datagram))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond_later(
        self, query: Query, asked: Elsewhere, reply: Callable[[bytes], None], *, datagram: bool
    ) -> None:
        answer = await self._ask_host(query, asked)
        with contextlib.suppress(OSError):
            reply(encode_response(query, answer, datagram=datagram))

    async def _ask_host(self, query: Query, asked: Elsewhere) -> Answer:
        """The host tells addresses only; of other types it is known whether the name exists."""
        try:
            addresses = await self._host.addresses(asked.name)
        except (OSError, ValueError):
            return Answer(Code.SERVFAIL, authoritative=False)
        if not addresses:
            return Answer(Code.NXDOMAIN, asked.records, authoritative=False)
        records = [address_record(asked.name, ip) for ip in addresses]
        wanted = [record for record in records if query.type in (record.type, Type.ANY)]
        return Answer(records=[*asked.records, *wanted], authoritative=False)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TCP: each message has its length in front (RFC 1035, 4.2.2)."""

        def reply(message: bytes) -> None:
            writer.write(len(message).to_bytes(2, "big") + message)

        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(_IDLE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(length)
                self.respond(data, reply, datagram=False)
                await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        transport = self._transport
        if transport is not None:
            self._server.respond(data, lambda message: transport.sendto(message, addr), datagram=True)

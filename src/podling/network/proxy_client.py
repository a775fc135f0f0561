"""The daemon's line to the proxy process: asks, and tells when the proxy is there (again)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from podling.network.dns import ServiceNames
from podling.network.proxy import LINE_LIMIT, SOCKET_NAME

_RETRY = 0.05
"""Seconds between attempts to reach a proxy that is not there: it starts beside us."""


class ProxyAway(Exception):
    """There is no proxy process to ask at this moment."""


class ProxyClient:
    """One connection, kept up by `run`. Requests while it is down raise `ProxyAway`; who needs what it asked for
    to hold asks again in `connected`, which is called after every (re)connection."""

    def __init__(self, run_directory: Path) -> None:
        self._path = run_directory / SOCKET_NAME
        self._lock = asyncio.Lock()
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._down = asyncio.Event()

    async def run(self, connected: Callable[[], Awaitable[None]]) -> None:
        """Connects for ever, until cancelled."""
        try:
            while True:
                await self._connect()
                with contextlib.suppress(ProxyAway):
                    await connected()
                    await self._down.wait()
        finally:
            self._drop()

    async def _connect(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                self._stream = await asyncio.open_unix_connection(str(self._path), limit=LINE_LIMIT)
                self._down.clear()
                return
            await asyncio.sleep(_RETRY)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None
        self._down.set()

    async def _ask(self, do: str, **arguments: object) -> Mapping[str, Any]:
        """Raises `ProxyAway`, or `OSError` with the number that the proxy answered."""
        async with self._lock:
            answer = await self._converse({"do": do, **arguments})
        if "errno" in answer:
            raise OSError(answer["errno"], answer["error"])
        return answer

    async def _converse(self, request: Mapping[str, object]) -> Mapping[str, Any]:
        if self._stream is None:
            raise ProxyAway
        reader, writer = self._stream
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        except OSError as error:
            self._drop()
            raise ProxyAway from error
        except asyncio.CancelledError:
            self._drop()  # its answer would be taken for that of the next request
            raise
        if not line:
            self._drop()
            raise ProxyAway
        return json.loads(line)

    async def open_port(self, port: int, ip: str, target: int) -> None:
        """Leads a port of the host's loopback to a service. Raises `OSError`: EADDRINUSE, EACCES, ..."""
        await self._ask("open-port", port=port, ip=ip, target=target)

    async def close_port(self, port: int) -> None:
        await self._ask("close-port", port=port)

    async def ports(self) -> Sequence[int]:
        """The host ports that are open."""
        return (await self._ask("list-ports"))["ports"]

    async def replace_names(self, services: Mapping[str, ServiceNames], namespaces: Sequence[str]) -> None:
        """Makes these the only names."""
        await self._ask("set-names", replace=True, services=services, namespaces=namespaces)

    async def update_names(
        self, services: Mapping[str, ServiceNames], gone: Sequence[str], namespaces: Sequence[str] | None
    ) -> None:
        await self._ask("set-names", services=services, gone=gone, namespaces=namespaces)

"""The process between the host and the cluster: `python -m podling.network.proxy`.

It lives in the node's namespaces beside the daemon and outlives it. It does what packets alone cannot:

* host ports: listens on the host's loopback and splices each connection to a service;
* the way out: TCP connections that leave the cluster are led here by the kernel, and spliced to a connection that the
  host helper makes from the host;
* cluster DNS on its service address and on the gateway.

The daemon tells it over a Unix socket what to listen on and which names there are: one JSON object a line, each
answered by one. What was told last stays in force when the daemon dies, and is kept in a file so that it also survives
this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import logging
import resource
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypedDict

from podling.layout import write_whole
from podling.network.dns import ClusterNames, ServiceNames
from podling.network.dns_server import DnsServer, HostNames
from podling.network.layout import Layout
from podling.network.node_links import prepare_node
from podling.network.splice import Listener, dial_service
from podling.sandbox.client import HostHelper

SOCKET_NAME = "proxy.sock"
HELPER_SOCKET_NAME = "helper.sock"
MEMORY_NAME = "proxy.json"
LINE_LIMIT = 64 << 20
"""Bytes of one message: the names of a large cluster."""

_SAVE_AFTER = 0.5
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)
_ORIGINAL_DESTINATION = 80  # SO_ORIGINAL_DST, linux/netfilter_ipv4.h


class Host(Protocol):
    """What the host helper does for us. All raise `OSError`."""

    async def listen(self, ip: str, port: int) -> socket.socket: ...

    async def connect(self, ip: str, port: int) -> socket.socket: ...

    async def resolve(self, name: str) -> Sequence[str]:
        """The addresses of a name, IPv4 and IPv6; [] when there is no such name."""
        ...


class Memory(TypedDict):
    """What the daemon told last."""

    ports: dict[str, tuple[str, int]]
    """Host port -> service address and port."""
    services: dict[str, ServiceNames]
    namespaces: list[str]


class HostPort:
    """A port on the host's loopback that leads to a service; the service may be changed."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self._listeners: list[Listener] = []

    async def open(self, host: Host, port: int) -> None:
        """Listens on 127.0.0.1, and on ::1 where the host has IPv6. Raises `OSError` if either is taken."""
        try:
            await self._listen(host, "127.0.0.1", port)
            try:
                await self._listen(host, "::1", port)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
        except OSError:
            self.close()
            raise

    async def _listen(self, host: Host, ip: str, port: int) -> None:
        listening = await host.listen(ip, port)
        self._listeners.append(await Listener.start(listening, self._dial))

    async def _dial(self, _: socket.socket) -> socket.socket:
        return await dial_service(*self.target)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()


class Proxy:
    """Everything that the process does, without its command line."""

    def __init__(self, layout: Layout, host: Host, memory: Path) -> None:
        self._layout = layout
        self._host = host
        self._path = memory
        self._memory: Memory = {"ports": {}, "services": {}, "namespaces": []}
        self._ports: dict[int, HostPort] = {}
        self._names = ClusterNames(layout.domain, layout.dns_ip)
        self._dns = DnsServer(self._names, HostNames(host.resolve))
        self._egress: Listener | None = None
        self._saving: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Serves what was told before; raises `OSError` when the node's own addresses cannot be bound."""
        await self._recall()
        for ip in (self._layout.dns_ip, self._layout.gateway):
            await self._dns.listen(ip)
        if self._layout.egress_port:
            listening = socket.create_server((self._layout.gateway, self._layout.egress_port), backlog=4096)
            self._egress = await Listener.start(listening, self._dial_out)

    async def stop(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            self._save()
        self._dns.close()
        for port in self._ports.values():
            port.close()
        if self._egress is not None:
            self._egress.close()

    async def _dial_out(self, accepted: socket.socket) -> socket.socket:
        """Where the client meant to go, the kernel remembers; one that came here on purpose meant nothing."""
        raw = accepted.getsockopt(socket.SOL_IP, _ORIGINAL_DESTINATION, 16)
        port, packed = struct.unpack_from(">2xH4s", raw)
        ip = socket.inet_ntoa(packed)
        if ip == self._layout.gateway:
            raise OSError(errno.ECONNREFUSED, "not a connection that leaves the cluster")
        connection = await self._host.connect(ip, port)
        connection.setblocking(False)
        return connection

    # What the daemon asks

    async def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out one request; a refusal is `{"errno": ..., "error": ...}`."""
        try:
            match request["do"]:
                case "open-port":
                    return await self._open_port(request)
                case "close-port":
                    return self._close_port(request)
                case "list-ports":
                    return {"ports": sorted(self._ports)}
                case "set-names":
                    return self._set_names(request)
                case unknown:
                    return {"errno": errno.ENOSYS, "error": f"unknown request {unknown}"}
        except OSError as error:
            return {"errno": error.errno or errno.EIO, "error": str(error)}

    async def _open_port(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Opens a host port, or leads one that is open to another service."""
        number: int = request["port"]
        target: tuple[str, int] = (request["ip"], request["target"])
        known = self._ports.get(number)
        if known is not None:
            known.target = target
        else:
            port = HostPort(target)
            await port.open(self._host, number)
            self._ports[number] = port
        self._memory["ports"][str(number)] = target
        self._save_soon()
        return {}

    def _close_port(self, request: Mapping[str, Any]) -> dict[str, Any]:
        port = self._ports.pop(request["port"], None)
        if port is not None:
            port.close()
        self._memory["ports"].pop(str(request["port"]), None)
        self._save_soon()
        return {}

    def _set_names(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`replace`: forget all others. `namespaces` only when they changed."""
        services: dict[str, ServiceNames] = request["services"]
        namespaces: list[str] | None = request.get("namespaces")
        gone: list[str] = request.get("gone", [])
        if request.get("replace"):
            self._memory["services"] = {}
            self._names.replace(services, namespaces or ())
        else:
            self._names.update(services, gone, namespaces)
        for key in gone:
            self._memory["services"].pop(key, None)
        self._memory["services"].update(services)
        if namespaces is not None:
            self._memory["namespaces"] = namespaces
        self._save_soon()
        return {}

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the daemon."""
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                answer = await self.handle(json.loads(line))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    # What is remembered

    def _save_soon(self) -> None:
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(_SAVE_AFTER, self._save)

    def _save(self) -> None:
        self._saving = None
        with contextlib.suppress(OSError):  # a full disk must not stop traffic
            write_whole(self._path, json.dumps(self._memory))

    async def _recall(self) -> None:
        try:
            memory: Memory = json.loads(self._path.read_text())
            self._names.replace(memory["services"], memory["namespaces"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        self._memory["services"], self._memory["namespaces"] = memory["services"], memory["namespaces"]
        for number, (ip, target) in memory["ports"].items():
            with contextlib.suppress(OSError):  # taken meanwhile; the daemon will ask again and be told
                await self._open_port({"port": int(number), "ip": ip, "target": target})


class HelperHost:
    """The host helper as the proxy uses it."""

    def __init__(self, helper: HostHelper) -> None:
        self._helper = helper

    async def listen(self, ip: str, port: int) -> socket.socket:
        return await self._helper.listen(ip, port, backlog=4096)

    async def connect(self, ip: str, port: int) -> socket.socket:
        return await self._helper.connect(ip, port)

    async def resolve(self, name: str) -> Sequence[str]:
        try:
            return await self._helper.resolve(name)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_NAME:
                return []
            raise


async def serve(layout: Layout, host: Host, run: Path) -> None:
    """Runs until cancelled; the socket and the memory are files in `run`."""
    proxy = Proxy(layout, host, run / MEMORY_NAME)
    await proxy.start()
    path = run / SOCKET_NAME
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(proxy.converse, path, limit=LINE_LIMIT)
    path.chmod(0o600)
    try:
        await server.serve_forever()
    finally:
        path.unlink(missing_ok=True)
        await proxy.stop()


def command(python: str, run: Path, layout: Layout) -> list[str]:
    """The command line of this process, for whoever starts it."""
    return [python, "-m", "podling.network.proxy", "--run", str(run), "--layout", json.dumps(asdict(layout))]


async def _main(layout: Layout, run: Path) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    prepare_node(layout)
    helper = await HostHelper.open(str(run / HELPER_SOCKET_NAME))
    with contextlib.suppress(asyncio.CancelledError):
        await serve(layout, HelperHost(helper), run)


def main() -> None:
    """The cluster's run directory is where the host helper's socket is."""
    parser = argparse.ArgumentParser(prog="podling.network.proxy")
    parser.add_argument("--run", type=Path, required=True, help="the cluster's run directory")
    parser.add_argument("--layout", type=json.loads, default={}, help="the network's addresses, as JSON")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(Layout(**arguments.layout), arguments.run))


if __name__ == "__main__":
    main()

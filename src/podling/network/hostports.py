"""Ports of the host for Services of type LoadBalancer, and for node ports.

A LoadBalancer's port is wanted on the host under its own number. Where that may not be bound (port 80 without the right
to it) or is taken, the next choice is 8000 above (80 -> 8080), then the next free one. The choice is kept in a file, so
that a URL stays what it was; it is said by an event and written on the Service.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from podling.api.client import Client, EventRecorder
from podling.api.errors import ApiError
from podling.layout import write_whole
from podling.network.endpoints import cluster_ips, part
from podling.network.proxy_client import ProxyClient
from podling.store.types import Object

ANNOTATION = "podling.dev/host-ports"
"""JSON: service port -> port on 127.0.0.1, as in `{"80/TCP": 8080}`."""

ADDRESS = "127.0.0.1"
_ATTEMPTS = 200
_LAST_PORT = 65535


class Port(NamedTuple):
    """A port of a service that is to be reachable from the host."""

    service: str
    """namespace/name"""
    number: int
    node_port: bool = False

    @property
    def name(self) -> str:
        return f"{self.number}/TCP"


Target = tuple[str, int]
"""A service address and port."""


def wishes(service: Object, *, balances: bool = True) -> dict[Port, Target]:
    """The host ports that a Service wants, each with the cluster address it leads to. TCP only.

    A cluster that does not balance leaves LoadBalancers waiting for somebody else, and serves their node ports.
    """
    spec = service["spec"]
    ips = cluster_ips(service)
    if not ips or spec.get("type") not in ("NodePort", "LoadBalancer"):
        return {}
    key = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
    balanced = balances and spec["type"] == "LoadBalancer" and not spec.get("loadBalancerClass")
    wanted: dict[Port, Target] = {}
    for port in spec.get("ports") or ():
        if port.get("protocol", "TCP") != "TCP":
            continue
        if balanced:
            wanted[Port(key, port["port"])] = (ips[0], port["port"])
        if port.get("nodePort"):
            wanted[Port(key, port["nodePort"], node_port=True)] = (ips[0], port["port"])
    return wanted


def candidates(port: Port, remembered: int | None) -> Iterator[int]:
    """Host ports to try, the best first. A node port has its number or none."""
    if remembered is not None:
        yield remembered
    yield port.number
    if port.node_port:
        return
    above = port.number + 8000
    first = above if above <= _LAST_PORT else port.number + 1
    yield from range(first, min(first + _ATTEMPTS, _LAST_PORT + 1))


def why_not(port: Port, error: int) -> str:
    """Why a service's own port number was not used."""
    if error in (errno.EACCES, errno.EPERM):
        return f"port {port.number} may not be bound by this user"
    return f"port {port.number} is in use on this machine"


class HostPorts:
    """Keeps the host's ports as the Services want them. One task uses it. Methods that ask the proxy raise
    `ProxyAway`; after that, call `connected` and `sync` again."""

    def __init__(
        self, client: Client, proxy: ProxyClient, record: EventRecorder, memory: Path, *, balances: bool = True
    ) -> None:
        self._client = client
        self._balances = balances
        self._proxy = proxy
        self._record = record
        self._memory = memory
        self._chosen = _load(memory)
        self._open: dict[int, tuple[Port, Target]] = {}
        self._inherited: set[int] = set()
        self._reasons: dict[Port, str] = {}
        self._unavailable: set[Port] = set()
        """Node ports without a host port, of which an event tells."""

    async def connected(self) -> None:
        """After a (re)connection: what is open at the proxy is open, but nobody knows for whom."""
        self._open.clear()
        self._inherited = set(await self._proxy.ports())

    async def sync(self, services: Sequence[Object]) -> None:
        """Opens, redirects and closes ports, and writes on the Services which are theirs."""
        wanted: dict[Port, Target] = {}
        for service in services:
            wanted.update(self._wishes(service))
        await self._close([number for number, (port, _) in self._open.items() if port not in wanted])
        for port, target in wanted.items():
            await self._ensure(port, target)
        await self._close([number for number in self._inherited if number not in self._open])
        self._inherited.clear()
        self._remember(wanted)
        for service in services:
            await self._announce(service)
            self._warn(service)

    def _wishes(self, service: Object) -> dict[Port, Target]:
        return wishes(service, balances=self._balances)

    async def _close(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._proxy.close_port(number)
            self._open.pop(number, None)

    async def _ensure(self, port: Port, target: Target) -> None:
        chosen = self._chosen.get(port)
        if chosen is not None and self._open.get(chosen) == (port, target):
            return
        for number in candidates(port, chosen):
            error = await self._try(number, port, target)
            if error == 0:
                self._open[number] = (port, target)
                self._chosen[port] = number
                return
            if number == port.number:
                self._reasons[port] = why_not(port, error)
        self._chosen.pop(port, None)

    async def _try(self, number: int, port: Port, target: Target) -> int:
        """0, or the error number that speaks against this host port."""
        holder = self._open.get(number)
        if holder is not None and holder[0] != port:
            return errno.EADDRINUSE
        try:
            await self._proxy.open_port(number, *target)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _remember(self, wanted: Mapping[Port, Target]) -> None:
        self._chosen = {port: number for port, number in self._chosen.items() if port in wanted}
        saved = [[port.service, port.number, port.node_port, number] for port, number in sorted(self._chosen.items())]
        text = json.dumps(saved)
        if not self._memory.exists() or self._memory.read_text() != text:
            write_whole(self._memory, text)

    async def _announce(self, service: Object) -> None:
        """Writes the annotation, the status and an event, where they do not say so already."""
        balanced = {port.name: port for port in self._wishes(service) if not port.node_port}
        chosen = {name: self._chosen[port] for name, port in balanced.items() if port in self._chosen}
        metadata = service["metadata"]
        before = part(metadata, "annotations").get(ANNOTATION)
        after = json.dumps(chosen) if chosen else None
        if before == after and _status(chosen) == part(part(service, "status"), "loadBalancer"):
            return
        if before is None and after is None:
            return
        try:
            await self._write(metadata["namespace"], metadata["name"], after, _status(chosen))
        except ApiError:
            return  # deleted meanwhile, or refused: another change brings us here again
        if before != after:
            self._tell(service, balanced, chosen)

    async def _write(self, namespace: str, name: str, annotation: str | None, balancer: Object) -> None:
        await self._client.patch("services", namespace, name, {"metadata": {"annotations": {ANNOTATION: annotation}}})
        status: Object = {"loadBalancer": balancer or None}
        await self._client.patch("services", namespace, name, {"status": status}, subresource="status")

    def _warn(self, service: Object) -> None:
        """A node port has no second choice: where it cannot be had, the Service says so, once."""
        missing = {port for port in self._wishes(service) if port.node_port and port not in self._chosen}
        for port in missing - self._unavailable:
            why = self._reasons.get(port, why_not(port, errno.EADDRINUSE))
            self._record(service, "Warning", "HostPortUnavailable", f"{why}, so it does not lead to this service")
        key = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        self._unavailable = {port for port in self._unavailable if port.service != key} | missing

    def _tell(self, service: Object, ports: Mapping[str, Port], chosen: Mapping[str, int]) -> None:
        for name, number in chosen.items():
            port = ports[name]
            why = f" ({self._reasons[port]})" if number != port.number and port in self._reasons else ""
            message = f"{ADDRESS}:{number} on this machine leads to port {port.number}{why}"
            self._record(service, "Normal", "HostPort", message)


def _status(chosen: Mapping[str, int]) -> Object:
    """`status.loadBalancer`. Its ports are those of the Service (`PortStatus.port`)."""
    if not chosen:
        return {}
    ports = [{"port": int(name.partition("/")[0]), "protocol": name.partition("/")[2]} for name in chosen]
    return {"ingress": [{"ip": ADDRESS, "ipMode": "Proxy", "ports": ports}]}


def _load(memory: Path) -> dict[Port, int]:
    try:
        return {Port(service, number, node): chosen for service, number, node, chosen in json.loads(memory.read_text())}
    except (OSError, ValueError):
        return {}

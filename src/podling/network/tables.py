"""What the kernel's service tables hold, and how that is written there.

For each service port there is a chain and a map from slot numbers to backends, both of the same name, and for sticky
clients a map of those that are remembered. Maps lead from addresses to chains. `read` makes of all that what it was
made of.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple

from podling.network import netfilter as nf
from podling.network.netfilter import Batch, DataType, Kind, Netfilter, SetFlag
from podling.network.slots import Backend

TABLE = "podling"

_PROTOCOLS = {"TCP": nf.TCP, "UDP": nf.UDP, "SCTP": nf.SCTP}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}

SERVICES = "services"
NODE_PORTS = "node-ports"
HAIRPINS = "hairpins"
UNSERVED = "unserved"
CUT_OFF = "cut-off"
HOST_PORTS = "host-ports"

FRONT = Kind(nf.concatenated(DataType.PROTOCOL, DataType.ADDRESS, DataType.PORT), 12)
NODE_PORT = Kind(nf.concatenated(DataType.PROTOCOL, DataType.PORT), 8)
PAIR = Kind(nf.concatenated(DataType.ADDRESS, DataType.ADDRESS), 8)
BACKEND = Kind(nf.concatenated(DataType.ADDRESS, DataType.PORT), 8)
_SLOT = Kind(DataType.INTEGER, 4)
CLIENT = Kind(DataType.ADDRESS, 4)
TO_CHAIN = Kind(nf.VERDICT_DATA, 0)

_CLIENTS_AT_MOST = 65536
"""Clients remembered per service port; further ones go where their hash leads."""
_HASH_SEED = 0x5EED1E55
"""Constant, so that a client's hash stays when the chain is made anew."""


class Front(NamedTuple):
    """An address that clients connect to. `ip` "" is a node port: that port on the node's own addresses."""

    protocol: str
    ip: str
    port: int


class Chain(NamedTuple):
    """The way to one service port's backends; each has a chain and a map of this name."""

    protocol: str
    ip: str
    port: int
    affinity_seconds: int
    size: int
    """Slots in the map."""

    @property
    def name(self) -> str:
        return f"{self.protocol}-{self.ip}-{self.port}-sticky-{self.affinity_seconds}-slots-{self.size}".lower()

    @property
    def clients(self) -> str:
        """The map of remembered clients."""
        return f"{self.name}-clients"


_CHAIN_NAME = re.compile(r"(tcp|udp|sctp)-([\d.]+)-(\d+)-sticky-(\d+)-slots-(\d+)")


def parse_chain(name: str) -> Chain | None:
    """The chain of that name; `None` if it is not one of a service port."""
    match = _CHAIN_NAME.fullmatch(name)
    if match is None:
        return None
    protocol, ip, port, affinity, size = match.groups()
    return Chain(protocol.upper(), ip, int(port), int(affinity), int(size))


@dataclass(slots=True)
class Tables:
    """What the kernel holds."""

    slots: dict[Chain, list[Backend]] = field(default_factory=dict[Chain, list[Backend]])
    fronts: dict[Front, Chain] = field(default_factory=dict[Front, Chain])
    unserved: set[Front] = field(default_factory=set[Front])
    hairpins: set[str] = field(default_factory=set[str])
    host_ports: dict[Front, Backend] = field(default_factory=dict[Front, Backend])
    """Ports of nodes that lead to one pod each."""


# The kernel's bytes of our values


def ip_bytes(ip: str) -> bytes:
    return IPv4Address(ip).packed


def port_bytes(port: int) -> bytes:
    return struct.pack(">Hxx", port)


def _protocol(protocol: str) -> bytes:
    return struct.pack("Bxxx", _PROTOCOLS[protocol])


def front_bytes(front: Front) -> bytes:
    return _protocol(front.protocol) + (ip_bytes(front.ip) if front.ip else b"") + port_bytes(front.port)


def backend_bytes(backend: Backend) -> bytes:
    return ip_bytes(backend.ip) + port_bytes(backend.port)


def slot_bytes(number: int) -> bytes:
    return struct.pack("=I", number)  # an integer in a register has the host's order, as numgen writes it


def _parse_backend(value: bytes) -> Backend:
    return Backend(str(IPv4Address(value[:4])), struct.unpack_from(">H", value, 4)[0])


def _parse_front(key: bytes) -> Front:
    protocol = _PROTOCOL_NAMES[key[0]]
    if len(key) == NODE_PORT.length:
        return Front(protocol, "", struct.unpack_from(">H", key, 4)[0])
    return Front(protocol, str(IPv4Address(key[4:8])), struct.unpack_from(">H", key, 8)[0])


# Writing


def front_map(front: Front) -> str:
    return SERVICES if front.ip else NODE_PORTS


def add_host_ports(batch: Batch, ports: Mapping[Front, Backend]) -> None:
    elements = [(front_bytes(front), nf.data(backend_bytes(backend))) for front, backend in ports.items()]
    batch.add_elements(HOST_PORTS, elements)


def add_slots(batch: Batch, chain: Chain, numbers: Sequence[int], slots: Sequence[Backend]) -> None:
    batch.add_elements(chain.name, [(slot_bytes(i), nf.data(backend_bytes(slots[i]))) for i in numbers])


def add_chain(batch: Batch, chain: Chain, slots: Sequence[Backend]) -> None:
    batch.add_set(chain.name, _SLOT, value=BACKEND)
    add_slots(batch, chain, range(chain.size), slots)
    batch.add_chain(chain.name)
    backend, port, key, *_ = nf.REGISTERS
    go = nf.destination_nat(backend, port)
    if not chain.affinity_seconds:
        batch.add_rule(chain.name, nf.random_number(chain.size, key), nf.look_up(chain.name, key, backend), go)
        return
    timed = SetFlag.TIMEOUT | SetFlag.EVAL
    batch.add_set(chain.clients, CLIENT, flags=timed, value=BACKEND, capacity=_CLIENTS_AT_MOST)
    client = nf.load(nf.SOURCE_ADDRESS, key)
    keep = nf.remember(chain.clients, key, backend, chain.affinity_seconds)
    slot = nf.REGISTERS[3]
    choose = (client, nf.hashed(key, 4, chain.size, slot, _HASH_SEED), nf.look_up(chain.name, slot, backend))
    batch.add_rule(chain.name, client, nf.look_up(chain.clients, key, backend), keep, go)
    batch.add_rule(chain.name, *choose, keep, go)
    batch.add_rule(chain.name, *choose, go)  # when the map of clients is full


def delete_chain(batch: Batch, chain: Chain) -> None:
    batch.delete_chain(chain.name)
    batch.delete_set(chain.name)
    if chain.affinity_seconds:
        batch.delete_set(chain.clients)


# Reading back


def read(netfilter: Netfilter, chains: Sequence[str]) -> Tables | None:
    """The tables as the kernel holds them; `None` when they are not such as this module makes."""
    known = set(netfilter.sets(TABLE))
    if not {SERVICES, NODE_PORTS, HAIRPINS, UNSERVED, HOST_PORTS} <= known:
        return None
    tables = Tables()
    for chain in filter(None, map(parse_chain, chains)):
        slots = _read_slots(netfilter, chain) if chain.name in known else None
        if slots is None:
            return None
        tables.slots[chain] = slots
    for element in (*netfilter.elements(TABLE, SERVICES), *netfilter.elements(TABLE, NODE_PORTS)):
        chain = parse_chain(element.chain)
        if chain is None or chain not in tables.slots:
            return None
        tables.fronts[_parse_front(element.key)] = chain
    tables.unserved = {_parse_front(element.key) for element in netfilter.elements(TABLE, UNSERVED)}
    tables.host_ports = {
        _parse_front(element.key): _parse_backend(element.value) for element in netfilter.elements(TABLE, HOST_PORTS)
    }
    tables.hairpins = {str(IPv4Address(element.key[:4])) for element in netfilter.elements(TABLE, HAIRPINS)}
    return tables


def _read_slots(netfilter: Netfilter, chain: Chain) -> list[Backend] | None:
    found = {
        struct.unpack("=I", element.key)[0]: _parse_backend(element.value)
        for element in netfilter.elements(TABLE, chain.name)
    }
    if sorted(found) != list(range(chain.size)):
        return None
    return [found[i] for i in range(chain.size)]

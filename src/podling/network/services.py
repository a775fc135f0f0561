"""The service data plane: connections to a service's addresses are led to its backends by the kernel.

Every service port has a chain whose one rule is constant: *draw a slot number, look the backend up in the map, go
there*. An endpoint change rewrites only the slots that differ, in one transaction, so a connection meets the old
backend or the new one and never nothing. Schemes that replace the rule or its map lose connections, because a packet
may see the old rule with the new set. For the same reason a new chain is first made complete in one transaction
(`prepare`) and led to in the next (`switch`), and what is no longer led to is deleted only later (`collect`).

The kernel keeps the tables while the daemon is away. `DataPlane.load` reads them back and the next `apply` makes the
difference, so traffic flows on through a restart. All names are derived from the service port, so the kernel's tables
are their own record.

Sticky clients (`sessionAffinity: ClientIP`) are remembered by the kernel in a map with timeouts, chosen first by a hash
of their address.
"""

from __future__ import annotations

import errno
import hashlib
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from podling.network import netfilter as nf
from podling.network.conntrack import Conntrack
from podling.network.layout import NODE_PREFIX, Layout
from podling.network.netfilter import Batch, DataType, Hook, Kind, Netfilter, SetFlag, Verdict
from podling.network.slots import Backend, assign, changed, size_for
from podling.sandbox.netlink import NetlinkError

TABLE = "podling"

_PROTOCOLS = {"TCP": nf.TCP, "UDP": nf.UDP, "SCTP": nf.SCTP}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}

_SERVICES = "services"
_NODE_PORTS = "node-ports"
_HAIRPINS = "hairpins"
_UNSERVED = "unserved"
_CUT_OFF = "cut-off"
_HOST_PORTS = "host-ports"
_SKELETON = "skeleton-"

_FRONT = Kind(nf.concatenated(DataType.PROTOCOL, DataType.ADDRESS, DataType.PORT), 12)
_NODE_PORT = Kind(nf.concatenated(DataType.PROTOCOL, DataType.PORT), 8)
_PAIR = Kind(nf.concatenated(DataType.ADDRESS, DataType.ADDRESS), 8)
_BACKEND = Kind(nf.concatenated(DataType.ADDRESS, DataType.PORT), 8)
_SLOT = Kind(DataType.INTEGER, 4)
_CLIENT = Kind(DataType.ADDRESS, 4)
_TO_CHAIN = Kind(nf.VERDICT_DATA, 0)

_CLIENTS_AT_MOST = 65536
"""Clients remembered per service port; further ones go where their hash leads."""
_HASH_SEED = 0x5EED1E55
"""Constant, so that a client's hash stays when the chain is made anew."""

_BEFORE_TRACKING = -300
"""The priority of the kernel's own "raw" chains."""

_BATCH_BYTES = 100_000
"""A datagram must fit a socket buffer, which an unprivileged user cannot enlarge beyond about 200 KB."""

_KEEP_UNUSED = 2.0
"""Seconds for which a chain is kept after the last way to it was closed: a packet may still be in it."""


class ServiceKey(NamedTuple):
    """Names a service port."""

    protocol: str
    ip: str
    port: int


class Front(NamedTuple):
    """An address that clients connect to. `ip` "" is a node port: that port on the node's own addresses."""

    protocol: str
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service as the data plane knows it."""

    protocol: str
    ip: str
    port: int
    backends: tuple[Backend, ...] = ()
    external_ips: tuple[str, ...] = ()
    node_port: int = 0
    affinity_seconds: int = 0
    """`sessionAffinityConfig.clientIP.timeoutSeconds`; 0: none."""

    def fronts(self) -> list[Front]:
        found = [Front(self.protocol, ip, self.port) for ip in (self.ip, *self.external_ips)]
        if self.node_port:
            found.append(Front(self.protocol, "", self.node_port))
        return found


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


Ports = Mapping[ServiceKey, ServicePort]


@dataclass(slots=True)
class Wanted:
    """What a change is to lead to: the new content of some chains, and where some addresses lead."""

    slots: dict[Chain, list[Backend]] = field(default_factory=dict[Chain, list[Backend]])
    fronts: dict[Front, Chain] = field(default_factory=dict[Front, Chain])
    unserved: set[Front] = field(default_factory=set[Front])


def plan(current: Tables, ports: Iterable[ServicePort]) -> Wanted:
    """The tables for `ports`, as near to `current` as they can be. Pure."""
    wanted = Wanted()
    for port in ports:
        if not port.backends:
            wanted.unserved.update(front for front in port.fronts() if front.ip)
            continue
        before = current.fronts.get(Front(port.protocol, port.ip, port.port))
        chain = _chain_for(port, before)
        old = current.slots.get(chain) or (current.slots[before] if before else [])
        wanted.slots[chain] = assign(old, port.backends, chain.size)
        wanted.fronts.update(dict.fromkeys(port.fronts(), chain))
    wanted.unserved.difference_update(wanted.fronts)
    return wanted


def _chain_for(port: ServicePort, before: Chain | None) -> Chain:
    size = size_for(len(port.backends), before.size if before else 0)
    return Chain(port.protocol, port.ip, port.port, port.affinity_seconds, size)


class DataPlane:
    """The node's service tables in the kernel of the network namespace in which this is made.

    Every call is synchronous and short (about half a millisecond for an endpoint change). Raises `NetlinkError` when
    the kernel refuses.
    """

    def __init__(self, layout: Layout, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._layout = layout
        self._clock = clock
        self._netfilter = Netfilter()
        self._conntrack = Conntrack()
        self._tables = Tables()
        self._unused: dict[Chain, float] = {}
        self._ports: Ports | None = None
        """What was applied last; `None`: unknown, the next `apply` looks at everything."""

    def close(self) -> None:
        """Leaves the tables in force."""
        self._netfilter.close()
        self._conntrack.close()

    def load(self) -> None:
        """Takes over the tables that are in the kernel, or makes the fixed part of them.

        Tables of another layout (after an upgrade) are replaced in one transaction that keeps every service.
        """
        skeleton = _skeleton(self._layout)
        chains = self._netfilter.chains(TABLE)
        found = _read(self._netfilter, chains) if chains else Tables()
        self._tables = found or Tables()
        self._ports = None
        if found is None or _skeleton_name(skeleton) not in chains:
            self._replace(skeleton, exists=bool(chains))
        led_to = set(self._tables.fronts.values())
        self._unused = {chain: self._clock() for chain in self._tables.slots if chain not in led_to}

    def _replace(self, skeleton: Batch, *, exists: bool) -> None:
        batch = Batch(TABLE)
        if exists:
            batch.delete_table()
        batch.extend(skeleton)
        batch.add_chain(_skeleton_name(skeleton))
        kept = Wanted(self._tables.slots, self._tables.fronts, self._tables.unserved)
        for change in (*_prepare(Tables(), kept), *_switch(Tables(), kept, {*kept.fronts, *kept.unserved})):
            batch.extend(change)
        batch.add_elements(_HAIRPINS, [(_ip(ip) * 2, None) for ip in sorted(self._tables.hairpins)])
        _add_host_ports(batch, self._tables.host_ports)
        self._netfilter.commit(batch)

    def apply(self, ports: Ports) -> bool:
        """Makes the kernel serve exactly these ports; returns whether anything had to change.

        When this returns, no new connection goes to a backend that is not in `ports`.
        """
        try:
            return self._apply(ports)
        except NetlinkError:
            # Somebody else changed the table: believe the kernel, and make the difference to what it holds.
            self.load()
            return self._apply(ports)

    def _apply(self, ports: Ports) -> bool:
        before = self._ports
        touched = _touched(before, ports)
        if before is not None and not touched:
            return False
        self._ports = None
        tables = self._tables
        wanted = plan(tables, [ports[key] for key in touched if key in ports])
        scope = {*wanted.fronts, *wanted.unserved}
        if before is None:
            scope |= {*tables.fronts, *tables.unserved}
        else:
            scope |= {front for key in touched if key in before for front in before[key].fronts()}
        acted = self._make(wanted, scope)
        self._ports = ports
        return acted

    def _make(self, wanted: Wanted, scope: set[Front]) -> bool:
        tables = self._tables
        old_chains = {tables.fronts[front] for front in scope if front in tables.fronts}
        left = _departed(tables, old_chains, wanted)
        acted = self._commit(_prepare(tables, wanted))
        acted |= self._commit(_switch(tables, wanted, scope))
        tables.slots.update(wanted.slots)
        for front in scope:
            tables.fronts.pop(front, None)
        tables.fronts.update(wanted.fronts)
        tables.unserved = tables.unserved - scope | wanted.unserved
        now = self._clock()
        for chain in old_chains - wanted.slots.keys():
            self._unused[chain] = now
        for chain in wanted.slots:
            self._unused.pop(chain, None)
        self._forget(left)
        return acted

    def _commit(self, changes: Iterable[Batch]) -> bool:
        """Joins changes into as few transactions as fit."""
        acted = False
        batch = Batch(TABLE)
        for change in changes:
            if batch and batch.size + change.size > _BATCH_BYTES:
                self._netfilter.commit(batch)
                batch = Batch(TABLE)
            batch.extend(change)
            acted = True
        self._netfilter.commit(batch)
        return acted

    def _forget(self, left: Mapping[Chain, set[Backend]]) -> None:
        """Breaks what binds clients to backends that left: sticky entries, and UDP flows that the kernel tracks."""
        for chain, backends in left.items():
            if chain.affinity_seconds:
                self._forget_clients(chain, backends)
        udp = {backend for chain, backends in left.items() if chain.protocol == "UDP" for backend in backends}
        if udp:
            self._conntrack.forget_udp(udp)

    def _forget_clients(self, chain: Chain, backends: set[Backend]) -> None:
        values = {_backend_bytes(backend) for backend in backends}
        for element in self._netfilter.elements(TABLE, chain.clients):
            if element.value in values:
                batch = Batch(TABLE)
                batch.delete_elements(chain.clients, [element.key])
                self._commit_if_present(batch)

    def _commit_if_present(self, batch: Batch) -> None:
        """For a deletion of what may have gone by itself."""
        try:
            self._netfilter.commit(batch)
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise

    def collect(self) -> None:
        """Deletes chains that nothing has led to for a while. Call it now and then."""
        now = self._clock()
        batch = Batch(TABLE)
        for chain in [chain for chain, since in self._unused.items() if now - since >= _KEEP_UNUSED]:
            _delete_chain(batch, chain)
            del self._unused[chain], self._tables.slots[chain]
        self._netfilter.commit(batch)

    @property
    def unused(self) -> bool:
        """Whether `collect` has something to do, now or soon."""
        return bool(self._unused)

    def attach(self, ip: str, host_ports: Mapping[Front, Backend] = {}) -> None:
        """Lets the pod with this address reach itself through its services, and others reach it by ports of nodes."""
        self._withdraw_host_ports([front for front in host_ports if front in self._tables.host_ports])
        batch = Batch(TABLE)
        batch.add_elements(_HAIRPINS, [(_ip(ip) * 2, None)])
        _add_host_ports(batch, host_ports)
        self._netfilter.commit(batch)
        self._tables.hairpins.add(ip)
        self._tables.host_ports.update(host_ports)

    def detach(self, ip: str) -> None:
        """Forgets a pod's address."""
        batch = Batch(TABLE)
        batch.delete_elements(_HAIRPINS, [_ip(ip) * 2])
        self._commit_if_present(batch)
        self._tables.hairpins.discard(ip)
        self._withdraw_host_ports([front for front, to in self._tables.host_ports.items() if to.ip == ip])

    def _withdraw_host_ports(self, fronts: Sequence[Front]) -> None:
        batch = Batch(TABLE)
        batch.delete_elements(_HOST_PORTS, [_front_bytes(front) for front in fronts])
        self._commit_if_present(batch)
        left = {self._tables.host_ports.pop(front) for front in fronts if front.protocol == "UDP"}
        for front in fronts:
            self._tables.host_ports.pop(front, None)
        if left:
            self._conntrack.forget_udp(left)

    def cut_off(self, cidrs: Iterable[str]) -> None:
        """Cuts exactly these nodes off."""
        batch = Batch(TABLE)
        batch.delete_elements(_CUT_OFF, [element.key for element in self._netfilter.elements(TABLE, _CUT_OFF)])
        batch.add_elements(_CUT_OFF, [(IPv4Network(cidr).network_address.packed, None) for cidr in cidrs])
        self._netfilter.commit(batch)

    @property
    def tables(self) -> Tables:
        """What the kernel holds; not to be changed."""
        return self._tables


def _touched(before: Ports | None, after: Ports) -> set[ServiceKey]:
    """The ports that differ. All of them where external addresses are involved: two services may claim one."""
    everything = {*(before or ()), *after}
    if before is None:
        return everything
    touched = {key for key in everything if _differ(before.get(key), after.get(key))}
    for key in touched:
        if any(ports[key].external_ips for ports in (before, after) if key in ports):
            return everything
    return touched


def _differ(one: ServicePort | None, other: ServicePort | None) -> bool:
    return one is not other and one != other  # most are the very same object


def _departed(tables: Tables, chains: Iterable[Chain], wanted: Wanted) -> dict[Chain, set[Backend]]:
    """For each chain in use the backends that its service port loses."""
    kept = {chain[:3]: set(slots) for chain, slots in wanted.slots.items()}
    left = {chain: set(tables.slots[chain]) - kept.get(chain[:3], set()) for chain in chains}
    return {chain: backends for chain, backends in left.items() if backends}


# The kernel's bytes of our values


def _ip(ip: str) -> bytes:
    return IPv4Address(ip).packed


def _port(port: int) -> bytes:
    return struct.pack(">Hxx", port)


def _protocol(protocol: str) -> bytes:
    return struct.pack("Bxxx", _PROTOCOLS[protocol])


def _front_bytes(front: Front) -> bytes:
    return _protocol(front.protocol) + (_ip(front.ip) if front.ip else b"") + _port(front.port)


def _backend_bytes(backend: Backend) -> bytes:
    return _ip(backend.ip) + _port(backend.port)


def _slot_bytes(number: int) -> bytes:
    return struct.pack("=I", number)  # an integer in a register has the host's order, as numgen writes it


def _parse_backend(value: bytes) -> Backend:
    return Backend(str(IPv4Address(value[:4])), struct.unpack_from(">H", value, 4)[0])


def _parse_front(key: bytes) -> Front:
    protocol = _PROTOCOL_NAMES[key[0]]
    if len(key) == _NODE_PORT.length:
        return Front(protocol, "", struct.unpack_from(">H", key, 4)[0])
    return Front(protocol, str(IPv4Address(key[4:8])), struct.unpack_from(">H", key, 8)[0])


# Differences


def _front_map(front: Front) -> str:
    return _SERVICES if front.ip else _NODE_PORTS


def _add_host_ports(batch: Batch, ports: Mapping[Front, Backend]) -> None:
    elements = [(_front_bytes(front), nf.data(_backend_bytes(backend))) for front, backend in ports.items()]
    batch.add_elements(_HOST_PORTS, elements)


def _prepare(before: Tables, wanted: Wanted) -> Iterator[Batch]:
    """For each chain one change: made complete if it is new, else the slots that differ."""
    for chain, slots in wanted.slots.items():
        old = before.slots.get(chain)
        batch = Batch(TABLE)
        if old is None:
            _add_chain(batch, chain, slots)
        else:
            numbers = changed(old, slots)
            batch.delete_elements(chain.name, [_slot_bytes(i) for i in numbers])
            _add_slots(batch, chain, numbers, slots)
        if batch:
            yield batch


def _switch(before: Tables, wanted: Wanted, scope: set[Front]) -> Iterator[Batch]:
    """For each address in `scope` one change of where it leads."""
    for front in sorted(scope):
        batch = Batch(TABLE)
        old, new = before.fronts.get(front), wanted.fronts.get(front)
        if old != new:
            if old is not None:
                batch.delete_elements(_front_map(front), [_front_bytes(front)])
            if new is not None:
                batch.add_elements(_front_map(front), [(_front_bytes(front), nf.goto(new.name))])
        if front in before.unserved and front not in wanted.unserved:
            batch.delete_elements(_UNSERVED, [_front_bytes(front)])
        if front in wanted.unserved and front not in before.unserved:
            batch.add_elements(_UNSERVED, [(_front_bytes(front), None)])
        if batch:
            yield batch


def _add_slots(batch: Batch, chain: Chain, numbers: Sequence[int], slots: Sequence[Backend]) -> None:
    batch.add_elements(chain.name, [(_slot_bytes(i), nf.data(_backend_bytes(slots[i]))) for i in numbers])


def _add_chain(batch: Batch, chain: Chain, slots: Sequence[Backend]) -> None:
    batch.add_set(chain.name, _SLOT, value=_BACKEND)
    _add_slots(batch, chain, range(chain.size), slots)
    batch.add_chain(chain.name)
    backend, port, key, *_ = nf.REGISTERS
    go = nf.destination_nat(backend, port)
    if not chain.affinity_seconds:
        batch.add_rule(chain.name, nf.random_number(chain.size, key), nf.look_up(chain.name, key, backend), go)
        return
    timed = SetFlag.TIMEOUT | SetFlag.EVAL
    batch.add_set(chain.clients, _CLIENT, flags=timed, value=_BACKEND, capacity=_CLIENTS_AT_MOST)
    client = nf.load(nf.SOURCE_ADDRESS, key)
    keep = nf.remember(chain.clients, key, backend, chain.affinity_seconds)
    slot = nf.REGISTERS[3]
    choose = (client, nf.hashed(key, 4, chain.size, slot, _HASH_SEED), nf.look_up(chain.name, slot, backend))
    batch.add_rule(chain.name, client, nf.look_up(chain.clients, key, backend), keep, go)
    batch.add_rule(chain.name, *choose, keep, go)
    batch.add_rule(chain.name, *choose, go)  # when the map of clients is full


def _delete_chain(batch: Batch, chain: Chain) -> None:
    batch.delete_chain(chain.name)
    batch.delete_set(chain.name)
    if chain.affinity_seconds:
        batch.delete_set(chain.clients)


# The fixed part


def _skeleton_name(skeleton: Batch) -> str:
    """A chain of this name marks the table as made by exactly these requests."""
    digest = hashlib.sha256(repr(skeleton.requests).encode()).hexdigest()
    return _SKELETON + digest[:16]


def _skeleton(layout: Layout) -> Batch:
    """Everything that does not depend on services."""
    batch = Batch(TABLE)
    batch.add_table()
    batch.add_set(_SERVICES, _FRONT, value=_TO_CHAIN)
    batch.add_set(_NODE_PORTS, _NODE_PORT, value=_TO_CHAIN)
    batch.add_set(_HAIRPINS, _PAIR)
    batch.add_set(_UNSERVED, _FRONT)
    batch.add_set(_CUT_OFF, _CLIENT)
    batch.add_set(_HOST_PORTS, _FRONT, value=_BACKEND)
    _add_translation(batch, layout)
    _add_hairpin(batch)
    _add_rejection(batch, layout)
    _add_cut(batch, layout)
    return batch


def _add_translation(batch: Batch, layout: Layout) -> None:
    """Where connections begin: from pods (prerouting) and from the node itself (output)."""
    protocol, address, port, backend, backend_port, *_ = nf.REGISTERS
    batch.add_chain("translate")
    batch.add_rule("translate", *_load_front(), nf.look_up_verdict(_SERVICES, protocol))
    go = nf.destination_nat(backend, backend_port)
    batch.add_rule("translate", *_load_front(), nf.look_up(_HOST_PORTS, protocol, backend), go)
    batch.add_rule(
        "translate",
        *_is_a_node(layout, address),
        nf.load_protocol(protocol),
        nf.load(nf.DESTINATION_PORT, address),
        nf.look_up_verdict(_NODE_PORTS, protocol),
    )
    batch.add_rule("translate", *_load_front(), nf.member(_UNSERVED, protocol), nf.decide(Verdict.RETURN))
    if layout.egress_port:
        batch.add_rule(
            "translate",
            *_leaves_cluster(layout),
            nf.load_protocol(protocol),
            nf.equals(protocol, bytes([nf.TCP])),
            nf.load_value(_ip(layout.gateway), address),
            nf.load_value(_port(layout.egress_port), port),
            nf.destination_nat(address, port),
        )
    for name, hook in (("prerouting", Hook.PREROUTING), ("output", Hook.OUTPUT)):
        batch.add_base_chain(name, "nat", hook, -100)
        batch.add_rule(name, nf.decide(Verdict.JUMP, "translate"))


def _is_a_node(layout: Layout, register: int) -> tuple[bytes, ...]:
    """Goes on only for the first address of any node's part of the pods' network."""
    pods = IPv4Network(layout.pod_cidr).netmask
    within_node = IPv4Network((0, NODE_PREFIX)).hostmask
    bits = (int(pods) | int(within_node)).to_bytes(4)
    return (
        nf.load(nf.DESTINATION_ADDRESS, register),
        nf.mask(register, bits),
        nf.equals(register, _ip(layout.gateway)),
    )


def _load_front() -> tuple[bytes, ...]:
    protocol, address, port, *_ = nf.REGISTERS
    return (
        nf.load_protocol(protocol),
        nf.load(nf.DESTINATION_ADDRESS, address),
        nf.load(nf.DESTINATION_PORT, port),
    )


def _leaves_cluster(layout: Layout) -> list[bytes]:
    """Goes on only for destinations that are neither pods nor services nor this node."""
    address = nf.REGISTERS[1]
    expressions: list[bytes] = []
    for cidr in (layout.pod_cidr, layout.service_cidr, "127.0.0.0/8"):
        network = IPv4Network(cidr)
        expressions += [
            nf.load(nf.DESTINATION_ADDRESS, address),
            nf.mask(address, network.netmask.packed),
            nf.differs(address, network.network_address.packed),
        ]
    return expressions


def _add_hairpin(batch: Batch) -> None:
    """A pod that is led to itself must see the node as the client, else it answers itself past the translation."""
    batch.add_base_chain("postrouting", "nat", Hook.POSTROUTING, 100)
    pair = nf.REGISTERS[0]
    batch.add_rule("postrouting", nf.load(nf.BOTH_ADDRESSES, pair), nf.member(_HAIRPINS, pair), nf.masquerade())


def _add_rejection(batch: Batch, layout: Layout) -> None:
    """What was not translated but goes to a service without backends, an unknown service address, or out of the
    cluster where there is no way out, is answered at once."""
    batch.add_chain("reject")
    protocol, address, *_ = nf.REGISTERS
    is_tcp = (nf.load_protocol(protocol), nf.equals(protocol, bytes([nf.TCP])))
    batch.add_rule("reject", *is_tcp, nf.reject_with_reset())
    batch.add_rule("reject", nf.reject_port_unreachable())

    batch.add_chain("unanswered")
    to_address = nf.load(nf.DESTINATION_ADDRESS, address)
    refuse = nf.decide(Verdict.GOTO, "reject")
    for ip in layout.local_ips:
        batch.add_rule("unanswered", to_address, nf.equals(address, _ip(ip)), nf.decide(Verdict.ACCEPT))
    batch.add_rule("unanswered", *_load_front(), nf.member(_UNSERVED, protocol), refuse)
    services = IPv4Network(layout.service_cidr)
    inside = (nf.mask(address, services.netmask.packed), nf.equals(address, services.network_address.packed))
    batch.add_rule("unanswered", to_address, *inside, refuse)
    batch.add_rule("unanswered", *_leaves_cluster(layout), refuse)
    for name, hook in (("filter-forward", Hook.FORWARD), ("filter-output", Hook.OUTPUT)):
        batch.add_base_chain(name, "filter", hook, 0)
        batch.add_rule(name, nf.decide(Verdict.JUMP, "unanswered"))


def _add_cut(batch: Batch, layout: Layout) -> None:
    """What comes from a node that is cut off vanishes, before the kernel tracks it; nobody is told.

    What is sent to it arrives and finds no answer. So a client's attempts to connect all go to the one backend that was
    drawn for it, as they do where the backend's machine is dead: a packet that is dropped on its way to the node would
    leave no trace, and the next attempt would draw anew. The machine's own address is no part of any node.
    """
    address = nf.REGISTERS[0]
    batch.add_base_chain("cut", "filter", Hook.PREROUTING, _BEFORE_TRACKING)
    batch.add_rule(
        "cut",
        nf.load(nf.SOURCE_ADDRESS, address),
        nf.differs(address, _ip(layout.gateway)),
        nf.mask(address, IPv4Network((0, NODE_PREFIX)).netmask.packed),
        nf.member(_CUT_OFF, address),
        nf.decide(Verdict.DROP),
    )


# Reading back


def _read(netfilter: Netfilter, chains: Sequence[str]) -> Tables | None:
    """The tables as the kernel holds them; `None` when they are not such as this module makes."""
    known = set(netfilter.sets(TABLE))
    if not {_SERVICES, _NODE_PORTS, _HAIRPINS, _UNSERVED, _HOST_PORTS} <= known:
        return None
    tables = Tables()
    for chain in filter(None, map(parse_chain, chains)):
        slots = _read_slots(netfilter, chain) if chain.name in known else None
        if slots is None:
            return None
        tables.slots[chain] = slots
    for element in (*netfilter.elements(TABLE, _SERVICES), *netfilter.elements(TABLE, _NODE_PORTS)):
        chain = parse_chain(element.chain)
        if chain is None or chain not in tables.slots:
            return None
        tables.fronts[_parse_front(element.key)] = chain
    tables.unserved = {_parse_front(element.key) for element in netfilter.elements(TABLE, _UNSERVED)}
    tables.host_ports = {
        _parse_front(element.key): _parse_backend(element.value) for element in netfilter.elements(TABLE, _HOST_PORTS)
    }
    tables.hairpins = {str(IPv4Address(element.key[:4])) for element in netfilter.elements(TABLE, _HAIRPINS)}
    return tables


def _read_slots(netfilter: Netfilter, chain: Chain) -> list[Backend] | None:
    found = {
        struct.unpack("=I", element.key)[0]: _parse_backend(element.value)
        for element in netfilter.elements(TABLE, chain.name)
    }
    if sorted(found) != list(range(chain.size)):
        return None
    return [found[i] for i in range(chain.size)]

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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import NamedTuple

from podling.network import netfilter as nf
from podling.network import skeleton
from podling.network.conntrack import Conntrack
from podling.network.layout import Layout
from podling.network.netfilter import Batch, Netfilter
from podling.network.slots import Backend, assign, changed, size_for
from podling.network.tables import (
    CUT_OFF,
    HAIRPINS,
    HOST_PORTS,
    TABLE,
    UNSERVED,
    Chain,
    Front,
    Tables,
    add_chain,
    add_host_ports,
    add_slots,
    backend_bytes,
    delete_chain,
    front_bytes,
    front_map,
    ip_bytes,
    read,
    slot_bytes,
)
from podling.sandbox.netlink import NetlinkError

_BATCH_BYTES = 100_000
"""A datagram must fit a socket buffer, which an unprivileged user cannot enlarge beyond about 200 KB."""

_KEEP_UNUSED = 2.0
"""Seconds for which a chain is kept after the last way to it was closed: a packet may still be in it."""


class ServiceKey(NamedTuple):
    """Names a service port."""

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
        fixed = skeleton.skeleton(self._layout)
        chains = self._netfilter.chains(TABLE)
        found = read(self._netfilter, chains) if chains else Tables()
        self._tables = found or Tables()
        self._ports = None
        if found is None or skeleton.name_of(fixed) not in chains:
            self._replace(fixed, exists=bool(chains))
        led_to = set(self._tables.fronts.values())
        self._unused = {chain: self._clock() for chain in self._tables.slots if chain not in led_to}

    def _replace(self, fixed: Batch, *, exists: bool) -> None:
        batch = Batch(TABLE)
        if exists:
            batch.delete_table()
        batch.extend(fixed)
        batch.add_chain(skeleton.name_of(fixed))
        kept = Wanted(self._tables.slots, self._tables.fronts, self._tables.unserved)
        for change in (*_prepare(Tables(), kept), *_switch(Tables(), kept, {*kept.fronts, *kept.unserved})):
            batch.extend(change)
        batch.add_elements(HAIRPINS, [(ip_bytes(ip) * 2, None) for ip in sorted(self._tables.hairpins)])
        add_host_ports(batch, self._tables.host_ports)
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
        values = {backend_bytes(backend) for backend in backends}
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
            delete_chain(batch, chain)
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
        batch.add_elements(HAIRPINS, [(ip_bytes(ip) * 2, None)])
        add_host_ports(batch, host_ports)
        self._netfilter.commit(batch)
        self._tables.hairpins.add(ip)
        self._tables.host_ports.update(host_ports)

    def detach(self, ip: str) -> None:
        """Forgets a pod's address."""
        batch = Batch(TABLE)
        batch.delete_elements(HAIRPINS, [ip_bytes(ip) * 2])
        self._commit_if_present(batch)
        self._tables.hairpins.discard(ip)
        self._withdraw_host_ports([front for front, to in self._tables.host_ports.items() if to.ip == ip])

    def _withdraw_host_ports(self, fronts: Sequence[Front]) -> None:
        batch = Batch(TABLE)
        batch.delete_elements(HOST_PORTS, [front_bytes(front) for front in fronts])
        self._commit_if_present(batch)
        left = {self._tables.host_ports.pop(front) for front in fronts if front.protocol == "UDP"}
        for front in fronts:
            self._tables.host_ports.pop(front, None)
        if left:
            self._conntrack.forget_udp(left)

    def cut_off(self, cidrs: Iterable[str]) -> None:
        """Cuts exactly these nodes off."""
        batch = Batch(TABLE)
        batch.delete_elements(CUT_OFF, [element.key for element in self._netfilter.elements(TABLE, CUT_OFF)])
        batch.add_elements(CUT_OFF, [(IPv4Network(cidr).network_address.packed, None) for cidr in cidrs])
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


# Differences


def _prepare(before: Tables, wanted: Wanted) -> Iterator[Batch]:
    """For each chain one change: made complete if it is new, else the slots that differ."""
    for chain, slots in wanted.slots.items():
        old = before.slots.get(chain)
        batch = Batch(TABLE)
        if old is None:
            add_chain(batch, chain, slots)
        else:
            numbers = changed(old, slots)
            batch.delete_elements(chain.name, [slot_bytes(i) for i in numbers])
            add_slots(batch, chain, numbers, slots)
        if batch:
            yield batch


def _switch(before: Tables, wanted: Wanted, scope: set[Front]) -> Iterator[Batch]:
    """For each address in `scope` one change of where it leads."""
    for front in sorted(scope):
        batch = Batch(TABLE)
        old, new = before.fronts.get(front), wanted.fronts.get(front)
        if old != new:
            if old is not None:
                batch.delete_elements(front_map(front), [front_bytes(front)])
            if new is not None:
                batch.add_elements(front_map(front), [(front_bytes(front), nf.goto(new.name))])
        if front in before.unserved and front not in wanted.unserved:
            batch.delete_elements(UNSERVED, [front_bytes(front)])
        if front in wanted.unserved and front not in before.unserved:
            batch.add_elements(UNSERVED, [(front_bytes(front), None)])
        if batch:
            yield batch

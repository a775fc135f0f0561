"""The fixed part of the service tables: where connections are led from, and what becomes of those that lead nowhere."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Network

from podling.network import netfilter as nf
from podling.network.layout import NODE_PREFIX, Layout
from podling.network.netfilter import Batch, Hook, Verdict
from podling.network.tables import (
    BACKEND,
    CLIENT,
    CUT_OFF,
    FRONT,
    HAIRPINS,
    HOST_PORTS,
    NODE_PORT,
    NODE_PORTS,
    PAIR,
    SERVICES,
    TABLE,
    TO_CHAIN,
    UNSERVED,
    ip_bytes,
    port_bytes,
)

_SKELETON = "skeleton-"
_BEFORE_TRACKING = -300
"""The priority of the kernel's own "raw" chains."""


def name_of(skeleton: Batch) -> str:
    """A chain of this name marks the table as made by exactly these requests."""
    digest = hashlib.sha256(repr(skeleton.requests).encode()).hexdigest()
    return _SKELETON + digest[:16]


def skeleton(layout: Layout) -> Batch:
    """Everything that does not depend on services."""
    batch = Batch(TABLE)
    batch.add_table()
    batch.add_set(SERVICES, FRONT, value=TO_CHAIN)
    batch.add_set(NODE_PORTS, NODE_PORT, value=TO_CHAIN)
    batch.add_set(HAIRPINS, PAIR)
    batch.add_set(UNSERVED, FRONT)
    batch.add_set(CUT_OFF, CLIENT)
    batch.add_set(HOST_PORTS, FRONT, value=BACKEND)
    _add_translation(batch, layout)
    _add_hairpin(batch)
    _add_rejection(batch, layout)
    _add_cut(batch, layout)
    return batch


def _add_translation(batch: Batch, layout: Layout) -> None:
    """Where connections begin: from pods (prerouting) and from the node itself (output)."""
    protocol, address, port, backend, backend_port, *_ = nf.REGISTERS
    batch.add_chain("translate")
    batch.add_rule("translate", *_load_front(), nf.look_up_verdict(SERVICES, protocol))
    go = nf.destination_nat(backend, backend_port)
    batch.add_rule("translate", *_load_front(), nf.look_up(HOST_PORTS, protocol, backend), go)
    batch.add_rule(
        "translate",
        *_is_a_node(layout, address),
        nf.load_protocol(protocol),
        nf.load(nf.DESTINATION_PORT, address),
        nf.look_up_verdict(NODE_PORTS, protocol),
    )
    batch.add_rule("translate", *_load_front(), nf.member(UNSERVED, protocol), nf.decide(Verdict.RETURN))
    if layout.egress_port:
        batch.add_rule(
            "translate",
            *_leaves_cluster(layout),
            nf.load_protocol(protocol),
            nf.equals(protocol, bytes([nf.TCP])),
            nf.load_value(ip_bytes(layout.gateway), address),
            nf.load_value(port_bytes(layout.egress_port), port),
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
        nf.equals(register, ip_bytes(layout.gateway)),
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
    batch.add_rule("postrouting", nf.load(nf.BOTH_ADDRESSES, pair), nf.member(HAIRPINS, pair), nf.masquerade())


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
        batch.add_rule("unanswered", to_address, nf.equals(address, ip_bytes(ip)), nf.decide(Verdict.ACCEPT))
    batch.add_rule("unanswered", *_load_front(), nf.member(UNSERVED, protocol), refuse)
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
        nf.differs(address, ip_bytes(layout.gateway)),
        nf.mask(address, IPv4Network((0, NODE_PREFIX)).netmask.packed),
        nf.member(CUT_OFF, address),
        nf.decide(Verdict.DROP),
    )

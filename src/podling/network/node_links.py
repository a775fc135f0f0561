"""The node's own side of the network: loopback, gateway, routes, and the kernel settings that services need.

The node has no outside: everything that pods send to it arrives on point-to-point links that the sandbox makes, and
what leaves goes through the host helper. So all of the node's own addresses are on `lo`, and so is its default route:
a packet that leaves the cluster must be routable to reach the rule that takes it to the way out.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

from podling.network.layout import Layout
from podling.sandbox.netlink import (
    EXISTING,
    LOOPBACK_INDEX,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_NEWROUTE,
    Netlink,
    Request,
    add_address,
    attribute,
    link_up,
    replace_route,
)

_FORWARD = "net/ipv4/ip_forward"

_COMFORTS = {
    # Each spliced connection takes a port of the gateway: they must be free again before the kernel's minute is over.
    "net/ipv4/tcp_tw_reuse": "1",
    # Each "no route to that pod" is to be told, not only one a second.
    "net/ipv4/icmp_ratelimit": "0",
    # Short connections would fill the table of tracked ones: two minutes at 2,000 a second are 240,000 entries.
    "net/netfilter/nf_conntrack_tcp_timeout_time_wait": "10",
}
"""Not every kernel lets a namespace have its own."""


def prepare_node(layout: Layout) -> None:
    """Sets up the network namespace of the calling thread. Harmless when it is set up already."""
    service_address, service_prefix = layout.service_cidr.split("/")
    addresses = [add_address(LOOPBACK_INDEX, ip) for ip in (layout.gateway, *layout.local_ips)]
    routes = [
        replace_route(service_address, int(service_prefix), LOOPBACK_INDEX, source=layout.gateway),
        replace_route("0.0.0.0", 0, LOOPBACK_INDEX, source=layout.gateway),
        _unreachable(layout.pod_cidr),
    ]
    with Netlink() as netlink:
        netlink.transact([link_up(LOOPBACK_INDEX), *addresses], ignore=EXISTING)
        netlink.transact(routes)
    _set(_FORWARD, "1")
    for name, value in _COMFORTS.items():
        with contextlib.suppress(OSError):
            _set(name, value)


def _unreachable(cidr: str) -> Request:
    """Who connects to a pod that is gone is told so at once; the route of a pod that lives is more specific."""
    address, prefix = cidr.split("/")
    table_main, protocol_static, scope_universe, type_unreachable = 254, 4, 0, 7
    header = struct.pack(
        "=BBBBBBBBI",
        socket.AF_INET, int(prefix), 0, 0, table_main, protocol_static, scope_universe, type_unreachable, 0,
    )  # fmt: skip
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header + attribute(1, socket.inet_aton(address)))


def _set(name: str, value: str) -> None:
    """Writes a kernel setting, unless it has the value already: a read-only /proc/sys may have been prepared."""
    path = Path("/proc/sys", name)
    if path.read_text().strip() != value:
        path.write_text(value)

"""Ends tracked UDP flows to backends that are gone.

UDP has no close: a client that keeps its socket would be led to the removed backend for as long as it goes on sending.
So the kernel's entry of the flow is deleted, and the client's next packet is led anew (kube-proxy does the same).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from podling.network.netfilter import NETLINK_NETFILTER, UDP
from podling.network.slots import Backend
from podling.sandbox.netlink import Netlink, Request, attribute, nested, parse_attributes

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_GENERIC = struct.pack(">BBH", socket.AF_INET, 0, 0)

_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_BY_SOURCE_ADDRESS, _BY_PROTOCOL, _BY_SOURCE_PORT = 1 << 0, 1 << 3, 1 << 4
_GONE = frozenset({errno.ENOENT})


class _Flow(NamedTuple):
    original: bytes
    """The tuple that names the flow, as the kernel wrote it."""
    destination: bytes
    """Where the client sent to."""
    backend: bytes
    """Who answers: address and port."""


class Conntrack(Netlink):
    """A netlink socket for the connection tracking of the network namespace in which it was made."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def forget_udp(self, backends: Iterable[Backend]) -> int:
        """Deletes the flows that were led to these backends by a service; returns how many there were."""
        flows = [flow for backend in backends for flow in self._translated(backend)]
        requests = [Request(_DELETE, 0, _GENERIC + nested(_ORIGINAL, flow.original)) for flow in flows]
        self.transact(requests, ignore=_GONE)
        return len(flows)

    def _translated(self, backend: Backend) -> list[_Flow]:
        """The kernel filters; older ones send every flow, so it is asked again here."""
        address, port = socket.inet_aton(backend.ip), struct.pack(">H", backend.port)
        tuple_attributes = (
            nested(1, attribute(1, address)),
            nested(2, attribute(1, bytes([UDP])), attribute(2, port)),
        )
        by_reply = struct.pack("=I", _BY_SOURCE_ADDRESS | _BY_PROTOCOL | _BY_SOURCE_PORT)
        body = (
            _GENERIC
            + nested(_REPLY, *tuple_attributes)
            + nested(_FILTER, attribute(1, struct.pack("=I", 0)), attribute(2, by_reply))
        )
        flows = [_parse(message.body) for message in self.dump(Request(_GET, 0, body))]
        return [flow for flow in flows if flow and flow.backend == address + port and flow.destination != address]


def _parse(body: bytes) -> _Flow | None:
    """The UDP flow in a message; `None` for other protocols."""
    attributes = dict(parse_attributes(body[len(_GENERIC) :]))
    original, reply = (dict(parse_attributes(attributes[kind])) for kind in (_ORIGINAL, _REPLY))
    ports = dict(parse_attributes(reply[2]))
    if ports[1] != bytes([UDP]):
        return None
    destination = dict(parse_attributes(original[1]))[2]
    source = dict(parse_attributes(reply[1]))[1]
    return _Flow(attributes[_ORIGINAL], destination, source + ports[2])

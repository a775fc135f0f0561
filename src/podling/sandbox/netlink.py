"""Netlink: requests to the kernel's network stack as bytes, and a socket that sends many of them in one go.

The encoder is ours because the zygote must stay small (a general library costs megabytes and tens of milliseconds of
import) and because a pod's whole network is then one batch of messages. Functions build a `Request`; nothing is sent
before `Netlink.transact`. The framing serves every netlink family; the requests below are those of rtnetlink(7).

Numbers are in the byte order of the host, as netlink wants it; addresses are in network order. IPv4 only.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

NETLINK_ROUTE = 0

NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

RTM_NEWLINK = 16
RTM_NEWADDR = 20
RTM_NEWROUTE, RTM_DELROUTE = 24, 25

EXISTING = frozenset({errno.EEXIST})
MISSING = frozenset({errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT})
"""Error numbers for `Netlink.transact(ignore=...)`: what is to be made is there, what is to go is not."""

LOOPBACK_INDEX = 1
"""The index of `lo`, in every network namespace."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")

_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_PROTOCOL_STATIC = 4
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 0, 253, 254
_SCOPE_NOWHERE = 255  # in a request to delete: any scope
_TYPE_ANY, _TYPE_UNICAST, _TYPE_LOCAL = 0, 1, 2


class Request(NamedTuple):
    """One message to the kernel, without its sequence number, which the socket adds."""

    type: int
    flags: int
    """Besides NLM_F_REQUEST."""
    body: bytes


class Message(NamedTuple):
    """One message from the kernel."""

    type: int
    flags: int
    sequence: int
    body: bytes


class NetlinkError(OSError):
    """The kernel refused a request. `errno` says why, `position` which of the batch it was."""

    def __init__(self, number: int, position: int) -> None:
        super().__init__(number, f"{os.strerror(number)} (netlink request {position})")
        self.position = position


def pad(data: bytes) -> bytes:
    """`data` filled with zeros to a multiple of four bytes, as every netlink element must be."""
    return data + bytes(-len(data) % 4)


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return pad(_ATTRIBUTE.pack(len(data) + _ATTRIBUTE.size, kind) + data)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds other attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def u32(value: int) -> bytes:
    """A 32-bit number in host order."""
    return struct.pack("=I", value)


def text(value: str) -> bytes:
    """A string as the kernel reads it: ended by a zero."""
    return value.encode() + b"\0"


def parse_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data` as (kind without flags, payload)."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & NLA_TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def parse_messages(data: bytes) -> Iterator[Message]:
    """The messages in one datagram from the kernel."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def encode(request: Request, sequence: int, flags: int = 0) -> bytes:
    """The bytes of a request, padded so that another may follow."""
    header = _HEADER.pack(
        len(request.body) + _HEADER.size, request.type, NLM_F_REQUEST | request.flags | flags, sequence, 0
    )
    return pad(header + request.body)


class Netlink:
    """A netlink socket. It belongs for ever to the network namespace in which it was made, wherever its owner goes."""

    def __init__(self, protocol: int = NETLINK_ROUTE, made: socket.socket | None = None) -> None:
        """`made`: a socket that somebody made in another network namespace, which is closed with this."""
        self._socket = made or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setblocking(True)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def transact(self, requests: Sequence[Request], *, ignore: frozenset[int] = frozenset()) -> None:
        """Send all requests in one datagram and wait for every acknowledgement.

        The kernel carries them out in order and does not undo the earlier ones when a later one fails. Raises
        `NetlinkError` for the first that failed with an error number that is not in `ignore`.
        """
        if not requests:
            return
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(b"".join(encode(r, first + i, NLM_F_ACK) for i, r in enumerate(requests)))
        failed: NetlinkError | None = None
        outstanding = len(requests)
        while outstanding:
            for message in parse_messages(self._socket.recv(1 << 17)):
                position = message.sequence - first
                if message.type != NLMSG_ERROR or position < 0:
                    continue
                outstanding -= 1
                number = -struct.unpack_from("=i", message.body)[0]
                if number and number not in ignore and failed is None:
                    failed = NetlinkError(number, position)
        if failed is not None:
            raise failed

    def dump(self, request: Request) -> Iterator[Message]:
        """Ask for a list; yields its messages. Read it to the end before the next request."""
        self._sequence += 1
        self._socket.send(encode(request, self._sequence, NLM_F_DUMP))
        while True:
            for message in parse_messages(self._socket.recv(1 << 17)):
                if message.sequence != self._sequence:
                    continue
                if message.type == NLMSG_DONE:
                    return
                if message.type == NLMSG_ERROR:
                    raise NetlinkError(-struct.unpack_from("=i", message.body)[0], 0)
                yield message


def link_up(link: int | str) -> Request:
    """Bring an interface up, by index or name."""
    if isinstance(link, int):
        return Request(RTM_NEWLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, link, _IFF_UP, _IFF_UP))
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP) + attribute(_IFLA_IFNAME, text(link))
    return Request(RTM_NEWLINK, 0, body)


def create_veth(name: str, peer: str, peer_namespace: int, *, index: int = 0, mtu: int = 1500) -> Request:
    """A pair of interfaces: `name` here, `peer` in the network namespace of that descriptor. Both are down.

    `index` chooses the number of the end that is here (0: the kernel does), so that later requests of the same batch
    can name it.
    """
    common = attribute(_IFLA_MTU, u32(mtu))
    other = (
        _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        + attribute(_IFLA_IFNAME, text(peer))
        + attribute(_IFLA_NET_NS_FD, u32(peer_namespace))
        + common
    )
    information = nested(
        _IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"veth"), nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, other))
    )
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attribute(_IFLA_IFNAME, text(name)) + common + information
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def add_address(index: int, address: str, prefix: int = 32) -> Request:
    """Give an interface an address. An existing one is `FileExistsError` (EEXIST)."""
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _address(index, address, prefix))


def replace_route(
    destination: str,
    prefix: int,
    index: int,
    *,
    gateway: str | None = None,
    source: str | None = None,
) -> Request:
    """Add or replace the route to a network through an interface; `source` is the address that our packets get."""
    scope = _SCOPE_UNIVERSE if gateway else _SCOPE_LINK
    body = _route(destination, prefix, index, _TABLE_MAIN, scope, _TYPE_UNICAST, gateway=gateway, source=source)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_route(destination: str, prefix: int, index: int) -> Request:
    """Remove a route, through whatever interface when `index` is 0; ESRCH when it is not there."""
    return Request(RTM_DELROUTE, 0, _route(destination, prefix, index, _TABLE_MAIN, _SCOPE_NOWHERE, _TYPE_ANY))


def _address(index: int, address: str, prefix: int) -> bytes:
    packed = socket.inet_aton(address)
    header = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, index)
    return header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def _route_header(prefix: int, table: int, scope: int, kind: int) -> bytes:
    return _ROUTE.pack(socket.AF_INET, prefix, 0, 0, table, _PROTOCOL_STATIC, scope, kind, 0)


def _route(
    destination: str,
    prefix: int,
    index: int,
    table: int,
    scope: int,
    kind: int,
    *,
    gateway: str | None = None,
    source: str | None = None,
) -> bytes:
    body = _route_header(prefix, table, scope, kind)
    if prefix:
        body += attribute(_RTA_DST, socket.inet_aton(destination))
    if index:
        body += attribute(_RTA_OIF, u32(index))
    if gateway:
        body += attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
    if source:
        body += attribute(_RTA_PREFSRC, socket.inet_aton(source))
    return body

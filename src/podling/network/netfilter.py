"""nf_tables by netlink: tables, chains, rules, sets and maps as bytes, and batches that take effect all at once.

Our own encoder, because what the data plane needs (many elements of many maps changed in *one* transaction, within a
fraction of a millisecond) is what the libraries do not offer. It knows the expressions that the data plane uses and no
more. Rules are tuples of expressions; values that are compared or looked up are in network order, as in the packet.
Names follow `linux/netfilter/nf_tables.h`. IPv4 tables only.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

from podling.sandbox.netlink import (
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLMSG_ERROR,
    Netlink,
    NetlinkError,
    Request,
    attribute,
    encode,
    nested,
    parse_attributes,
    parse_messages,
    text,
)

NETLINK_NETFILTER = 12

_FAMILY_IPV4 = 2
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_GENERIC = struct.Struct(">BBH")
_ELEMENTS_IN_MESSAGE = 500
"""Far below the 64 KiB that a nested attribute can hold."""

NEW_TABLE, DELETE_TABLE = _SUBSYSTEM | 0, _SUBSYSTEM | 2
NEW_CHAIN, GET_CHAIN, DELETE_CHAIN = _SUBSYSTEM | 3, _SUBSYSTEM | 4, _SUBSYSTEM | 5
NEW_RULE, DELETE_RULE = _SUBSYSTEM | 6, _SUBSYSTEM | 8
NEW_SET, GET_SET, DELETE_SET = _SUBSYSTEM | 9, _SUBSYSTEM | 10, _SUBSYSTEM | 11
NEW_ELEMENTS, GET_ELEMENTS, DELETE_ELEMENTS = _SUBSYSTEM | 12, _SUBSYSTEM | 13, _SUBSYSTEM | 14


class Hook(IntEnum):
    """Where a base chain is called (`enum nf_inet_hooks`)."""

    PREROUTING = 0
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


class Verdict(IntEnum):
    """What a rule decides."""

    DROP = 0
    ACCEPT = 1
    JUMP = -3
    GOTO = -4
    RETURN = -5


class SetFlag(IntFlag):
    """Properties of a set (`enum nft_set_flags`)."""

    NONE = 0
    MAP = 0x08
    TIMEOUT = 0x10
    EVAL = 0x20
    """Rules may add to it."""


class DataType(IntEnum):
    """How `nft list ruleset` shows a key or a value. The kernel only keeps it."""

    INTEGER = 4
    ADDRESS = 7
    PROTOCOL = 12
    PORT = 13


VERDICT_DATA = 0xFFFFFF00


def concatenated(*types: DataType) -> int:
    """The type of a key made of several fields, each filled to four bytes."""
    code = 0
    for part in types:
        code = code << 6 | part
    return code


class Kind(NamedTuple):
    """A set's key or value: its type for `nft` and its length in bytes."""

    type: int
    length: int


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _be64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">Q", value))


def _value(kind: int, data: bytes) -> bytes:
    """NFTA_DATA_VALUE in an attribute of `kind`."""
    return nested(kind, attribute(1, data))


# Expressions

REGISTERS = tuple(range(8, 24))
"""The sixteen 32-bit registers; a longer value continues in those that follow."""

_VERDICT_REGISTER = 0


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, text(name)), nested(2, *attributes))


class Field(NamedTuple):
    """A part of the packet: header base, offset and length in bytes."""

    base: int
    offset: int
    length: int


SOURCE_ADDRESS = Field(1, 12, 4)
DESTINATION_ADDRESS = Field(1, 16, 4)
BOTH_ADDRESSES = Field(1, 12, 8)
DESTINATION_PORT = Field(2, 2, 2)

TCP, UDP, SCTP = 6, 17, 132


def load(field: Field, register: int) -> bytes:
    """Puts a field of the packet into a register."""
    return _expression(
        "payload", _be32(1, register), _be32(2, field.base), _be32(3, field.offset), _be32(4, field.length)
    )


def load_protocol(register: int) -> bytes:
    """Puts the transport protocol's number (one byte) into a register."""
    meta_l4proto = 16
    return _expression("meta", _be32(1, register), _be32(2, meta_l4proto))


def load_value(data: bytes, register: int) -> bytes:
    """Puts a constant into a register."""
    return _expression("immediate", _be32(1, register), _value(2, data))


def equals(register: int, data: bytes) -> bytes:
    """Goes on only if the register holds `data`."""
    return _expression("cmp", _be32(1, register), _be32(2, 0), _value(3, data))


def differs(register: int, data: bytes) -> bytes:
    """Goes on only if the register does not hold `data`."""
    return _expression("cmp", _be32(1, register), _be32(2, 1), _value(3, data))


def mask(register: int, bits: bytes) -> bytes:
    """Keeps only `bits` of a register."""
    length = len(bits)
    return _expression(
        "bitwise", _be32(1, register), _be32(2, register), _be32(3, length), _value(4, bits), _value(5, bytes(length))
    )


def member(set_name: str, register: int, *, negate: bool = False) -> bytes:
    """Goes on only if the register's value is (not) in the set."""
    flags = (_be32(5, 1),) if negate else ()
    return _expression("lookup", attribute(1, text(set_name)), _be32(2, register), *flags)


def look_up(map_name: str, key: int, into: int) -> bytes:
    """Puts the map's value for the key register into a register; ends the rule if there is none."""
    return _expression("lookup", attribute(1, text(map_name)), _be32(2, key), _be32(3, into))


def look_up_verdict(map_name: str, key: int) -> bytes:
    """Follows the map's verdict for the key register; ends the rule if there is none."""
    return look_up(map_name, key, _VERDICT_REGISTER)


def random_number(below: int, register: int) -> bytes:
    """Draws a number from 0 to `below` - 1."""
    return _expression("numgen", _be32(1, register), _be32(2, below), _be32(3, 1))


def hashed(register: int, length: int, below: int, into: int, seed: int) -> bytes:
    """Puts a hash (jhash) of the register's `length` bytes, modulo `below`, into a register."""
    return _expression(
        "hash", _be32(1, register), _be32(2, into), _be32(3, length), _be32(4, below), _be32(5, seed), _be32(7, 0)
    )


def destination_nat(address: int, port: int) -> bytes:
    """Sends the connection to the address and port in these registers."""
    return _expression("nat", _be32(1, 1), _be32(2, _FAMILY_IPV4), _be32(3, address), _be32(5, port))


def masquerade() -> bytes:
    """Gives the connection the outgoing interface's address as its source."""
    return _expression("masq")


def remember(map_name: str, key: int, value: int, timeout: float) -> bytes:
    """Writes key -> value into a map with timeouts, or renews it, for `timeout` seconds.

    Ends the rule when the map is full.
    """
    update = 1
    milliseconds = int(timeout * 1000)
    return _expression(
        "dynset", attribute(1, text(map_name)), _be32(3, update), _be32(4, key), _be32(5, value), _be64(6, milliseconds)
    )


def reject_with_reset() -> bytes:
    """Answers a TCP segment by a reset."""
    return _expression("reject", _be32(1, 1))


def reject_port_unreachable() -> bytes:
    """Answers by ICMP port unreachable."""
    return _expression("reject", _be32(1, 0), attribute(2, b"\3"))


def _verdict(code: Verdict, chain: str = "") -> bytes:
    target = (attribute(2, text(chain)),) if chain else ()
    return nested(2, _be32(1, code), *target)


def decide(code: Verdict, chain: str = "") -> bytes:
    """An unconditional verdict; JUMP and GOTO name a chain."""
    return _expression("immediate", _be32(1, _VERDICT_REGISTER), nested(2, _verdict(code, chain)))


# Elements


class Element(NamedTuple):
    """A set's element as it was read: `value` is a map's value, `chain` the target of a verdict."""

    key: bytes
    value: bytes = b""
    chain: str = ""


def goto(chain: str) -> bytes:
    """A verdict as the value of a map's element, for `Batch.add_elements`."""
    return _verdict(Verdict.GOTO, chain)


def data(value: bytes) -> bytes:
    """Plain data as the value of a map's element."""
    return attribute(1, value)


class Batch:
    """Changes to one table, in order. The kernel makes all of them at one instant, or none.

    Within a batch an element may be deleted and added again under the same key: a lookup finds one of the two.
    """

    def __init__(self, table: str) -> None:
        self._table = attribute(1, text(table))
        self._set_id = 0
        self.requests: list[Request] = []

    def __bool__(self) -> bool:
        return bool(self.requests)

    @property
    def size(self) -> int:
        """Bytes on the wire, about."""
        return sum(len(request.body) + 16 for request in self.requests)

    def extend(self, other: Batch) -> None:
        """Appends the changes of another batch of the same table."""
        self.requests += other.requests

    def _add(self, kind: int, flags: int, body: bytes) -> None:
        self.requests.append(Request(kind, flags, _GENERIC.pack(_FAMILY_IPV4, 0, 0) + body))

    def add_table(self) -> None:
        self._add(NEW_TABLE, NLM_F_CREATE, self._table)

    def delete_table(self) -> None:
        self._add(DELETE_TABLE, 0, self._table)

    def add_chain(self, name: str) -> None:
        self._add(NEW_CHAIN, NLM_F_CREATE, self._table + attribute(3, text(name)))

    def add_base_chain(self, name: str, kind: str, hook: Hook, priority: int) -> None:
        """A chain of kind `nat` or `filter` that the kernel itself calls."""
        body = self._table + attribute(3, text(name)) + nested(4, _be32(1, hook), _be32(2, priority))
        self._add(NEW_CHAIN, NLM_F_CREATE, body + attribute(7, text(kind)))

    def delete_chain(self, name: str) -> None:
        """Deletes a chain with its rules; nothing may lead to it any more."""
        self._add(DELETE_RULE, 0, self._table + attribute(2, text(name)))
        self._add(DELETE_CHAIN, 0, self._table + attribute(3, text(name)))

    def add_rule(self, chain: str, *expressions: bytes) -> None:
        self._add(
            NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, self._table + attribute(2, text(chain)) + nested(4, *expressions)
        )

    def add_set(
        self,
        name: str,
        key: Kind,
        *,
        flags: SetFlag = SetFlag.NONE,
        value: Kind | None = None,
        capacity: int = 0,
    ) -> None:
        """A set, or with `value` a map (`Kind(VERDICT_DATA, 0)` for verdicts). `capacity` 0: no limit."""
        self._set_id += 1
        flags |= SetFlag.MAP if value else SetFlag.NONE
        body = self._table + attribute(2, text(name)) + _be32(3, flags) + _be32(4, key.type) + _be32(5, key.length)
        if value:
            body += _be32(6, value.type) + (_be32(7, value.length) if value.length else b"")
        if capacity:
            body += nested(9, _be32(1, capacity))
        self._add(NEW_SET, NLM_F_CREATE, body + _be32(10, self._set_id))

    def delete_set(self, name: str) -> None:
        self._add(DELETE_SET, 0, self._table + attribute(2, text(name)))

    def add_elements(self, set_name: str, elements: Iterable[tuple[bytes, bytes | None]]) -> None:
        """(key, value) pairs, values made by `goto` or `data`; `None` for plain sets. One that is there already with
        the same value is no error."""
        encoded = [
            nested(1, _value(1, key), *(() if value is None else (attribute(2 | NLA_F_NESTED, value),)))
            for key, value in elements
        ]
        self._elements(NEW_ELEMENTS, NLM_F_CREATE, set_name, encoded)

    def delete_elements(self, set_name: str, keys: Iterable[bytes]) -> None:
        self._elements(DELETE_ELEMENTS, 0, set_name, [nested(1, _value(1, key)) for key in keys])

    def _elements(self, kind: int, flags: int, set_name: str, encoded: Sequence[bytes]) -> None:
        head = self._table + attribute(2, text(set_name))
        for start in range(0, len(encoded), _ELEMENTS_IN_MESSAGE):
            self._add(kind, flags, head + nested(3, *encoded[start : start + _ELEMENTS_IN_MESSAGE]))


class Netfilter(Netlink):
    """A netlink socket for nf_tables in the network namespace in which it was made."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)
        self._socket.settimeout(10.0)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 1 << 20)

    def commit(self, batch: Batch) -> None:
        """Makes the batch's changes. Raises `NetlinkError` for the first refused one; then none was made."""
        if not batch:
            return
        self._socket.send(self._framed(batch.requests))
        self._await_outcome(len(batch.requests))

    def _framed(self, requests: Sequence[Request]) -> bytes:
        """Begin, changes, end. Only the last change asks to be acknowledged: the kernel answers after the commit."""
        subsystem = _GENERIC.pack(0, 0, _SUBSYSTEM >> 8)
        begin = self._sequence + 1
        last = begin + len(requests)
        self._sequence = last + 1
        messages = [encode(Request(_BATCH_BEGIN, 0, subsystem), begin)]
        for sequence, request in enumerate(requests, begin + 1):
            messages.append(encode(request, sequence, NLM_F_ACK if sequence == last else 0))
        messages.append(encode(Request(_BATCH_END, 0, subsystem), last + 1))
        return b"".join(messages)

    def _await_outcome(self, count: int) -> None:
        """Errors come before the acknowledgement of the last change; a failed commit is told of the first message."""
        begin = self._sequence - 1 - count
        failed: NetlinkError | None = None
        while True:
            for message in parse_messages(self._socket.recv(1 << 17)):
                position = message.sequence - begin - 1
                if message.type != NLMSG_ERROR or not -1 <= position <= count:
                    continue
                number = -struct.unpack_from("=i", message.body)[0]
                if number and failed is None:
                    failed = NetlinkError(number, position)
                if position in (-1, count - 1):
                    if failed is not None:
                        raise failed
                    return

    def chains(self, table: str) -> list[str]:
        """The names of the table's chains; [] when there is no such table."""
        return [name for name, _ in self._named(GET_CHAIN, 3, table)]

    def sets(self, table: str) -> list[str]:
        """The names of the table's sets and maps."""
        return [name for name, _ in self._named(GET_SET, 2, table)]

    def _named(self, kind: int, name_attribute: int, table: str) -> Iterator[tuple[str, dict[int, bytes]]]:
        request = Request(kind, 0, _GENERIC.pack(_FAMILY_IPV4, 0, 0))
        for message in list(self.dump(request)):
            attributes = dict(parse_attributes(message.body[_GENERIC.size :]))
            if _text(attributes[1]) == table:
                yield _text(attributes[name_attribute]), attributes

    def elements(self, table: str, set_name: str) -> list[Element]:
        """The elements of a set or map."""
        body = _GENERIC.pack(_FAMILY_IPV4, 0, 0) + attribute(1, text(table)) + attribute(2, text(set_name))
        found: list[Element] = []
        for message in self.dump(Request(GET_ELEMENTS, 0, body)):
            attributes = dict(parse_attributes(message.body[_GENERIC.size :]))
            found += [_parse_element(payload) for _, payload in parse_attributes(attributes.get(3, b""))]
        return found


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode()


def _parse_element(payload: bytes) -> Element:
    attributes = dict(parse_attributes(payload))
    key = dict(parse_attributes(attributes[1]))[1]
    content = dict(parse_attributes(attributes.get(2, b"")))
    if 2 in content:
        verdict = dict(parse_attributes(content[2]))
        return Element(key, chain=_text(verdict.get(2, b"")))
    return Element(key, content.get(1, b""))

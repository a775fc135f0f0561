"""Cluster DNS: what names mean, and the messages that ask and answer. Pure; sockets are in `dns_server`.

The names are those of the Kubernetes DNS specification 1.1.0; where it is silent, of CoreDNS. Two rules exist because
programs wait otherwise: a reverse lookup is answered at once, also for unknown addresses (servers ask for their name
when they start), and a name that exists without an address of the family asked for is "no data", not "no such name".
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple, NotRequired, TypedDict

TTL = 5
"""Seconds. Short, since an answer may name pods."""

SPECIFICATION = "1.1.0"


class Type(IntEnum):
    """The record types that have a meaning here."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class Code(IntEnum):
    """Response codes."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


# Messages

_HEADER = struct.Struct(">HHHHHH")
_QUESTION = struct.Struct(">HH")
_RECORD = struct.Struct(">HHIH")

_RESPONSE, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x0400, 0x0200
_RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x0100, 0x0080
_OPCODE = 0x7800
_INTERNET = 1

_SMALLEST_DATAGRAM = 512
_LARGEST_DATAGRAM = 1232
"""Never fragmented on any link (DNS flag day 2020)."""


class Query(NamedTuple):
    """One question. `name` is in lower case, without the last dot."""

    id: int
    flags: int
    name: str
    type: int
    question: bytes
    """As it came, to be given back: some clients compare the case of letters."""
    datagram: int
    """Bytes that a UDP answer may have."""
    extended: bool
    """Whether the client speaks EDNS."""


class BadQuery(Exception):
    """Not a question that can be answered; `reply` says so, `None`: better silence."""

    def __init__(self, reply: bytes | None) -> None:
        super().__init__("not a DNS query")
        self.reply = reply


class Record(NamedTuple):
    """One resource record with its data as on the wire."""

    name: str
    type: Type
    data: bytes
    ttl: int = TTL


@dataclass(frozen=True, slots=True)
class Answer:
    """The records of a response."""

    code: Code = Code.NOERROR
    records: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    authoritative: bool = True


def encode_name(name: str) -> bytes:
    """A name as labels. Raises `ValueError` when a label or the name is too long."""
    encoded = b""
    for label in filter(None, name.split(".")):
        raw = label.encode("ascii", "surrogateescape")
        if len(raw) > 63:
            raise ValueError(f"label too long: {label}")
        encoded += bytes([len(raw)]) + raw
    if len(encoded) > 254:
        raise ValueError(f"name too long: {name}")
    return encoded + b"\0"


def parse_query(data: bytes) -> Query:
    """Reads a request. Raises `BadQuery`."""
    if len(data) < _HEADER.size:
        raise BadQuery(None)
    number, flags, questions, _, _, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        raise BadQuery(None)
    if flags & _OPCODE:
        raise BadQuery(_refusal(number, flags, Code.NOTIMP))
    try:
        if questions != 1:
            raise ValueError("one question is expected")
        name, end = _read_name(data, _HEADER.size)
        kind, _ = _QUESTION.unpack_from(data, end)
    except (ValueError, IndexError, struct.error):
        raise BadQuery(_refusal(number, flags, Code.FORMERR)) from None
    end += _QUESTION.size
    room = _edns_size(data, end) if additional else None
    datagram = min(max(room or 0, _SMALLEST_DATAGRAM), _LARGEST_DATAGRAM)
    return Query(number, flags, name.lower(), kind, data[_HEADER.size : end], datagram, room is not None)


def _refusal(number: int, flags: int, code: Code) -> bytes:
    return _HEADER.pack(number, _RESPONSE | flags & (_OPCODE | _RECURSION_DESIRED) | code, 0, 0, 0, 0)


def _read_name(data: bytes, offset: int) -> tuple[str, int]:
    """A name without pointers (a question comes first, so it has nothing to point to), and the offset behind it."""
    labels: list[str] = []
    while length := data[offset]:
        if length > 63 or offset + length >= len(data):
            raise ValueError("bad label")
        labels.append(data[offset + 1 : offset + 1 + length].decode("ascii", "surrogateescape"))
        offset += 1 + length
    return ".".join(labels), offset + 1


def _edns_size(data: bytes, offset: int) -> int | None:
    """The datagram size that an OPT record right behind the question allows."""
    try:
        if data[offset] != 0:
            return None
        kind, size, _, _ = _RECORD.unpack_from(data, offset + 1)
    except (IndexError, struct.error):
        return None
    return size if kind == Type.OPT else None


def encode_response(query: Query, answer: Answer, *, datagram: bool) -> bytes:
    """The response; over UDP cut to what the client takes. Additional records go first; if answers have to go, the
    response says so, and the client asks again over TCP."""
    records = _rotated(answer.records, query.id)
    whole = _encode(query, answer, records, answer.additional, truncated=False)
    if not datagram or len(whole) <= query.datagram:
        return whole
    bare = _encode(query, answer, records, (), truncated=False)
    while len(bare) > query.datagram and records:
        records = records[: len(records) * query.datagram // len(bare)]
        bare = _encode(query, answer, records, (), truncated=True)
    return bare


def _rotated(records: Sequence[Record], by: int) -> list[Record]:
    """Addresses in another order each time, behind the aliases that lead to them, so that clients spread."""
    first = next((i for i, record in enumerate(records) if record.type in (Type.A, Type.AAAA)), len(records))
    head, tail = list(records[:first]), list(records[first:])
    turn = by % len(tail) if tail else 0
    return head + tail[turn:] + tail[:turn]


def _encode(
    query: Query, answer: Answer, records: Sequence[Record], additional: Sequence[Record], *, truncated: bool
) -> bytes:
    flags = _RESPONSE | _RECURSION_AVAILABLE | query.flags & _RECURSION_DESIRED | answer.code
    flags |= _AUTHORITATIVE if answer.authoritative else 0
    flags |= _TRUNCATED if truncated else 0
    extra = len(additional) + query.extended
    header = _HEADER.pack(query.id, flags, 1, len(records), len(answer.authority), extra)
    body = b"".join(_encode_record(query, record) for record in (*records, *answer.authority, *additional))
    options = b"\0" + _RECORD.pack(Type.OPT, _LARGEST_DATAGRAM, 0, 0) if query.extended else b""
    return header + query.question + body + options


def _encode_record(query: Query, record: Record) -> bytes:
    at_question = b"\xc0\x0c"
    owner = at_question if record.name == query.name else encode_name(record.name)
    return owner + _RECORD.pack(record.type, _INTERNET, record.ttl, len(record.data)) + record.data


def address_record(name: str, ip: str, ttl: int = TTL) -> Record:
    """An A or AAAA record."""
    if ":" in ip:
        return Record(name, Type.AAAA, socket.inet_pton(socket.AF_INET6, ip), ttl)
    return Record(name, Type.A, socket.inet_aton(ip), ttl)


def alias_record(name: str, target: str) -> Record:
    return Record(name, Type.CNAME, encode_name(target))


# Names


class PortNames(TypedDict):
    """A port as SRV records tell of it."""

    name: str
    protocol: str
    port: int


class EndpointGroup(TypedDict):
    """Endpoints that have the same ports: an EndpointSlice's part of a service."""

    endpoints: list[tuple[str, str]]
    """(IP, hostname or "")."""
    ports: list[PortNames]


class ServiceNames(TypedDict):
    """What DNS knows of one Service. JSON-ready: the daemon sends it to the proxy."""

    ips: list[str]
    """Cluster IPs; empty: headless (or an external name)."""
    external_name: NotRequired[str]
    ports: list[PortNames]
    groups: list[EndpointGroup]


def endpoint_label(ip: str, hostname: str) -> str:
    """The name of an endpoint below its service."""
    return hostname or ip.replace(".", "-").replace(":", "-")


@dataclass(slots=True)
class Elsewhere:
    """The answer is not ours to give: ask the host for `name`, and put `records` (aliases that led there) first."""

    name: str
    records: list[Record] = field(default_factory=list[Record])


_ALIASES_AT_MOST = 8


class ClusterNames:
    """The names of one cluster. `replace` and `update` change what it knows, `resolve` answers."""

    def __init__(self, domain: str, dns_ip: str) -> None:
        self._domain = domain.lower()
        self._dns_ip = dns_ip
        self._services: dict[tuple[str, str], ServiceNames] = {}
        self._namespaces: set[str] = set()
        self._reverse: dict[str, dict[str, None]] = {}

    def replace(self, services: Mapping[str, ServiceNames], namespaces: Iterable[str]) -> None:
        """Forgets everything and takes these; services are named `namespace/name`."""
        self._services.clear()
        self._reverse.clear()
        self.update(services, (), namespaces)

    def update(
        self, services: Mapping[str, ServiceNames], gone: Iterable[str] = (), namespaces: Iterable[str] | None = None
    ) -> None:
        """Takes new versions of some services, forgets those that are gone; `None`: the namespaces are the same."""
        if namespaces is not None:
            self._namespaces = set(namespaces)
        for key in (*gone, *services):
            namespace, _, name = key.partition("/")
            old = self._services.pop((namespace, name), None)
            if old is not None:
                self._index(namespace, name, old, present=False)
        for key, service in services.items():
            namespace, _, name = key.partition("/")
            self._services[namespace, name] = service
            self._index(namespace, name, service, present=True)

    def _index(self, namespace: str, name: str, service: ServiceNames, *, present: bool) -> None:
        for ip, target in self._reverse_names(namespace, name, service):
            names = self._reverse.setdefault(ip, {})
            if present:
                names[target] = None
            else:
                names.pop(target, None)
                if not names:
                    del self._reverse[ip]

    def _reverse_names(self, namespace: str, name: str, service: ServiceNames) -> Iterator[tuple[str, str]]:
        """A service's own address leads back to it; an endpoint's only where it has a name of its own."""
        full = self._service_name(namespace, name)
        for ip in service["ips"]:
            yield ip, full
        for group in service["groups"]:
            for ip, hostname in group["endpoints"]:
                if hostname or not service["ips"]:
                    yield ip, f"{endpoint_label(ip, hostname)}.{full}"

    def _service_name(self, namespace: str, name: str) -> str:
        return f"{name}.{namespace}.svc.{self._domain}"

    def resolve(self, name: str, kind: int) -> Answer | Elsewhere:
        """The answer to a question (name in lower case)."""
        aliases: list[Record] = []
        for _ in range(_ALIASES_AT_MOST):
            answer = self._resolve(name, kind)
            if not isinstance(answer, str):
                break
            aliases.append(alias_record(name, answer))
            if kind == Type.CNAME:
                return Answer(records=aliases)
            name = answer
        else:
            return Answer(Code.SERVFAIL)
        if isinstance(answer, Elsewhere):
            return Elsewhere(answer.name, aliases)
        return Answer(answer.code, [*aliases, *answer.records], answer.authority, answer.additional)

    def _resolve(self, name: str, kind: int) -> Answer | Elsewhere | str:
        """An answer, or the name that `name` is an alias of."""
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._resolve_reverse(name, kind)
        if name == self._domain:
            return self._resolve_apex(name, kind)
        if not name.endswith("." + self._domain):
            return Elsewhere(name)
        labels = name.removesuffix("." + self._domain).split(".")
        match labels:
            case [*path, namespace, "svc"]:
                return self._resolve_service(name, kind, path, namespace)
            case ["svc" | "pod"]:
                return self._nothing_of_that_type()
            case [*path, namespace, "pod"]:
                return self._resolve_pod(name, kind, path, namespace)
            case ["dns-version"]:
                text = SPECIFICATION.encode()
                return self._select(kind, [Record(name, Type.TXT, bytes([len(text)]) + text)])
            case ["ns", "dns"]:
                return self._select(kind, [address_record(name, self._dns_ip)])
            case _:
                return self._no_such_name()

    def _resolve_apex(self, name: str, kind: int) -> Answer:
        return self._select(kind, [self._authority(), Record(name, Type.NS, encode_name(f"ns.dns.{self._domain}"))])

    def _resolve_reverse(self, name: str, kind: int) -> Answer:
        ip = ".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))
        targets = self._reverse.get(ip)
        if not targets:
            return self._no_such_name()
        return self._select(kind, [Record(name, Type.PTR, encode_name(target)) for target in targets])

    def _resolve_pod(self, name: str, kind: int, path: Sequence[str], namespace: str) -> Answer:
        """`1-2-3-4.namespace.pod`: the address is in the name; it is not looked up (CoreDNS: `pods insecure`)."""
        if namespace not in self._namespaces:
            return self._no_such_name()
        if not path:
            return self._nothing_of_that_type()
        try:
            ip = IPv4Address(path[0].replace("-", "."))
        except AddressValueError:
            return self._no_such_name()
        return self._select(kind, [address_record(name, str(ip))]) if len(path) == 1 else self._no_such_name()

    def _resolve_service(self, name: str, kind: int, path: Sequence[str], namespace: str) -> Answer | str:
        """`path` is what stands before the namespace."""
        if not path:
            return self._nothing_of_that_type() if namespace in self._namespaces else self._no_such_name()
        service = self._services.get((namespace, path[-1]))
        if service is None:
            return self._no_such_name()
        external = service.get("external_name")
        if external:
            return external.rstrip(".").lower() if len(path) == 1 else self._no_such_name()
        base = self._service_name(namespace, path[-1])
        match path[:-1]:
            case []:
                return self._addresses(name, kind, base, service, _EVERY_PORT)
            case [label]:
                ips = [ip for ip, hostname in _endpoints(service) if endpoint_label(ip, hostname) == label]
                return self._select(kind, [address_record(name, ip) for ip in ips]) if ips else self._no_such_name()
            case [port, protocol] if port.startswith("_") and protocol.startswith("_"):
                return self._addresses(name, kind, base, service, _PortFilter(port[1:], protocol[1:]))
            case _:
                return self._no_such_name()

    def _addresses(self, name: str, kind: int, base: str, service: ServiceNames, wanted: _PortFilter) -> Answer:
        """The addresses of a service, or where its ports are to be found (SRV)."""
        targets = list(_targets(base, service, wanted))
        ips = service["ips"] or [ip for ip, _ in _endpoints(service)]
        if not ips or (wanted is not _EVERY_PORT and not targets):
            return self._no_such_name()
        if kind != Type.SRV:
            return self._select(kind, [address_record(name, ip) for ip in dict.fromkeys(ips)])
        records = [
            Record(name, Type.SRV, struct.pack(">HHH", 0, 100 // len(targets) or 1, port) + encode_name(target))
            for target, _, port in targets
        ]
        additional = dict.fromkeys(address_record(target, ip) for target, ip, _ in targets)
        return self._select(kind, records, list(additional))

    def _select(self, kind: int, records: Sequence[Record], additional: Sequence[Record] = ()) -> Answer:
        found = [record for record in records if kind in (record.type, Type.ANY)]
        return Answer(records=found, additional=additional) if found else self._nothing_of_that_type()

    def _nothing_of_that_type(self) -> Answer:
        return Answer(authority=[self._authority()])

    def _no_such_name(self) -> Answer:
        return Answer(Code.NXDOMAIN, authority=[self._authority()])

    def _authority(self) -> Record:
        """SOA: its last field is how long a client may remember that something does not exist."""
        names = encode_name(f"ns.dns.{self._domain}") + encode_name(f"hostmaster.{self._domain}")
        return Record(self._domain, Type.SOA, names + struct.pack(">IIIII", 1, 7200, 1800, 86400, TTL))


class _PortFilter(NamedTuple):
    """Which ports an SRV question is about; "" is every one."""

    name: str
    protocol: str

    def __call__(self, port: PortNames) -> bool:
        return self.name in ("", port["name"].lower()) and self.protocol in ("", port["protocol"].lower())


_EVERY_PORT = _PortFilter("", "")


def _endpoints(service: ServiceNames) -> Iterator[tuple[str, str]]:
    for group in service["groups"]:
        yield from group["endpoints"]


def _targets(base: str, service: ServiceNames, wanted: _PortFilter) -> Iterator[tuple[str, str, int]]:
    """(target name, its IP, port) for each port: the service itself, or each endpoint of a headless one."""
    for ip in service["ips"]:
        yield from ((base, ip, port["port"]) for port in service["ports"] if wanted(port))
    if service["ips"]:
        return
    for group in service["groups"]:
        for ip, hostname in group["endpoints"]:
            label = endpoint_label(ip, hostname)
            yield from ((f"{label}.{base}", ip, port["port"]) for port in group["ports"] if wanted(port))
